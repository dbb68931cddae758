package configset

import (
	"context"
	"log/slog"
	"maps"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// chain tells the versions that count from the records of the topic.
type chain struct {
	logger *slog.Logger
	latest uint64
}

// next returns the version that a record has, or nil if it does not count.
func (c *chain) next(r stream.Record) *rkcyv1.ConfigVersion {
	v := &rkcyv1.ConfigVersion{}
	if err := proto.Unmarshal(r.Value, v); err != nil {
		c.logger.Warn("a record on the config topic is not a version; it is ignored", "topic", r.Topic, "offset", r.Offset, "error", err)
		return nil
	}
	if v.GetVersion() != c.latest+1 {
		c.logger.Debug("a version lost against another", "topic", r.Topic, "offset", r.Offset, "version", v.GetVersion())
		return nil
	}
	c.latest = v.GetVersion()
	return v
}

// Read calls fn with every version that was published, in order. An Error with
// CodeNotFound says that the platform was not set up, one with CodeUnavailable
// that the brokers are away (bounded by ctx).
func Read(ctx context.Context, log stream.Config, names platform.Names, fn func(*rkcyv1.ConfigVersion)) error {
	log = log.WithDefaults()
	admin, err := stream.NewAdmin(log)
	if err != nil {
		return err
	}
	defer admin.Close()
	topics, err := admin.Topics(ctx)
	if err != nil {
		return away(err)
	}
	if _, exists := topics[names.ConfigTopic()]; !exists {
		return txn.Errorf(txn.CodeNotFound, "there is no topic %s; make it with the command \"platform update\"", names.ConfigTopic())
	}
	reader, err := stream.NewReader(log)
	if err != nil {
		return err
	}
	defer reader.Close()
	_, err = readAll(ctx, log, reader, names, fn)
	return err
}

// readAll reads to the end, and returns the chain there and the offset.
func readAll(
	ctx context.Context, log stream.Config, reader *stream.Reader, names platform.Names, fn func(*rkcyv1.ConfigVersion),
) (at position, err error) {
	at.chain.logger = log.Logger
	at.offset, err = reader.ReadTo(ctx, topic(names), stream.OffsetBeginning, func(r stream.Record) error {
		if v := at.chain.next(r); v != nil {
			fn(v)
		}
		return nil
	})
	if err != nil {
		return at, away(err)
	}
	return at, nil
}

type position struct {
	chain  chain
	offset int64
}

func topic(names platform.Names) stream.TopicPartition {
	return stream.TopicPartition{Topic: names.ConfigTopic()}
}

// State has the instances of all config Concerns as they were at one moment.
// It is immutable, and so are the instances.
type State struct {
	// Version is that of the latest record that the state contains.
	Version uint64
	// Sets by name of the Concern.
	Sets map[string]Set
}

// Set has the instances of one config Concern.
type Set struct {
	Version uint64
	Time    time.Time
	Author  string
	// Instances by key.
	Instances map[string]proto.Message
}

// with returns the state in which a version has taken effect.
func (s *State) with(v *rkcyv1.ConfigVersion, set Set) *State {
	next := &State{Version: v.GetVersion(), Sets: maps.Clone(s.Sets)}
	if next.Sets == nil {
		next.Sets = map[string]Set{}
	}
	next.Sets[v.GetConcern()] = set
	return next
}

// Decode returns the instances that a version has. It fails where one of them
// is not of the Concern's message or has another key.
func (d Definition) Decode(v *rkcyv1.ConfigVersion) (Set, error) {
	set := Set{
		Version: v.GetVersion(), Time: time.UnixMilli(v.GetTimeMs()), Author: v.GetAuthor(),
		Instances: make(map[string]proto.Message, len(v.GetInstances())),
	}
	for _, i := range v.GetInstances() {
		m := d.New()
		if err := proto.Unmarshal(i.GetValue(), m); err != nil {
			return Set{}, txn.Errorf(txn.CodeDataLoss, "version %d: instance %q of %s cannot be decoded: %w", v.GetVersion(), i.GetKey(), d.Name, err)
		}
		if key := d.KeyOf(m); key != i.GetKey() {
			return Set{}, txn.Errorf(txn.CodeDataLoss, "version %d: instance %q of %s has the key %q", v.GetVersion(), i.GetKey(), d.Name, key)
		}
		set.Instances[i.GetKey()] = m
	}
	return set, nil
}

// away marks errors of brokers that could not be asked.
func away(err error) error { return txn.Errorf(txn.CodeUnavailable, "%w", err) }
