package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// Purge says what to delete.
type Purge struct {
	// Concern whose topics are meant; "": all.
	Concern string
	// Kinds of topics. Default: process, error, response. Records of state and
	// storage topics are deleted by those who know what is needed of them.
	Kinds []string
	// OlderThan is how old a record must be. 0: the published retention, which only
	// quarantined records may fall below.
	OlderThan time.Duration
	DryRun    bool
}

// Purged is a partition of which something is deleted.
type Purged struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// From is where the log began, To where it begins then.
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// Kept says why it is not more.
	Kept string `json:"kept,omitempty"`
}

// PurgeResult is what a purge did.
type PurgeResult struct {
	Partitions []Purged `json:"partitions"`
	AuditID    string   `json:"audit_id,omitempty"`
}

var purgeKinds = []string{"process", "error", "response"}

// purgeable is a topic, and how old its records are when they may go.
type purgeable struct {
	topic      string
	partitions int32
	age        time.Duration
	// group has to have read what is deleted; "": nobody.
	group string
}

func (c *Control) purgeable(p Purge) ([]purgeable, error) {
	if p.Concern != "" {
		if _, err := c.concern(p.Concern); err != nil {
			return nil, err
		}
	}
	kinds := p.Kinds
	if len(kinds) == 0 {
		kinds = purgeKinds
	}
	for _, k := range kinds {
		if !slices.Contains(purgeKinds, k) {
			return nil, txn.Errorf(txn.CodeInvalidArgument, "topics of kind %q cannot be purged%s; allowed are %s", k, suggest.Hint(k, purgeKinds), strings.Join(purgeKinds, ", "))
		}
	}
	if p.OlderThan < 0 {
		return nil, txn.Errorf(txn.CodeInvalidArgument, "the age %v is negative", p.OlderThan)
	}
	var out []purgeable
	var faults []string
	add := func(kind, topic string, partitions int32, retention time.Duration, group string) {
		if !slices.Contains(kinds, kind) || retention < 0 && p.OlderThan == 0 {
			return
		}
		age := retention
		if p.OlderThan > 0 {
			if age = p.OlderThan; kind != "error" && (retention < 0 || age < retention) {
				faults = append(faults, fmt.Sprintf("topic %s keeps records for %v, so those older than %v cannot go", topic, platform.Duration(retention), age))
			}
		}
		out = append(out, purgeable{topic: topic, partitions: partitions, age: age, group: group})
	}
	ms := func(n int64) time.Duration {
		if n < 0 {
			return -1
		}
		return time.Duration(n) * time.Millisecond
	}
	names, config := c.router.Names(), c.router.Config()
	for _, k := range config.GetConcerns() {
		if p.Concern == "" || p.Concern == k.GetName() {
			add("process", names.ProcessTopic(k.GetName()), k.GetPartitions(), ms(k.GetProcessRetentionMs()), names.ProcessGroup())
			add("error", names.ErrorTopic(k.GetName()), 1, ms(k.GetErrorRetentionMs()), "")
		}
	}
	if p.Concern == "" {
		add("response", names.ResponseTopic(), config.GetEdgeSlots(), time.Hour, "")
	}
	if len(faults) > 0 {
		return nil, txn.Errorf(txn.CodeFailedPrecondition, "%s", strings.Join(faults, "; "))
	}
	return out, nil
}

// Purge deletes records that are old enough, now instead of when the brokers come to
// it. What was not processed stays, however old it is.
func (c *Control) Purge(ctx context.Context, who Who, p Purge) (*PurgeResult, error) {
	topics, err := c.purgeable(p)
	if err != nil {
		return nil, err
	}
	if !p.DryRun {
		if err := who.check(); err != nil {
			return nil, err
		}
	}
	admin, err := stream.NewAdmin(c.log)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	out := &PurgeResult{Partitions: []Purged{}}
	before := map[stream.TopicPartition]int64{}
	for _, t := range topics {
		found, err := t.look(ctx, admin, time.Now())
		if err != nil {
			return nil, txn.Errorf(txn.CodeUnavailable, "%w", err)
		}
		for _, f := range found {
			if f.To > f.From {
				before[stream.TopicPartition{Topic: f.Topic, Partition: f.Partition}] = f.To
			}
			if f.To > f.From || f.Kept != "" {
				out.Partitions = append(out.Partitions, f)
			}
		}
	}
	if p.DryRun || len(before) == 0 {
		return out, nil
	}
	subject := "all Concerns"
	if p.Concern != "" {
		subject = "Concern " + p.Concern
	}
	op, err := c.Begin(ctx, who, "purge", fmt.Sprintf("%d partitions of %s", len(before), subject), nil)
	if err != nil {
		return nil, err
	}
	out.AuditID = op.GetId()
	if err := admin.DeleteRecordsBefore(ctx, before); err != nil {
		return nil, txn.Errorf(txn.CodeUnavailable, "%w", err)
	}
	return out, c.End(ctx, op, "done")
}

// look returns what may go of each partition.
func (t purgeable) look(ctx context.Context, admin *stream.Admin, now time.Time) ([]Purged, error) {
	tps := make([]stream.TopicPartition, t.partitions)
	for i := range t.partitions {
		tps[i] = stream.TopicPartition{Topic: t.topic, Partition: i}
	}
	to, err := admin.OffsetsSince(ctx, tps, now.Add(-t.age))
	if err != nil {
		return nil, err
	}
	from, err := admin.LowWatermarks(ctx, tps)
	if err != nil {
		return nil, err
	}
	out := make([]Purged, 0, len(tps))
	var read map[stream.TopicPartition]int64
	if t.group != "" {
		if read, err = admin.GroupOffsets(ctx, t.group, tps); err != nil {
			return nil, err
		}
	}
	for _, tp := range tps {
		f := Purged{Topic: tp.Topic, Partition: tp.Partition, From: from[tp], To: to[tp]}
		if t.group != "" && read[tp] < f.To {
			f.To = max(read[tp], f.From)
			f.Kept = fmt.Sprintf("what lies behind offset %d was not processed yet", f.To)
		}
		out = append(out, f)
	}
	return out, nil
}
