package concern

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Read asks for committed instances without a step through the log.
type Read struct {
	Concern string
	Keys    []string
	// Session makes the answer reflect every transaction of a single visit whose
	// end anybody has seen, and those of After. Without it the answer may be as old
	// as the Kafka transaction in flight.
	Session bool
	// After are the ids of transactions whose effects have to be seen: those that
	// the caller was told of. At most MaxSession.
	After []txn.ID
}

// Bounds of a Read.
const (
	MaxReadKeys = 1000
	MaxSession  = 64
)

// DetailNotOwner is "true" in the error of a read that came to a processor which
// does not own the partition, or does not know any more that it does. Whoever
// asked should find the owner again.
const DetailNotOwner = "not_owner"

// Found is the answer for one key: an instance, of version 0 if there is none,
// or an error.
type Found struct {
	Instance *rkcyv1.Instance
	Err      error
}

// mirrors are the partitions that a processor serves direct reads of.
type mirrors struct {
	mu sync.RWMutex
	of map[stream.TopicPartition]*served
}

// served is a partition whose mirror is complete.
type served struct {
	mirror *mirror
	worker *worker
}

func (m *mirrors) get(tp stream.TopicPartition) *served {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.of[tp]
}

func (m *mirrors) open(tp stream.TopicPartition, s *served) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[stream.TopicPartition]*served{}
	}
	m.of[tp] = s
}

func (m *mirrors) close(tps ...stream.TopicPartition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, tp := range tps {
		if s := m.of[tp]; s != nil {
			s.mirror.close()
			delete(m.of, tp)
		}
	}
}

// Read returns committed instances, in the order of the keys. The error is of the
// request; one of a key is in its Found. A processor that does not own the
// partition of a key refuses it with CodeUnavailable and DetailNotOwner. Waiting
// ends with ctx. Safe for concurrent use; no worker waits for it.
func (p *Processor) Read(ctx context.Context, r Read) ([]Found, error) {
	switch {
	case len(r.Keys) == 0 || len(r.Keys) > MaxReadKeys:
		return nil, txn.Errorf(txn.CodeInvalidArgument, "a read of %d keys; it is 1 to %d", len(r.Keys), MaxReadKeys)
	case len(r.After) > MaxSession:
		return nil, txn.Errorf(txn.CodeInvalidArgument, "a session of %d transactions; at most %d are allowed", len(r.After), MaxSession)
	case !p.Serves(r.Concern):
		return nil, txn.Errorf(txn.CodeUnimplemented, "no Concern %q is served here", r.Concern)
	}
	found := make([]Found, len(r.Keys))
	var misses []miss
	for i, key := range r.Keys {
		if err := txn.CheckKey(key); err != nil {
			found[i].Err = txn.Errorf(txn.CodeInvalidArgument, "%w", err)
			continue
		}
		topic, partition, err := p.cfg.Router.Route(r.Concern, key)
		if err != nil {
			return nil, err
		}
		at := p.mirrors.get(stream.TopicPartition{Topic: topic, Partition: partition})
		if at == nil {
			found[i].Err = errNotOwner(r.Concern, key)
			continue
		}
		look, err := at.await(ctx, key, r)
		switch {
		case err != nil:
			found[i].Err = err
		case look.value != nil:
			found[i] = at.answer(r.Concern, key, look.value)
		default:
			misses = append(misses, miss{i: i, key: key, at: at, removed: look.removed})
		}
	}
	if len(misses) > 0 {
		p.loadMisses(ctx, r.Concern, misses, found)
	}
	return found, nil
}

// Serves reports whether the processor serves a Concern, be it its owner or not.
func (p *Processor) Serves(concern string) bool {
	return slices.ContainsFunc(p.cfg.Concerns, func(s Served) bool { return s.Definition.Name == concern })
}

// await looks at an instance until all that the reader must see is there.
func (s *served) await(ctx context.Context, key string, r Read) (seen, error) {
	for {
		look := s.mirror.look(key, r.Session, r.After)
		if look.closed {
			return look, errNotOwner(r.Concern, key)
		}
		if look.wait == nil {
			return look, nil
		}
		select {
		case <-look.wait:
		case <-ctx.Done():
			code := txn.CodeDeadlineExceeded
			if errors.Is(ctx.Err(), context.Canceled) {
				code = txn.CodeCancelled
			}
			return look, txn.Errorf(code, "%s %q: what this session wrote was not applied in time; read again", r.Concern, key)
		}
	}
}

// answer gives a value out, if it is certain that it was current when it was
// taken.
func (s *served) answer(concern, key string, value *rkcyv1.Instance) Found {
	if !s.worker.lease.valid() {
		return Found{Err: errNotOwner(concern, key)}
	}
	return Found{Instance: value}
}

type miss struct {
	i       int
	key     string
	at      *served
	removed uint64
}

// loadMisses reads what no cache has from the database, which has all of it: what
// it does not have yet cannot leave the cache. The workers are given what was
// found, for those who read it next.
func (p *Processor) loadMisses(ctx context.Context, concern string, misses []miss, found []Found) {
	keys := make([]string, len(misses))
	for i, m := range misses {
		keys[i] = m.key
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.LoadTimeout)
	defer cancel()
	slices.Sort(keys)
	loaded, err := p.cfg.Loader.Load(ctx, concern, slices.Compact(keys))
	if err != nil {
		if _, ok := errors.AsType[*txn.Error](err); !ok {
			err = txn.Errorf(txn.CodeUnavailable, "the database is away: %w", err)
		}
	}
	for _, m := range misses {
		if err != nil {
			found[m.i].Err = err
			continue
		}
		value := loaded[m.key]
		if value == nil {
			value = &rkcyv1.Instance{}
		}
		if found[m.i] = m.at.answer(concern, m.key, value); found[m.i].Err == nil {
			m.at.worker.offer(directLoad{m.at.mirror, m.key, value, m.removed})
		}
	}
}

func errNotOwner(concern, key string) *txn.Error {
	return txn.Errorf(txn.CodeUnavailable, "%s %q is not served by this processor now; ask its owner", concern, key).With(DetailNotOwner, "true")
}

// directLoad is an instance that a read has loaded.
type directLoad struct {
	mirror  *mirror
	key     string
	value   *rkcyv1.Instance
	removed uint64
}

// offer gives the worker an instance to cache. It does not wait: the next read
// loads again what was not taken.
func (w *worker) offer(l directLoad) {
	select {
	case w.offered <- l:
	default:
	}
}

// takeOffers caches what direct reads have loaded, where it is certain that it
// is still true.
func (w *worker) takeOffers() {
	for range len(w.offered) {
		l := <-w.offered
		for _, p := range w.engine.order {
			if p.mirror == l.mirror && p.mirror.stillMissing(l.key, l.removed) {
				w.engine.loaded(p, l.key, l.value)
			}
		}
	}
}

// serveDirect lets direct reads see a partition that was restored.
func (w *worker) serveDirect(p *partition) {
	w.p.mirrors.open(p.tp, &served{mirror: p.mirror, worker: w})
	select {
	case w.assigned <- struct{}{}:
	default:
	}
}
