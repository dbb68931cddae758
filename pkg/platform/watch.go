package platform

import (
	"context"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// chain follows the published versions: each is one more than the last, and of
// several with the same number the first counts.
type chain struct {
	logger *slog.Logger
	// until, where set, is the last version that is of interest.
	until  uint64
	latest *rkcyv1.PlatformVersion
}

// add returns true if the record is the next version.
func (c *chain) add(r stream.Record) bool {
	v := &rkcyv1.PlatformVersion{}
	if err := proto.Unmarshal(r.Value, v); err != nil {
		c.logger.Warn("a record on the platform topic is not a version", "topic", r.Topic, "offset", r.Offset, "error", err)
		return false
	}
	if c.until > 0 && c.latest.GetVersion() == c.until {
		return false
	}
	if v.GetVersion() != c.latest.GetVersion()+1 {
		c.logger.Debug("a version lost against another", "topic", r.Topic, "offset", r.Offset, "version", v.GetVersion())
		return false
	}
	c.latest = v
	return true
}

// Current returns the published version. An Error with CodeNotFound says that
// the platform was not set up, one with CodeUnavailable that the brokers are
// away (bounded by ctx).
func Current(ctx context.Context, log stream.Config, names Names) (*rkcyv1.PlatformVersion, error) {
	admin, err := stream.NewAdmin(log)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	topics, err := admin.Topics(ctx)
	if err != nil {
		return nil, away(err)
	}
	var v *rkcyv1.PlatformVersion
	if _, exists := topics[names.PlatformTopic()]; exists {
		if v, err = latest(ctx, log, names); err != nil {
			return nil, err
		}
	}
	if v == nil {
		return nil, txn.Errorf(txn.CodeNotFound, "platform %s has no configuration in environment %s; publish one with the command \"platform update\"",
			names.platform, names.environment)
	}
	return v, nil
}

// latest reads the published version from a topic that exists; nil if there is
// none.
func latest(ctx context.Context, log stream.Config, names Names) (*rkcyv1.PlatformVersion, error) {
	return read(ctx, log, names, 0)
}

// read returns a version, or the latest one for 0.
func read(ctx context.Context, log stream.Config, names Names, version uint64) (*rkcyv1.PlatformVersion, error) {
	c, _, err := readChain(ctx, log, names, version, nil)
	if err != nil {
		return nil, err
	}
	return c.latest, nil
}

func readChain(ctx context.Context, log stream.Config, names Names, until uint64, then func(*stream.Reader, *chain, int64) error) (*chain, int64, error) {
	log = log.WithDefaults()
	reader, err := stream.NewReader(log)
	if err != nil {
		return nil, 0, err
	}
	defer reader.Close()
	c := &chain{logger: log.Logger, until: until}
	next, err := reader.ReadTo(ctx, stream.TopicPartition{Topic: names.PlatformTopic()}, stream.OffsetBeginning,
		func(r stream.Record) error { c.add(r); return nil })
	if err != nil {
		return nil, 0, away(err)
	}
	if then != nil {
		err = then(reader, c, next)
	}
	return c, next, err
}

// Watch calls fn with the published version, if there is one, and with every
// later one, until ctx ends; then it returns nil. fn is called on the caller's
// goroutine.
func Watch(ctx context.Context, log stream.Config, names Names, fn func(*rkcyv1.PlatformVersion)) error {
	_, _, err := readChain(ctx, log, names, 0, func(r *stream.Reader, c *chain, next int64) error {
		if c.latest != nil {
			fn(c.latest)
		}
		return r.Follow(ctx, stream.TopicPartition{Topic: names.PlatformTopic()}, next, nil, func(rec stream.Record) {
			if c.add(rec) {
				fn(c.latest)
			}
		})
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the caller ended it
	}
	return err
}
