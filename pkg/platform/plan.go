package platform

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// ActionKind says what an Action does.
type ActionKind string

// The kinds of actions.
const (
	ActionCreateTopic ActionKind = "create topic"
	ActionAlterTopic  ActionKind = "change topic"
	ActionPublish     ActionKind = "publish"
)

// Action is one thing that an update does.
type Action struct {
	Kind ActionKind
	// Topic is what ActionCreateTopic creates; ActionAlterTopic changes those
	// settings of it.
	Topic stream.TopicSpec
	// Version is what ActionPublish publishes, Changes in what it differs from
	// the one before.
	Version uint64
	Changes []string
}

// String returns the action as a person should read it.
func (a Action) String() string {
	switch a.Kind {
	case ActionCreateTopic:
		return fmt.Sprintf("create topic %s (partitions %d, replicas %d, retention %s)",
			a.Topic.Name, a.Topic.Partitions, a.Topic.Replication, retentionText(a.Topic.Config))
	case ActionAlterTopic:
		var settings []string
		for _, name := range slices.Sorted(maps.Keys(a.Topic.Config)) {
			settings = append(settings, name+"="+a.Topic.Config[name])
		}
		return fmt.Sprintf("change topic %s: %s", a.Topic.Name, strings.Join(settings, ", "))
	case ActionPublish:
	}
	return fmt.Sprintf("publish version %d: %s", a.Version, strings.Join(a.Changes, "; "))
}

func retentionText(config map[string]string) string {
	ms, err := strconv.ParseInt(config["retention.ms"], 10, 64)
	if err != nil {
		return "of the brokers"
	}
	return millis(ms).String()
}

