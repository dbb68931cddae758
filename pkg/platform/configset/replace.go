package configset

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Replacement is a new set of instances that was prepared and can be looked at
// before it is published. It is used by one goroutine.
type Replacement struct {
	// Current is the latest version of this Concern, nil if there is none.
	Current *rkcyv1.ConfigVersion
	// Changes, in order of key. Empty: everything is as wanted.
	Changes []Change

	log     stream.Config
	names   platform.Names
	version uint64 // that would follow
	wanted  *rkcyv1.ConfigVersion
}

// PrepareReplace checks the instances and compares them with what is
// published. It changes nothing. The error is of type platform.Faults if an
// instance is not valid; else it has CodeUnavailable while the brokers are
// away (bounded by ctx), CodeNotFound if the platform was not set up.
func PrepareReplace(ctx context.Context, log stream.Config, names platform.Names, d Definition, instances []proto.Message) (*Replacement, error) {
	if faults := d.check(instances, numbered); len(faults) > 0 {
		return nil, faults
	}
	r := &Replacement{log: log.WithDefaults(), names: names, version: 1, wanted: &rkcyv1.ConfigVersion{Concern: d.Name}}
	after := map[string]proto.Message{}
	for _, m := range instances {
		value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			return nil, txn.Errorf(txn.CodeInvalidArgument, "instance %q of %s: %w", d.KeyOf(m), d.Name, err)
		}
		after[d.KeyOf(m)] = m
		r.wanted.Instances = append(r.wanted.Instances, &rkcyv1.ConfigInstance{Key: d.KeyOf(m), Value: value})
	}
	slices.SortFunc(r.wanted.Instances, func(a, b *rkcyv1.ConfigInstance) int { return strings.Compare(a.GetKey(), b.GetKey()) })
	if err := Read(ctx, log, names, func(v *rkcyv1.ConfigVersion) {
		r.version = v.GetVersion() + 1
		if v.GetConcern() == d.Name {
			r.Current = v
		}
	}); err != nil {
		return nil, err
	}
	before, err := d.Decode(r.Current)
	if err != nil { // damage must not keep anybody from repairing it
		r.log.Logger.Warn("what is published cannot be compared with", "concern", d.Name, "error", err)
	}
	r.Changes = compare(before.Instances, after)
	return r, nil
}

// Apply publishes the set and returns its version. It does nothing if there is
// no change. When somebody else publishes at the same time, one of the two gets
// CodeAborted.
func (r *Replacement) Apply(ctx context.Context, author string) (*rkcyv1.ConfigVersion, error) {
	if len(r.Changes) == 0 {
		return r.Current, nil
	}
	version := proto.CloneOf(r.wanted)
	version.Version, version.TimeMs, version.Author = r.version, time.Now().UnixMilli(), author
	value, err := proto.Marshal(version)
	if err != nil {
		return nil, fmt.Errorf("version of %s: %w", version.GetConcern(), err)
	}
	producer, err := stream.NewProducer(r.log)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	if err := producer.Send(ctx, r.names.ConfigTopic(), 0, []byte(version.GetConcern()), value); err != nil {
		return nil, fmt.Errorf("publish version %d of %s: %w", version.GetVersion(), version.GetConcern(), err)
	}
	// The log decides who was first.
	var won *rkcyv1.ConfigVersion
	if err := Read(ctx, r.log, r.names, func(v *rkcyv1.ConfigVersion) {
		if v.GetVersion() == version.GetVersion() {
			won = v
		}
	}); err != nil {
		return nil, fmt.Errorf("version %d of %s was sent, but whether it counts is not known: %w", version.GetVersion(), version.GetConcern(), err)
	}
	if !proto.Equal(won, version) {
		return nil, txn.Errorf(txn.CodeAborted, "%s published version %d (%s) at the same time; nothing was changed, look at the difference again",
			won.GetAuthor(), won.GetVersion(), won.GetConcern())
	}
	return version, nil
}

// ChangeKind says what happens to an instance.
type ChangeKind string

// The kinds of changes.
const (
	ChangeAdd    ChangeKind = "add"
	ChangeUpdate ChangeKind = "change"
	ChangeRemove ChangeKind = "remove"
)

// Change is how one instance differs.
type Change struct {
	Kind ChangeKind
	Key  string
	// Before and After are nil where there is no such instance.
	Before, After proto.Message
}

func compare(before, after map[string]proto.Message) []Change {
	all := maps.Clone(after)
	maps.Copy(all, before)
	var changes []Change
	for _, key := range slices.Sorted(maps.Keys(all)) {
		b, a := before[key], after[key]
		switch {
		case b == nil:
			changes = append(changes, Change{Kind: ChangeAdd, Key: key, After: a})
		case a == nil:
			changes = append(changes, Change{Kind: ChangeRemove, Key: key, Before: b})
		case !proto.Equal(a, b):
			changes = append(changes, Change{Kind: ChangeUpdate, Key: key, Before: b, After: a})
		}
	}
	return changes
}

// String returns the change as a person should read it.
func (c Change) String() string {
	if c.Kind != ChangeUpdate {
		m := c.After
		if m == nil {
			m = c.Before
		}
		return fmt.Sprintf("%s %s: %s", c.Kind, c.Key, JSON(m))
	}
	return fmt.Sprintf("%s %s: %s", c.Kind, c.Key, strings.Join(differences(c.Before, c.After), ", "))
}
