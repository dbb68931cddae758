package platform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Update is a change of the platform that was prepared and can be looked at
// before it is applied. It is used by one goroutine.
type Update struct {
	// Current is the published version, nil if there is none.
	Current *rkcyv1.PlatformVersion
	// Wanted is what will be published.
	Wanted *rkcyv1.PlatformConfig
	// Actions is what has to be done. Empty: everything is as wanted.
	Actions []Action
	// Reason is why, for the audit log. It may be set before Apply.
	Reason string

	log        stream.Config
	rollbackTo uint64
}

// PrepareUpdate looks at the brokers and plans how to get from what is there to
// what cfg wants. It changes nothing. Errors have CodeUnavailable while the
// brokers are away (bounded by ctx), CodeFailedPrecondition for a change that
// cannot be made, and name everything that is wrong with it. CodeAborted says that
// the file was written for another version than the published one.
func PrepareUpdate(ctx context.Context, log stream.Config, cfg Config) (*Update, error) {
	if err := cfg.Validate(); err != nil {
		return nil, txn.Errorf(txn.CodeInvalidArgument, "%w", err)
	}
	return prepare(ctx, log, cfg.Names(), func(s *State) (*rkcyv1.PlatformConfig, error) {
		if cfg.Version != 0 {
			if err := expect(s, uint64(cfg.Version)); err != nil { //nolint:gosec // validated
				return nil, err
			}
		}
		return cfg.Proto(), nil
	})
}

// PrepareRollback plans how to get back to the configuration of an earlier
// version, which is published again as a new one.
func PrepareRollback(ctx context.Context, log stream.Config, names Names, version uint64) (*Update, error) {
	u, err := prepare(ctx, log, names, func(s *State) (*rkcyv1.PlatformConfig, error) {
		switch v := s.Version(version); {
		case s.Current == nil:
			return nil, txn.Errorf(txn.CodeNotFound, "platform %s has no configuration in environment %s, so there is nothing to go back to",
				names.platform, names.environment)
		case v == nil:
			return nil, txn.Errorf(txn.CodeNotFound, "there is no version %d; there are %d to %d", version, s.Versions[0].GetVersion(), s.Current.GetVersion())
		case v == s.Current:
			return nil, txn.Errorf(txn.CodeFailedPrecondition, "version %d is the published one", version)
		default:
			return proto.CloneOf(v.GetConfig()), nil
		}
	})
	if u != nil {
		u.rollbackTo = version
	}
	return u, err
}

// Expect refuses the update, with CodeAborted, if another version than the given
// one is published. 0 stands for none.
func (u *Update) Expect(version uint64) error { return expect(&State{Current: u.Current}, version) }

func expect(s *State, version uint64) error {
	if have := s.Current.GetVersion(); have != version {
		by := ""
		if a := s.Current.GetAuthor(); a != "" {
			by = ", by " + a
		}
		return txn.Errorf(txn.CodeAborted, "version %d is expected, but version %d is published%s; look at the difference first", version, have, by)
	}
	return nil
}

func prepare(ctx context.Context, log stream.Config, names Names, want func(*State) (*rkcyv1.PlatformConfig, error)) (*Update, error) {
	admin, err := stream.NewAdmin(log)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	brokers, err := admin.Brokers(ctx)
	if err != nil {
		return nil, away(err)
	}
	topics, err := admin.Topics(ctx)
	if err != nil {
		return nil, away(err)
	}
	state := newJournal(log.WithDefaults().Logger).state
	if _, exists := topics[names.PlatformTopic()]; exists {
		if state, err = readState(ctx, log, names); err != nil {
			return nil, err
		}
	}
	wanted, err := want(state)
	if err != nil {
		return nil, err
	}
	u := &Update{log: log, Current: state.Current}
	var unfit, unplanned error
	u.Wanted, unfit = resolve(wanted, u.Current.GetConfig(), brokers, topics)
	u.Actions, unplanned = Plan(u.Current, u.Wanted, topics)
	if err := errors.Join(unfit, unplanned); err != nil {
		return nil, txn.Errorf(txn.CodeFailedPrecondition, "%w", err)
	}
	return u, nil
}

// Apply does what is planned, and returns the version that is then published.
// Every step can be repeated: after a failure, prepare and apply again. When
// somebody else publishes at the same time, one of the two gets CodeAborted.
func (u *Update) Apply(ctx context.Context, author string) (*rkcyv1.PlatformVersion, error) {
	if r := u.Repartitions(); len(r) > 0 {
		return nil, errNotHere(r)
	}
	var specs []stream.TopicSpec
	settings := map[string]map[string]string{}
	publish := false
	for _, a := range u.Actions {
		switch a.Kind {
		case ActionCreateTopic:
			specs = append(specs, a.Topic)
		case ActionAlterTopic:
			settings[a.Topic.Name] = a.Topic.Config
		case ActionPublish:
			publish = true
		}
	}
	admin, err := stream.NewAdmin(u.log)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	if _, err := admin.EnsureTopics(ctx, specs); err != nil {
		return nil, away(err)
	}
	version := u.Current
	if publish {
		version = &rkcyv1.PlatformVersion{
			Version: u.Current.GetVersion() + 1, Config: u.Wanted, TimeMs: time.Now().UnixMilli(), Author: author,
			Reason: u.Reason, RollbackTo: u.rollbackTo,
		}
		if err := Publish(ctx, u.log, version); err != nil {
			return nil, err
		}
	}
	// Settings change after the version has won: the loser of two updates must not
	// have changed anything that the winner did not want.
	if err := admin.AlterTopics(ctx, settings); err != nil {
		return nil, away(fmt.Errorf("version %d is published, but settings of topics are not changed yet; update again: %w", version.GetVersion(), err))
	}
	return version, nil
}

// platformKey is the key of records that are versions.
const platformKey = "config"

// Publish publishes a version, whose number is one more than the published one's.
// Of several with the same number the first in the log counts; the others get
// CodeAborted.
func Publish(ctx context.Context, log stream.Config, version *rkcyv1.PlatformVersion) error {
	value, err := proto.Marshal(version)
	if err != nil {
		return fmt.Errorf("platform version: %w", err)
	}
	names := NewNames(version.GetConfig())
	sendErr := sendFenced(ctx, log, names, value)
	// The log decides who was first.
	s, err := readState(ctx, log, names)
	if err != nil {
		return err
	}
	won := s.Version(version.GetVersion())
	if sendErr != nil && won.GetVersion() != version.GetVersion() {
		return fmt.Errorf("publish version %d: %w", version.GetVersion(), sendErr)
	}
	if !proto.Equal(won, version) {
		return txn.Errorf(txn.CodeAborted, "%s published version %d at the same time; look at the difference again", won.GetAuthor(), version.GetVersion())
	}
	return nil
}

// Append writes any other record to the platform topic.
func Append(ctx context.Context, log stream.Config, names Names, key string, record *rkcyv1.PlatformRecord) error {
	value, err := proto.Marshal(record)
	if err != nil {
		return fmt.Errorf("platform record: %w", err)
	}
	producer, err := stream.NewProducer(log)
	if err != nil {
		return err
	}
	defer producer.Close()
	return producer.Send(ctx, names.PlatformTopic(), 0, []byte(key), value)
}

// Changes says in what a configuration differs from another, nil for none.
func Changes(from, to *rkcyv1.PlatformConfig) []string {
	changes, faults := compare(from, to)
	for _, f := range faults {
		changes = append(changes, f.Error())
	}
	return slices.Clip(changes)
}

// away marks errors of brokers that could not be asked.
func away(err error) error { return txn.Errorf(txn.CodeUnavailable, "%w", err) }