// Plan compares the published configuration (nil: none yet) and the topics
// that exist (name to number of partitions) with what is wanted, and returns
// what has to be done, in order. Nothing to do is an empty plan. A change that
// cannot be made is an Error with CodeFailedPrecondition that names every one.
func Plan(current *rkcyv1.PlatformVersion, wanted *rkcyv1.PlatformConfig, topics map[string]int) ([]Action, error) {
	changes, faults := compare(current.GetConfig(), wanted)
	have := map[string]stream.TopicSpec{}
	if current != nil {
		for _, spec := range Topics(current.GetConfig()) {
			have[spec.Name] = spec
		}
	}
	var actions, alter []Action
	for _, spec := range Topics(wanted) {
		switch n, exists := topics[spec.Name]; {
		case !exists:
			actions = append(actions, Action{Kind: ActionCreateTopic, Topic: spec})
		case n != 0 && n != spec.Partitions: // 0: known, but without a leader just now
			if len(faults) == 0 { // else it was told already
				faults = append(faults, fmt.Errorf("topic %s exists with %d partitions, but %d are wanted", spec.Name, n, spec.Partitions))
			}
		default:
			if settings := altered(have[spec.Name].Config, spec.Config); len(settings) > 0 {
				alter = append(alter, Action{Kind: ActionAlterTopic, Topic: stream.TopicSpec{Name: spec.Name, Config: settings}})
			}
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, txn.Errorf(txn.CodeFailedPrecondition, "%w", err)
	}
	if len(changes) > 0 {
		actions = append(actions, Action{Kind: ActionPublish, Version: current.GetVersion() + 1, Changes: changes})
	}
	return append(actions, alter...), nil
}

// altered returns the settings that are wanted and differ; none of a topic that
// was not published yet.
func altered(have, want map[string]string) map[string]string {
	out := map[string]string{}
	for name, value := range want {
		if before, known := have[name]; known && before != value {
			out[name] = value
		}
	}
	return out
}

// compare says in what two configurations differ, and which of that cannot be
// changed.
func compare(current, wanted *rkcyv1.PlatformConfig) (changes []string, faults []error) {
	if current == nil {
		for _, c := range wanted.GetConcerns() {
			changes = append(changes, addition(c))
		}
		return append([]string{fmt.Sprintf("new platform %s in %s", wanted.GetName(), wanted.GetEnvironment())}, changes...), nil
	}
	keep := func(field string, have, want any) {
		if have != want {
			faults = append(faults, fmt.Errorf("%s cannot be changed from %v to %v while the platform exists", field, have, want))
		}
	}
	change := func(field string, have, want any) {
		if have != want {
			changes = append(changes, fmt.Sprintf("%s: %v instead of %v", field, want, have))
		}
	}
	keep("name", current.GetName(), wanted.GetName())
	keep("environment", current.GetEnvironment(), wanted.GetEnvironment())
	keep("edge.slots", current.GetEdgeSlots(), wanted.GetEdgeSlots())
	keep("replication_factor", current.GetReplicationFactor(), wanted.GetReplicationFactor())
	change("min_insync_replicas", current.GetMinInsyncReplicas(), wanted.GetMinInsyncReplicas())
	change("development", current.GetDevelopment(), wanted.GetDevelopment())
	for _, have := range current.GetConcerns() {
		want, err := ConcernOf(wanted, have.GetName())
		if err != nil {
			faults = append(faults, fmt.Errorf("Concern %s cannot be removed while the platform exists: it may have transactions and data",
				have.GetName()))
			continue
		}
		field := func(name string) string { return "concerns[" + have.GetName() + "]." + name }
		change(field("retention.process"), millis(have.GetProcessRetentionMs()), millis(want.GetProcessRetentionMs()))
		change(field("retention.storage"), millis(have.GetStorageRetentionMs()), millis(want.GetStorageRetentionMs()))
		change(field("retention.error"), millis(have.GetErrorRetentionMs()), millis(want.GetErrorRetentionMs()))
	}
	for _, c := range wanted.GetConcerns() {
		if _, err := ConcernOf(current, c.GetName()); err != nil {
			changes = append(changes, addition(c))
		}
	}
	changes = append(changes, RepartitionTexts(repartitionsOf(current, wanted))...)
	for _, t := range wanted.GetStorageTargets() {
		if !slices.Contains(current.GetStorageTargets(), t) {
			changes = append(changes, "add storage target "+t)
		}
	}
	for _, t := range current.GetStorageTargets() {
		if !slices.Contains(wanted.GetStorageTargets(), t) {
			changes = append(changes, "remove storage target "+t+", for which nothing is kept any more")
		}
	}
	return changes, faults
}

func addition(c *rkcyv1.ConcernConfig) string {
	return fmt.Sprintf("add Concern %s with %d partitions", c.GetName(), c.GetPartitions())
}

func millis(ms int64) Duration {
	if ms < 0 {
		return Forever
	}
	return Duration(time.Duration(ms) * time.Millisecond)
}

// resolve fills in what the file leaves to the cluster, and keeps what only the
// published version knows: generations.
func resolve(wanted *rkcyv1.PlatformConfig, current *rkcyv1.PlatformConfig, brokers int, topics map[string]int) (*rkcyv1.PlatformConfig, error) {
	p := proto.CloneOf(wanted)
	if p.ReplicationFactor == 0 {
		if p.ReplicationFactor = current.GetReplicationFactor(); p.ReplicationFactor == 0 {
			p.ReplicationFactor = int32(min(3, brokers)) //nolint:gosec // at most 3
		}
	}
	if p.MinInsyncReplicas == 0 {
		if p.MinInsyncReplicas = current.GetMinInsyncReplicas(); p.MinInsyncReplicas == 0 {
			p.MinInsyncReplicas = 1
			if p.ReplicationFactor >= 3 {
				p.MinInsyncReplicas = 2
			}
		}
	}
	if p.IdempotencyHome = idempotencyHome(current); p.IdempotencyHome == "" {
		p.IdempotencyHome = idempotencyHome(wanted)
	}
	for _, c := range p.GetConcerns() {
		if have, err := ConcernOf(current, c.GetName()); err == nil {
			succeed(p, c, have, topics)
		}
	}
	var faults []error
	if int(p.GetReplicationFactor()) > brokers {
		faults = append(faults, fmt.Errorf("replication_factor is %d, but there are only %d brokers", p.GetReplicationFactor(), brokers))
	}
	if p.GetMinInsyncReplicas() > p.GetReplicationFactor() {
		faults = append(faults, fmt.Errorf("min_insync_replicas is %d, but there are only %d replicas", p.GetMinInsyncReplicas(), p.GetReplicationFactor()))
	}
	return p, errors.Join(faults...)
}

// maxRecordBatch bounds a batch of records. It has room for the largest
// record; producers stay below it.
const maxRecordBatch = 10 << 20

// responseRetention is how long results are kept for an edge that may still
// wait for them: longer than any deadline.
const responseRetention = time.Hour

// Topics returns every topic that a configuration needs.
func Topics(p *rkcyv1.PlatformConfig) []stream.TopicSpec {
	n := NewNames(p)
	spec := func(name string, partitions int32, config map[string]string) stream.TopicSpec {
		all := map[string]string{
			"max.message.bytes":   strconv.Itoa(maxRecordBatch),
			"min.insync.replicas": strconv.Itoa(int(p.GetMinInsyncReplicas())),
		}
		maps.Copy(all, config)
		return stream.TopicSpec{Name: name, Partitions: int(partitions), Replication: int(p.GetReplicationFactor()), Config: all}
	}
	keep := func(ms int64) map[string]string {
		return map[string]string{"cleanup.policy": "delete", "retention.ms": strconv.FormatInt(ms, 10), "retention.bytes": "-1"}
	}
	// Versions are a chain whose every link must stay readable, so these two are
	// not compacted: of two updates at the same time the first in the log wins,
	// and compaction would keep the last.
	specs := []stream.TopicSpec{
		spec(n.PlatformTopic(), 1, keep(-1)),
		spec(n.ConfigTopic(), 1, keep(-1)),
		spec(n.ResponseTopic(), p.GetEdgeSlots(), keep(responseRetention.Milliseconds())),
	}
	for _, c := range p.GetConcerns() {
		specs = append(specs,
			spec(n.ProcessTopic(c.GetName()), c.GetPartitions(), keep(c.GetProcessRetentionMs())),
			// Bounded by its owner, who knows what is still needed.
			spec(n.StateTopic(c.GetName()), c.GetPartitions(), keep(-1)),
			// Bounded by the storage workers, who know what every target has.
			spec(n.StorageTopic(c.GetName()), c.GetPartitions(), keep(-1)),
			spec(n.ErrorTopic(c.GetName()), 1, keep(c.GetErrorRetentionMs())),
		)
	}
	return slices.Clip(specs)
}
