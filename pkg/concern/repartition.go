package concern

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/internal/changewire"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// stateMoved is the key of the state record that seals a partition: what it has
// has gone to another generation, and nobody may serve it any more.
const stateMoved = "m"

// errMoved says that a partition is sealed.
var errMoved = errors.New("the partition has moved to another generation of the Concern's topics")

// Bounds of what a Mover takes along of the dedupe windows, in visits: of one
// partition, and of all that is written to every new one.
const (
	movedVisits     = 1000
	movedVisitsSent = 20_000
)

// Move says from where to where a Concern moves.
type Move struct {
	Concern string
	From    Topics
	To      Topics
	// Partitions of the new topics; FromPartitions of the old ones.
	Partitions, FromPartitions int32
	// MaxBytes bounds what is taken along: it is in memory, and goes into one
	// Kafka transaction. Default 256 MiB.
	MaxBytes int64
}

// Mover makes the records that a Concern's new partitions begin with from what
// its old ones have. It is pure, and used by one goroutine. Give it, for each old
// partition, all state records, the storage records from a little before the
// primary's watermark on, and the process records from the committed offset on;
// nobody else may write to them. Then Records are what has to be written, in one
// Kafka transaction, with the offsets up to which the process records were given.
type Mover struct {
	move  Move
	parts []movedPartition
	// changes are the last storage records of the instances that the primary does
	// not have yet, by key; order is that of their first one.
	changes map[string]stream.Record
	order   []string
	process []stream.Record
	bytes   int64
}

type movedPartition struct {
	state *restorer
	// end is behind the last storage record; -1: none was seen.
	end int64
}

// NewMover returns a mover.
func NewMover(m Move) *Mover {
	if m.MaxBytes == 0 {
		m.MaxBytes = 256 << 20
	}
	mv := &Mover{move: m, changes: map[string]stream.Record{}, parts: make([]movedPartition, m.FromPartitions)}
	for i := range mv.parts {
		tp := stream.TopicPartition{Topic: m.From.Process, Partition: int32(i)} //nolint:gosec // below FromPartitions
		mv.parts[i] = movedPartition{state: newRestorer(newPartition(tp, nil, movedVisits), 0), end: -1}
	}
	return mv
}

func (m *Mover) partition(key string) int32 {
	return stream.PartitionFor([]byte(key), m.move.Partitions)
}

// State takes a state record, in the order of its partition.
func (m *Mover) State(r stream.Record) error { return m.parts[r.Partition].state.stateRecord(r) }

