package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rocketcycle/rocketcycle/internal/changewire"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// writerPartition is one partition that a writer owns.
type writerPartition struct {
	tp      stream.TopicPartition
	started bool
	paused  bool
	// position is the watermark that the next batch follows on.
	position int64
	pending  []*rkcyv1.Change
	bytes    int
	next     int64 // behind the last pending change
	// damage is why the record at next cannot be used. What lies before it is
	// written all the same.
	damage error
	// held is how this partition alone fails.
	held setback
	// oldest is when the first pending change came into the log; traced are
	// those that are part of traces.
	oldest time.Time
	traced []tracedChange
}

// take adds a record to what is pending.
func (p *writerPartition) take(r stream.Record) {
	if !p.started || p.damage != nil || r.Offset < p.next {
		return // it will be read again, or has been
	}
	c, err := changewire.Unmarshal(r.Value)
	if err == nil && c.GetKey() == "" {
		err = errors.New("it has no key")
	}
	if err != nil {
		// Only processors write here, so this is damage. Going on would lose
		// a change without a word.
		p.damage = fmt.Errorf("storage record at %s[%d]@%d is no change: %w", r.Topic, r.Partition, r.Offset, err)
		return
	}
	p.pending = append(p.pending, c)
	p.bytes += len(r.Value)
	p.next = r.Offset + 1
}

// ready says whether there is something to write.
func (p *writerPartition) ready() bool { return p.started && len(p.pending) > 0 }

// setback is a row of failures: why, and when to try again.
type setback struct {
	reason string
	pause  time.Duration
	until  time.Time
	logged string
}

// ok says that there is none.
func (s *setback) ok() bool { return s.reason == "" }

// over says that it is time to try again.
func (s *setback) over() bool { return s.reason == "" || !time.Now().Before(s.until) }

// next notes one more failure, and says whether people should hear of it: not
// of the same thing again and again.
func (s *setback) next(longest time.Duration, err error) (news bool) {
	s.reason = err.Error()
	s.pause = min(max(2*s.pause, 50*time.Millisecond), longest)
	s.until = time.Now().Add(s.pause/2 + rand.N(s.pause/2+1)) //nolint:gosec // jitter
	same := digits.ReplaceAllString(s.reason, "#")
	news = same != s.logged
	s.logged = same
	return news
}

// digits differ between errors that are the same: ports, process ids.
var digits = regexp.MustCompile(`[0-9]+`)

// sorted returns the partitions in the order of their numbers.
func (w *Writer) sorted() []*writerPartition {
	return slices.SortedFunc(maps.Values(w.parts), func(a, b *writerPartition) int { return int(a.tp.Partition - b.tp.Partition) })
}

// failed plans the next attempt to reach the target.
func (w *Writer) failed(ctx context.Context, err error) {
	if ctx.Err() != nil && w.away.ok() {
		return // it is us who end
	}
	if w.away.next(w.cfg.RetryMax, err) {
		w.cfg.Logger.Warn("storage is held up; trying again", "concern", w.cfg.Concern, "error", err)
	}
}

func (w *Writer) succeeded() {
	if !w.away.ok() {
		w.cfg.Logger.Info("storage goes on", "concern", w.cfg.Concern)
	}
	w.away = setback{}
}

// hold keeps a partition from going on until trying again succeeds.
func (w *Writer) hold(p *writerPartition, err error) {
	if p.held.next(w.cfg.RetryMax, err) {
		w.cfg.Logger.Error("a storage partition is held up; trying again", "concern", w.cfg.Concern,
			"topic", p.tp.Topic, "partition", p.tp.Partition, "offset", p.position, "error", err)
	}
}

func (w *Writer) free(p *writerPartition) {
	if !p.held.ok() {
		w.cfg.Logger.Info("a storage partition goes on", "concern", w.cfg.Concern, "topic", p.tp.Topic, "partition", p.tp.Partition)
	}
	p.held = setback{}
}

// report updates what Status tells, and says once that a record is damaged.
func (w *Writer) report() {
	var reasons []string
	if !w.away.ok() {
		reasons = append(reasons, w.away.reason)
	}
	for _, p := range w.sorted() {
		if p.damage != nil && len(p.pending) == 0 && p.held.reason != p.damage.Error() {
			p.held = setback{reason: p.damage.Error()}
			w.cfg.Logger.Error("a storage partition stands still until its log is repaired and the writer is started again", "concern", w.cfg.Concern,
				"topic", p.tp.Topic, "partition", p.tp.Partition, "offset", p.next, "error", p.damage)
		}
		if !p.held.ok() {
			reasons = append(reasons, p.held.reason)
		}
	}
	oldest := w.oldestPending()
	w.oldest.Store(&oldest)
	if len(reasons) == 0 {
		w.failing.Store(nil)
		return
	}
	text := strings.Join(reasons, "; ")
	w.failing.Store(&text)
}
