package platform

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Of returns the topic of one generation of a Concern.
func (n Names) Of(concern string, kind Kind, generation uint32) string {
	return TopicName(n.platform, n.environment, concern, kind, generation)
}

// Repartition is a change of the number of partitions of one Concern: its topics
// get a new generation.
type Repartition struct {
	Concern        string
	FromPartitions int32
	Partitions     int32
	FromGeneration uint32
	Generation     uint32
}

// String returns the change as a person should read it.
func (r Repartition) String() string {
	return fmt.Sprintf("move Concern %s from %d partitions (generation %04d) to %d (generation %04d)",
		r.Concern, r.FromPartitions, r.FromGeneration, r.Partitions, r.Generation)
}

// Repartitions returns the Concerns whose number of partitions the update
// changes. Such an update is not for Apply: it is node.Repartition that runs it.
func (u *Update) Repartitions() []Repartition { return repartitionsOf(u.Current.GetConfig(), u.Wanted) }

func repartitionsOf(current, wanted *rkcyv1.PlatformConfig) []Repartition {
	var out []Repartition
	for _, have := range current.GetConcerns() {
		want, err := ConcernOf(wanted, have.GetName())
		if err != nil || want.GetPartitions() == have.GetPartitions() {
			continue
		}
		out = append(out, Repartition{have.GetName(), have.GetPartitions(), want.GetPartitions(), have.GetGeneration(), want.GetGeneration()})
	}
	return out
}

// RepartitionTexts returns changes as a person should read them.
func RepartitionTexts(list []Repartition) []string {
	var out []string
	for _, r := range list {
		out = append(out, r.String())
	}
	return out
}

// succeed gives a Concern the generation that follows from the one before: the
// same, or a new one if the number of partitions changes. A new one has no topics,
// or those of an attempt that came to nothing.
func succeed(p *rkcyv1.PlatformConfig, c, have *rkcyv1.ConcernConfig, topics map[string]int) {
	c.Generation, c.Retired = have.GetGeneration(), nil
	for _, r := range have.GetRetired() {
		c.Retired = append(c.Retired, proto.CloneOf(r))
	}
	if c.GetPartitions() == have.GetPartitions() {
		return
	}
	c.Retired = append(c.Retired, &rkcyv1.RetiredGeneration{Generation: have.GetGeneration(), Partitions: have.GetPartitions()})
	n := NewNames(p)
	for {
		c.Generation++
		free := true
		for _, kind := range []Kind{KindProcess, KindState, KindStorage} {
			if count, exists := topics[n.Of(c.GetName(), kind, c.Generation)]; exists && count != int(c.GetPartitions()) {
				free = false
			}
		}
		if free {
			return
		}
	}
}

func errNotHere(list []Repartition) error {
	return txn.Errorf(txn.CodeFailedPrecondition,
		"%s: this is done while the platform runs, with the command \"platform update\"; nothing was changed", strings.Join(RepartitionTexts(list), "; "))
}

// PublisherID returns the transactional id of whoever publishes a version. There
// is one, so that whoever is about to publish is refused once another has begun.
func (n Names) PublisherID() string { return n.prefix() + ".platform" }

// NewPublisher returns the producer of versions. From its return on, versions of
// others that were not published yet are refused; so what is read of the platform
// topic after that is still the latest when CommitOnce succeeds.
func NewPublisher(ctx context.Context, log stream.Config, names Names) (*stream.Transactor, error) {
	return stream.NewTransactor(ctx, log, names.PublisherID())
}

// VersionRecord returns the record that publishes a version.
func VersionRecord(names Names, version *rkcyv1.PlatformVersion) (stream.Record, error) {
	value, err := proto.Marshal(version)
	if err != nil {
		return stream.Record{}, fmt.Errorf("platform version: %w", err)
	}
	return stream.Record{Topic: names.PlatformTopic(), Key: []byte(platformKey), Value: value}, nil
}

// sendFenced publishes a version. After an error it may be published all the same.
func sendFenced(ctx context.Context, log stream.Config, names Names, value []byte) error {
	p, err := NewPublisher(ctx, log, names)
	if err != nil {
		return away(err)
	}
	defer p.Close()
	if _, err := p.CommitOnce(ctx, []stream.Record{{Topic: names.PlatformTopic(), Key: []byte(platformKey), Value: value}}, nil, nil); err != nil {
		return txn.Errorf(txn.CodeAborted, "%w; somebody else may have published at the same time, look at the difference again", err)
	}
	return nil
}

// ActionRepartition is the action of the operation that announces a change of the
// number of partitions: processors stop until it has an outcome, a version with
// other generations is published, or RepartitionLease has passed.
const ActionRepartition = "repartition"

// RepartitionLease is how long processors wait for whoever announced.
const RepartitionLease = 20 * time.Second

// Announce appends an operation to the platform topic.
func Announce(ctx context.Context, log stream.Config, names Names, op *rkcyv1.Operation) error {
	value, err := proto.Marshal(&rkcyv1.PlatformRecord{Kind: &rkcyv1.PlatformRecord_Operation{Operation: op}})
	if err != nil {
		return fmt.Errorf("operation: %w", err)
	}
	p, err := stream.NewProducer(log)
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Send(ctx, names.PlatformTopic(), 0, []byte("operation"), value)
}

// FollowRepartitions calls fn with every operation of ActionRepartition that is
// appended from now on, its start and its outcome, until ctx ends. started is
// called once nothing can be missed any more.
func FollowRepartitions(ctx context.Context, log stream.Config, names Names, started func(), fn func(*rkcyv1.Operation)) error {
	reader, err := stream.NewReader(log)
	if err != nil {
		return err
	}
	defer reader.Close()
	take := func(r stream.Record) *rkcyv1.Operation {
		m := &rkcyv1.PlatformRecord{}
		if string(r.Key) == platformKey || proto.Unmarshal(r.Value, m) != nil || m.GetOperation() == nil {
			return nil
		}
		op := m.GetOperation()
		if op.GetAction() == ActionRepartition {
			return op
		}
		return nil
	}
	at := stream.TopicPartition{Topic: names.PlatformTopic()}
	next, err := reader.ReadTo(ctx, at, stream.OffsetBeginning, func(r stream.Record) error {
		if op := take(r); op != nil && time.Since(time.UnixMilli(op.GetTimeMs())) < RepartitionLease {
			fn(op)
		}
		return nil
	})
	if err != nil {
		return away(err)
	}
	return reader.Follow(ctx, at, next, started, func(r stream.Record) {
		if op := take(r); op != nil {
			fn(op)
		}
	})
}
