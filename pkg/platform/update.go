package platform

import (
	"context"
	"fmt"
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

	log stream.Config
}

// PrepareUpdate looks at the brokers and plans how to get from what is there to
// what cfg wants. It changes nothing. Errors have CodeUnavailable while the
// brokers are away (bounded by ctx), CodeFailedPrecondition for a change that
// cannot be made.
func PrepareUpdate(ctx context.Context, log stream.Config, cfg Config) (*Update, error) {
	if err := cfg.Validate(); err != nil {
		return nil, txn.Errorf(txn.CodeInvalidArgument, "%w", err)
	}
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
	u := &Update{log: log}
	names := cfg.Names()
	if _, exists := topics[names.PlatformTopic()]; exists {
		if u.Current, err = latest(ctx, log, names); err != nil {
			return nil, err
		}
	}
	if u.Wanted, err = resolve(cfg.Proto(), u.Current.GetConfig(), brokers); err != nil {
		return nil, err
	}
	u.Actions, err = Plan(u.Current, u.Wanted, topics)
	return u, err
}

// Apply does what is planned, and returns the version that is then published.
// Every step can be repeated: after a failure, prepare and apply again. When
// somebody else publishes at the same time, one of the two gets CodeAborted.
func (u *Update) Apply(ctx context.Context, author string) (*rkcyv1.PlatformVersion, error) {
	var specs []stream.TopicSpec
	publish := false
	for _, a := range u.Actions {
		switch a.Kind {
		case ActionCreateTopic:
			specs = append(specs, a.Topic)
		case ActionPublish:
			publish = true
		}
	}
	if len(specs) > 0 {
		admin, err := stream.NewAdmin(u.log)
		if err != nil {
			return nil, err
		}
		defer admin.Close()
		if _, err := admin.EnsureTopics(ctx, specs); err != nil {
			return nil, away(err)
		}
	}
	if !publish {
		return u.Current, nil
	}
	version := &rkcyv1.PlatformVersion{
		Version: u.Current.GetVersion() + 1, Config: u.Wanted, TimeMs: time.Now().UnixMilli(), Author: author,
	}
	if err := u.publish(ctx, version); err != nil {
		return nil, err
	}
	return version, nil
}

const platformKey = "config"

func (u *Update) publish(ctx context.Context, version *rkcyv1.PlatformVersion) error {
	value, err := proto.Marshal(version)
	if err != nil {
		return fmt.Errorf("platform version: %w", err)
	}
	producer, err := stream.NewProducer(u.log)
	if err != nil {
		return err
	}
	defer producer.Close()
	names := NewNames(u.Wanted)
	if err := producer.Send(ctx, names.PlatformTopic(), 0, []byte(platformKey), value); err != nil {
		return fmt.Errorf("publish version %d: %w", version.GetVersion(), err)
	}
	// The log decides who was first.
	won, err := read(ctx, u.log, names, version.GetVersion())
	if err != nil {
		return err
	}
	if !proto.Equal(won, version) {
		return txn.Errorf(txn.CodeAborted, "%s published version %d at the same time; look at the difference again", won.GetAuthor(), won.GetVersion())
	}
	return nil
}

// away marks errors of brokers that could not be asked.
func away(err error) error { return txn.Errorf(txn.CodeUnavailable, "%w", err) }
