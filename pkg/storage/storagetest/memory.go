package storagetest

import (
	"context"
	"maps"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Memory is a target in memory. Safe for concurrent use.
type Memory struct {
	// Before, where set, is called before each Apply; an error fails it. After
	// is called when it has taken effect; an error hides that from the caller.
	// Set them before use.
	Before, After func(batches []storage.Batch) error

	mappings map[string]storage.Mapping

	mu    sync.Mutex
	rows  map[string]map[string]*rkcyv1.Instance
	marks map[storage.Partition]int64
	log   []*rkcyv1.Change
}

var _ Target = (*Memory)(nil)

// NewMemory returns an empty target.
func NewMemory(mappings ...storage.Mapping) *Memory {
	m := &Memory{
		mappings: map[string]storage.Mapping{}, rows: map[string]map[string]*rkcyv1.Instance{}, marks: map[storage.Partition]int64{},
	}
	for _, mapping := range mappings {
		m.mappings[mapping.Concern] = mapping
		m.rows[mapping.Concern] = map[string]*rkcyv1.Instance{}
	}
	return m
}

// Apply implements storage.Target.
func (m *Memory) Apply(ctx context.Context, batches []storage.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.Before != nil {
		if err := m.Before(batches); err != nil {
			return err
		}
	}
	if err := m.apply(batches); err != nil {
		return err
	}
	if m.After != nil {
		return m.After(batches)
	}
	return nil
}

func (m *Memory) apply(batches []storage.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range batches {
		if m.marks[b.Partition] != b.From {
			return storage.ErrStale
		}
		for i, c := range b.Changes {
			if err := m.check(b.Partition.Concern, c); err != nil {
				return &storage.ChangeError{Partition: b.Partition, Key: c.GetKey(), Index: i, From: b.From, Next: b.Next, Err: err}
			}
		}
	}
	for _, b := range batches {
		m.marks[b.Partition] = b.Next
		for _, c := range b.Changes {
			m.log = append(m.log, c)
			if c.GetAfter().GetVersion() == 0 {
				delete(m.rows[b.Partition.Concern], c.GetKey())
			} else {
				m.rows[b.Partition.Concern][c.GetKey()] = c.GetAfter()
			}
		}
	}
	return nil
}

func (m *Memory) check(concern string, c *rkcyv1.Change) error {
	mapping, ok := m.mappings[concern]
	if !ok {
		return storage.ErrPermanent
	}
	if c.GetAfter().GetVersion() == 0 {
		return nil
	}
	message := mapping.New()
	if err := proto.Unmarshal(c.GetAfter().GetValue(), message); err != nil {
		return err
	}
	_, err := mapping.Encode(message)
	return err
}

// Watermarks implements storage.Target.
func (m *Memory) Watermarks(_ context.Context, partitions []storage.Partition) (map[storage.Partition]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[storage.Partition]int64{}
	for _, p := range partitions {
		out[p] = m.marks[p]
	}
	return out, nil
}

// Load returns instances.
func (m *Memory) Load(_ context.Context, concern string, keys []string) (map[string]*rkcyv1.Instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]*rkcyv1.Instance{}
	for _, k := range keys {
		if i, ok := m.rows[concern][k]; ok {
			out[k] = i
		}
	}
	return out, nil
}

// Rows returns all instances of a Concern.
func (m *Memory) Rows(concern string) map[string]*rkcyv1.Instance {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.rows[concern])
}

// Applied returns all changes in the order in which they took effect.
func (m *Memory) Applied() []*rkcyv1.Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]*rkcyv1.Change{}, m.log...)
}
