package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rocketcycle/rocketcycle/internal/isolation"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// perKey is how often an instance is written before another takes its place:
// long enough for conflicts, short enough for lists to stay small.
const perKey = 60

// keys are the hot instances. Safe for concurrent use.
type keys struct {
	client *txn.Client

	mu    sync.Mutex
	slots map[string][]*slot // by Concern
	all   []isolation.Object
	value int64
}

type slot struct {
	object  isolation.Object
	writes  int
	version int
	renewal sync.Mutex
}

func newKeys(ctx context.Context, client *txn.Client, perConcern int) (*keys, error) {
	k := &keys{client: client, slots: map[string][]*slot{}}
	for _, c := range concerns {
		for i := range perConcern {
			s := &slot{object: isolation.Object{Concern: c, Key: fmt.Sprintf("k%d-0", i)}}
			if err := k.create(ctx, s.object); err != nil {
				return nil, err
			}
			k.slots[c] = append(k.slots[c], s)
		}
	}
	return k, nil
}

// create brings an instance about, however often that has to be tried.
func (k *keys) create(ctx context.Context, o isolation.Object) error {
	for {
		once, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := txn.Do(once, k.client, create(o))
		cancel()
		if err == nil || txn.CodeOf(err) == txn.CodeAlreadyExists {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.all = append(k.all, o)
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("create %v: %w", o, err)
		}
	}
}

// pick returns a hot instance of a Concern, the first ones more often.
func (k *keys) pick(rng *rand.Rand, concern string) *slot {
	s := k.slots[concern]
	return s[min(rng.IntN(len(s)), rng.IntN(len(s)))]
}

func (k *keys) object(s *slot) isolation.Object {
	k.mu.Lock()
	defer k.mu.Unlock()
	return s.object
}

// next returns a value that was never used.
func (k *keys) next() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.value++
	return k.value
}

// wrote counts a write, and replaces an instance that has had enough.
func (k *keys) wrote(ctx context.Context, s *slot) error {
	k.mu.Lock()
	s.writes++
	enough := s.writes >= perKey
	k.mu.Unlock()
	if !enough || !s.renewal.TryLock() {
		return nil
	}
	defer s.renewal.Unlock()
	var number int
	k.mu.Lock()
	o := s.object
	_, _ = fmt.Sscanf(o.Key, "k%d-", &number)
	o.Key = fmt.Sprintf("k%d-%d", number, s.version+1)
	k.mu.Unlock()
	if err := k.create(ctx, o); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s.object, s.writes, s.version = o, 0, s.version+1
	return nil
}

// objects returns every instance there ever was.
func (k *keys) objects() []isolation.Object {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]isolation.Object(nil), k.all...)
}