// Change takes a storage record, in the order of its partition. What lies before
// the watermark is in the primary, and only tells which visits were applied.
func (m *Mover) Change(r stream.Record, watermark int64) error {
	c, err := changewire.Unmarshal(r.Value)
	if err != nil {
		return fmt.Errorf("storage record at %s[%d]@%d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	p := &m.parts[r.Partition]
	p.end = r.Offset + 1
	if r.Offset < watermark {
		if id, err := txn.IDFromBytes(c.GetTxnId()); err == nil {
			p.state.changed = p.state.remember(p.state.changed, applied{id, c.GetAttempt(), c.GetVisit()})
		}
		return nil
	}
	old, known := m.changes[c.GetKey()]
	if !known {
		m.order = append(m.order, c.GetKey())
	} else if was, err := changewire.Unmarshal(old.Value); err == nil {
		if id, err := txn.IDFromBytes(was.GetTxnId()); err == nil {
			p.state.changed = p.state.remember(p.state.changed, applied{id, was.GetAttempt(), was.GetVisit()})
		}
	}
	m.changes[c.GetKey()] = stream.Record{
		Topic: m.move.To.Storage, Partition: m.partition(c.GetKey()), Key: []byte(c.GetKey()), Value: r.Value, Headers: r.Headers,
	}
	return m.grow(int64(len(r.Value) - len(old.Value)))
}

// Process takes a process record that was not worked on, in the order of its
// partition.
func (m *Mover) Process(r stream.Record) error {
	for _, out := range rerouted(r, m.move.Concern, m.move.To.Process, m.move.Partitions) {
		m.process = append(m.process, out)
		if err := m.grow(int64(len(out.Value))); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mover) grow(n int64) error {
	if m.bytes += n; m.bytes > m.move.MaxBytes {
		return txn.Errorf(txn.CodeFailedPrecondition,
			"more than %d MiB of Concern %s wait for the primary storage target or for a processor, too much to move at once; try again once they have caught up",
			m.move.MaxBytes>>20, m.move.Concern)
	}
	return nil
}

// StorageEnds returns, by old partition, the offset behind the last storage
// record, given the primary's watermarks: what a target must have applied before
// it begins with the new generation.
func (m *Mover) StorageEnds(watermarks []int64) []int64 {
	ends := make([]int64, len(m.parts))
	for i, p := range m.parts {
		ends[i] = max(p.end, watermarks[i], 0)
	}
	return ends
}

// Moved counts what a Mover takes along.
type Moved struct {
	State, Changes, Process int
}

// Records returns what has to be written, in order, and how much that is.
func (m *Mover) Records() ([]stream.Record, Moved, error) {
	var out []stream.Record
	var n Moved
	out = m.window(out)
	seq := uint64(0)
	var waiting []*rkcyv1.Parked
	var ghosts = map[*rkcyv1.Parked]string{}
	put := func(partition int32, key string, record *rkcyv1.StateRecord) error {
		value, err := proto.Marshal(record)
		if err != nil {
			return fmt.Errorf("state record: %w", err)
		}
		n.State++
		out = append(out, stream.Record{Topic: m.move.To.State, Partition: partition, Key: []byte(key), Value: value})
		return m.grow(int64(len(value)))
	}
	for _, p := range m.parts {
		live := p.state.p.state.live
		for _, key := range sortedKeys(live) {
			record := live[key]
			var err error
			switch k := record.GetKind().(type) {
			case *rkcyv1.StateRecord_Hold:
				err = put(m.partition(k.Hold.GetKey()), key, record)
			case *rkcyv1.StateRecord_Parked:
				waiting = append(waiting, k.Parked)
				ghosts[k.Parked] = key
			case *rkcyv1.StateRecord_Entry:
				err = put(m.partition(txn.HomeKey(k.Entry.GetKey())), key, record)
			case *rkcyv1.StateRecord_Related:
				err = put(m.partition(k.Related.GetParent()), key, record)
			case *rkcyv1.StateRecord_Cancel:
				// The transaction may come anywhere.
				for i := range m.move.Partitions {
					err = errors.Join(err, put(i, key, record))
				}
			default:
				err = fmt.Errorf("a state record of a kind that is not known here: %T", k)
			}
			if err != nil {
				return nil, n, err
			}
		}
	}
	// All that waits for one instance comes from one old partition, so its order
	// stays.
	slices.SortStableFunc(waiting, func(a, b *rkcyv1.Parked) int { return cmp.Compare(a.GetSequence(), b.GetSequence()) })
	for _, w := range waiting {
		seq++
		key := ghosts[w]
		w = proto.CloneOf(w)
		w.Sequence = seq
		if err := put(m.partition(w.GetKey()), key, &rkcyv1.StateRecord{Kind: &rkcyv1.StateRecord_Parked{Parked: w}}); err != nil {
			return nil, n, err
		}
	}
	for _, key := range m.order {
		out = append(out, m.changes[key])
	}
	out = append(out, m.process...)
	n.Changes, n.Process = len(m.order), len(m.process)
	for i := range m.parts {
		out = append(out, stream.Record{
			Topic: m.move.From.State, Partition: int32(i), Key: []byte(stateMoved), Value: []byte(m.move.To.Process), //nolint:gosec // below FromPartitions
		})
	}
	return out, n, nil
}

// window makes tombstones of the newest visits that were applied. Whose instance
// they visited is not known of all, so each new partition gets all of them.
func (m *Mover) window(out []stream.Record) []stream.Record {
	each := min(movedVisits, max(movedVisitsSent/(2*len(m.parts)*int(m.move.Partitions)), 1))
	for _, p := range m.parts {
		for _, list := range [][]applied{p.state.changed, p.state.ended} {
			for _, a := range list[max(len(list)-each, 0):] {
				for i := range m.move.Partitions {
					out = append(out, stream.Record{Topic: m.move.To.State, Partition: i, Key: []byte(holdKey(a.id, a.attempt, a.visit))})
				}
			}
		}
	}
	return out
}
