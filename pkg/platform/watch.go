package platform

import (
	"context"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Current returns the published version. An Error with CodeNotFound says that
// the platform was not set up, one with CodeUnavailable that the brokers are
// away (bounded by ctx).
func Current(ctx context.Context, log stream.Config, names Names) (*rkcyv1.PlatformVersion, error) {
	s, err := Read(ctx, log, names)
	if err != nil {
		return nil, err
	}
	if s.Current == nil {
		return nil, txn.Errorf(txn.CodeNotFound, "platform %s has no configuration in environment %s; publish one with the command \"platform update\"",
			names.platform, names.environment)
	}
	return s.Current, nil
}

// Read returns what the platform topic says just now; nothing if there is no such
// topic. Errors have CodeUnavailable.
func Read(ctx context.Context, log stream.Config, names Names) (*State, error) {
	admin, err := stream.NewAdmin(log)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	topics, err := admin.Topics(ctx)
	if err != nil {
		return nil, away(err)
	}
	if _, exists := topics[names.PlatformTopic()]; !exists {
		return newJournal(log.WithDefaults().Logger).state, nil
	}
	return readState(ctx, log, names)
}

// readState reads a topic that exists.
func readState(ctx context.Context, log stream.Config, names Names) (*State, error) {
	log = log.WithDefaults()
	reader, err := stream.NewReader(log)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	j := newJournal(log.Logger)
	if err := j.read(ctx, reader, names); err != nil {
		return nil, err
	}
	return j.state, nil
}

// read reads up to the end. Deleted records were in a snapshot.
func (j *journal) read(ctx context.Context, reader *stream.Reader, names Names) error {
	next, err := reader.ReadTo(ctx, stream.TopicPartition{Topic: names.PlatformTopic()}, stream.OffsetBeginning,
		func(r stream.Record) error { j.add(r); return nil })
	if err != nil {
		return away(err)
	}
	j.state.Next = max(j.state.Next, next)
	return nil
}

// Follow calls fn with what the platform topic says, at first and whenever that
// changes, until ctx ends; then it returns nil. fn is called on the caller's
// goroutine.
func Follow(ctx context.Context, log stream.Config, names Names, fn func(*State)) error {
	log = log.WithDefaults()
	reader, err := stream.NewReader(log)
	if err != nil {
		return err
	}
	defer reader.Close()
	j := newJournal(log.Logger)
	if err := j.read(ctx, reader, names); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the caller ended it
		}
		return err
	}
	fn(j.state.clone())
	return reader.Follow(ctx, stream.TopicPartition{Topic: names.PlatformTopic()}, j.state.Next, nil, func(r stream.Record) {
		j.add(r)
		fn(j.state.clone()) // also what says nothing new moves its end
	})
}

// Watch calls fn with the published version, if there is one, and with every
// later one, until ctx ends; then it returns nil. fn is called on the caller's
// goroutine.
func Watch(ctx context.Context, log stream.Config, names Names, fn func(*rkcyv1.PlatformVersion)) error {
	var seen uint64
	return Follow(ctx, log, names, func(s *State) {
		for _, v := range s.Versions {
			if v.GetVersion() > seen && (seen > 0 || v == s.Current) {
				seen = v.GetVersion()
				fn(v)
			}
		}
	})
}
