package storagetest

import (
	"context"
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
	rows  map[string]map[string]memoryRow
	marks map[storage.Partition]int64
	log   []*rkcyv1.Change
}

// memoryRow is an instance as its mapping makes it.
type memoryRow struct {
	rows    storage.Rows
	version uint64
	related []*rkcyv1.RelatedInstance
}

var _ Target = (*Memory)(nil)

// NewMemory returns an empty target.
func NewMemory(mappings ...storage.Mapping) *Memory {
	m := &Memory{
		mappings: map[string]storage.Mapping{}, rows: map[string]map[string]memoryRow{}, marks: map[storage.Partition]int64{},
	}
	for _, mapping := range mappings {
		m.mappings[mapping.Concern] = mapping
		m.rows[mapping.Concern] = map[string]memoryRow{}
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
	var encoded []storage.Rows // of each change
	for _, b := range batches {
		if m.marks[b.Partition] != b.From {
			return storage.ErrStale
		}
		for i, c := range b.Changes {
			rows, err := m.encode(b.Partition.Concern, c)
			if err != nil {
				return &storage.ChangeError{Partition: b.Partition, Key: c.GetKey(), Index: i, From: b.From, Next: b.Next, Err: err}
			}
			encoded = append(encoded, rows)
		}
	}
	for _, b := range batches {
		m.marks[b.Partition] = b.Next
		for _, c := range b.Changes {
			m.log = append(m.log, c)
			if a := c.GetAfter(); a.GetVersion() == 0 {
				delete(m.rows[b.Partition.Concern], c.GetKey())
			} else {
				m.rows[b.Partition.Concern][c.GetKey()] = memoryRow{rows: encoded[0], version: a.GetVersion(), related: a.GetRelated()}
			}
			encoded = encoded[1:]
		}
	}
	return nil
}

func (m *Memory) encode(concern string, c *rkcyv1.Change) (storage.Rows, error) {
	mapping, ok := m.mappings[concern]
	if !ok {
		return storage.Rows{}, storage.ErrPermanent
	}
	if c.GetAfter().GetVersion() == 0 {
		return storage.Rows{}, nil
	}
	message := mapping.New()
	if err := proto.Unmarshal(c.GetAfter().GetValue(), message); err != nil {
		return storage.Rows{}, err
	}
	return mapping.Rows(c.GetKey(), message)
}

func (m *Memory) decode(concern string, r memoryRow) (*rkcyv1.Instance, error) {
	message, err := m.mappings[concern].Instance(r.rows)
	if err != nil {
		return nil, err
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	return &rkcyv1.Instance{Value: value, Version: r.version, Related: r.related}, err
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
		if r, ok := m.rows[concern][k]; ok {
			var err error
			if out[k], err = m.decode(concern, r); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// Rows returns all instances of a Concern.
func (m *Memory) Rows(concern string) map[string]*rkcyv1.Instance {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]*rkcyv1.Instance{}
	for k, r := range m.rows[concern] {
		i, err := m.decode(concern, r)
		if err != nil {
			panic(err) // the mapping cannot read what it wrote
		}
		out[k] = i
	}
	return out
}

// Applied returns all changes in the order in which they took effect.
func (m *Memory) Applied() []*rkcyv1.Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]*rkcyv1.Change{}, m.log...)
}
