package inspect

import (
	"context"
	"slices"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// WatchFilter says which events are wanted; a zero field any. A transaction one of
// whose records is wanted is followed: so are its later ones, which may name its
// id only.
type WatchFilter struct {
	Concern, Key, TxnID string
	// Kinds of topics. Default: process, state, storage, error and response.
	Kinds []platform.Kind
}

// WatchConfig configures a watch.
type WatchConfig struct {
	Types  Types
	Filter WatchFilter
	// Since is when to begin; the zero time is now.
	Since time.Time
	// Once ends the watch at what is in the log when it begins.
	Once bool
	// Started, where set, is called when whatever is written from then on will be
	// seen.
	Started func()
}

// follower picks the events that a filter wants.
type follower struct {
	filter   WatchFilter
	followed map[string]bool
	order    []string
}

func (f *follower) wants(e *Event) bool {
	if f.filter.TxnID != "" {
		return e.TxnID == f.filter.TxnID
	}
	own := (f.filter.Concern == "" || e.Concern == f.filter.Concern) && f.filter.Key == "" ||
		f.filter.Key != "" && e.Touches(f.filter.Concern, f.filter.Key)
	if own && e.TxnID != "" && !f.followed[e.TxnID] {
		if len(f.order) == remembered {
			delete(f.followed, f.order[0])
			f.order = f.order[1:]
		}
		f.followed[e.TxnID] = true
		f.order = append(f.order, e.TxnID)
	}
	return own || f.followed[e.TxnID] && e.TxnID != ""
}

// Watch gives fn the events that are wanted, in order within a partition and
// nearly in order of time, until ctx ends, fn fails or, with Once, the end is
// reached. Errors have CodeUnavailable, but for those of fn.
func (i *Inspector) Watch(ctx context.Context, cfg WatchConfig, fn func(*Event) error) error {
	from, until, err := i.span(ctx, cfg)
	if err != nil {
		return err
	}
	reader, err := stream.NewReader(i.log)
	if err != nil {
		return err
	}
	defer reader.Close()
	decoder, picked := NewDecoder(cfg.Types), follower{filter: cfg.Filter, followed: map[string]bool{}}
	if cfg.Started != nil {
		cfg.Started()
	}
	return reader.FollowMany(ctx, from, until, func(batch []stream.Record) error {
		byTime(batch)
		for _, r := range batch {
			if e := decoder.Decode(r); picked.wants(e) {
				if err := fn(e); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// byTime sorts records by time, and leaves those of one partition in order even
// where their clocks differ.
func byTime(batch []stream.Record) {
	latest := map[stream.TopicPartition]time.Time{}
	times := make(map[int]time.Time, len(batch))
	order := make([]int, len(batch))
	for i, r := range batch {
		tp := stream.TopicPartition{Topic: r.Topic, Partition: r.Partition}
		t := r.Time
		if latest[tp].After(t) {
			t = latest[tp]
		}
		latest[tp], times[i], order[i] = t, t, i
	}
	slices.SortStableFunc(order, func(a, b int) int { return times[a].Compare(times[b]) })
	sorted := make([]stream.Record, len(batch))
	for i, at := range order {
		sorted[i] = batch[at]
	}
	copy(batch, sorted)
}

// span returns where to begin and, with Once, to end.
func (i *Inspector) span(ctx context.Context, cfg WatchConfig) (from, until map[stream.TopicPartition]int64, err error) {
	admin, err := stream.NewAdmin(i.log)
	if err != nil {
		return nil, nil, err
	}
	defer admin.Close()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	tps := i.watched(cfg.Filter)
	if cfg.Since.IsZero() {
		from, err = admin.EndOffsets(ctx, tps)
	} else {
		from, err = admin.OffsetsSince(ctx, tps, cfg.Since)
	}
	if err == nil && cfg.Once {
		until, err = admin.StableOffsets(ctx, tps)
	}
	if err != nil {
		return nil, nil, away(err)
	}
	return from, until, nil
}

func (i *Inspector) watched(filter WatchFilter) []stream.TopicPartition {
	var tps []stream.TopicPartition
	add := func(kind platform.Kind, topic string, partitions int32) {
		if len(filter.Kinds) > 0 && !slices.Contains(filter.Kinds, kind) {
			return
		}
		for p := range partitions {
			tps = append(tps, stream.TopicPartition{Topic: topic, Partition: p})
		}
	}
	p, names := i.router.Config(), i.router.Names()
	for _, c := range p.GetConcerns() {
		add(platform.KindProcess, names.ProcessTopic(c.GetName()), c.GetPartitions())
		add(platform.KindState, names.StateTopic(c.GetName()), c.GetPartitions())
		add(platform.KindStorage, names.StorageTopic(c.GetName()), c.GetPartitions())
		add(platform.KindError, names.ErrorTopic(c.GetName()), 1)
	}
	add(platform.KindResponse, names.ResponseTopic(), p.GetEdgeSlots())
	return tps
}
