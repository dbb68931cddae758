package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/internal/failpoint"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

const (
	watermarkTable = "rkcy_watermark"

	// opening is the number of statements before those that move watermarks:
	// BEGIN, and one that makes the server end a transaction whose client is
	// frozen or out of reach. Else its locks would keep every other writer from
	// taking over. It is no parameter of the connection, since poolers refuse
	// some of these.
	opening     = 2
	endWhenIdle = `SET LOCAL idle_in_transaction_session_timeout = '5s'`

	// A watermark that was never written counts as 0.
	firstWatermark = `INSERT INTO ` + watermarkTable + ` AS w (concern, generation, partition, next_offset) VALUES ($1, $2, $3, $4)
ON CONFLICT (concern, generation, partition) DO UPDATE SET next_offset = EXCLUDED.next_offset, updated = now() WHERE w.next_offset = 0`
	nextWatermark = `UPDATE ` + watermarkTable + ` SET next_offset = $4, updated = now()
WHERE concern = $1 AND generation = $2 AND partition = $3 AND next_offset = $5`
	readWatermarks = `SELECT w.concern, w.generation, w.partition, w.next_offset
FROM unnest($1::text[], $2::bigint[], $3::integer[]) AS u(concern, generation, partition)
JOIN ` + watermarkTable + ` AS w USING (concern, generation, partition)`

	// maxStatementBytes bounds the rows in one statement: a message to the
	// server ends at 1 GiB, and both sides hold it in memory.
	maxStatementBytes = 16 << 20
)

// located is a change and where it is from.
type located struct {
	batch  *storage.Batch
	index  int
	change *rkcyv1.Change
}

func (l located) fail(err error) error {
	return &storage.ChangeError{
		Partition: l.batch.Partition, Key: l.change.GetKey(), Index: l.index,
		From: l.batch.From, Next: l.batch.Next, Err: err,
	}
}

// row is one change as the table has it.
type row struct {
	change located
	values []any
	// children has the rows of each child table.
	children [][][]any
	// related is what RelatedColumn gets; nil for NULL.
	related []byte
	bytes   int
}

// Apply implements storage.Target.
func (t *Target) Apply(ctx context.Context, batches []storage.Batch) error {
	if len(batches) == 0 {
		return nil
	}
	// In the order in which every writer locks.
	batches = slices.Clone(batches)
	slices.SortStableFunc(batches, func(a, b storage.Batch) int { return comparePartitions(a.Partition, b.Partition) })
	work := &pgx.Batch{}
	work.Queue("BEGIN")
	work.Queue(endWhenIdle)
	for _, b := range batches {
		if b.From < 0 || b.Next < b.From {
			return fmt.Errorf("postgres: %w: batch of %v from %d to %d", storage.ErrPermanent, b.Partition, b.From, b.Next)
		}
		p := b.Partition
		if b.From == 0 {
			work.Queue(firstWatermark, p.Concern, int64(p.Generation), p.Partition, b.Next)
		} else {
			work.Queue(nextWatermark, p.Concern, int64(p.Generation), p.Partition, b.Next, b.From)
		}
	}
	if err := t.queueRows(work, batches); err != nil {
		return err
	}
	if err := t.inTransaction(ctx, work, len(batches)); err != nil {
		if errors.Is(err, storage.ErrStale) {
			return err
		}
		return applyError(err)
	}
	return nil
}

func comparePartitions(a, b storage.Partition) int {
	if c := strings.Compare(a.Concern, b.Concern); c != 0 {
		return c
	}
	if a.Generation != b.Generation {
		return int(int64(a.Generation) - int64(b.Generation))
	}
	return int(a.Partition - b.Partition)
}

// inTransaction sends all statements at once and looks at those behind the
// opening ones, which move the watermarks, before it commits.
func (t *Target) inTransaction(ctx context.Context, work *pgx.Batch, watermarks int) (err error) {
	conn, err := t.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	// The pool destroys a connection that comes back inside of a transaction.
	defer conn.Release()
	results := conn.SendBatch(ctx, work)
	stale := false
	for i := range work.Len() {
		tag, err := results.Exec()
		if err != nil {
			return errors.Join(err, closeAfter(results))
		}
		if i >= opening && i < opening+watermarks && tag.RowsAffected() != 1 {
			stale = true
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	if stale {
		_, _ = conn.Exec(ctx, "ROLLBACK")
		return storage.ErrStale
	}
	failpoint.Hit(failpoint.DatabaseBeforeCommit)
	tag, err := conn.Exec(ctx, "COMMIT")
	if err == nil && tag.String() != "COMMIT" {
		err = fmt.Errorf("the transaction ended in %s", tag)
	}
	if err == nil {
		failpoint.Hit(failpoint.DatabaseAfterCommit)
	}
	return err
}

// closeAfter closes the results of a pipeline that failed. Its error is the one
// that is known already.
func closeAfter(results pgx.BatchResults) error {
	_ = results.Close()
	return nil
}

// queueRows adds the statements that write the last version of each key.
func (t *Target) queueRows(work *pgx.Batch, batches []storage.Batch) error {
	last := map[string]map[string]located{}
	for i := range batches {
		b := &batches[i]
		name := b.Partition.Concern
		if t.tables[name] == nil {
			return fmt.Errorf("postgres: %w: no mapping for the Concern %q", storage.ErrPermanent, name)
		}
		if last[name] == nil {
			last[name] = make(map[string]located, len(b.Changes))
		}
		for j, c := range b.Changes {
			last[name][c.GetKey()] = located{b, j, c}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(last)) {
		if err := t.tables[name].queue(work, last[name]); err != nil {
			return err
		}
	}
	return nil
}

// queue adds the statements for one table, with rows in the order of keys, the
// order in which every writer locks.
func (t *table) queue(work *pgx.Batch, last map[string]located) error {
	rows := make([]row, 0, len(last))
	var gone pgtype.FlatArray[string]
	size := 0
	for _, key := range slices.Sorted(maps.Keys(last)) {
		l := last[key]
		if l.change.GetAfter().GetVersion() == 0 {
			if storable(key) { // else there is no such row
				gone = append(gone, key)
			}
			continue
		}
		r, err := t.encode(l)
		if err != nil {
			return l.fail(err)
		}
		if len(rows) > 0 && size+r.bytes > maxStatementBytes {
			if err := t.queuePut(work, rows); err != nil {
				return err
			}
			rows, size = rows[:0], 0 // the parameters are copies
		}
		rows = append(rows, r)
		size += r.bytes
	}
	if len(rows) > 0 {
		if err := t.queuePut(work, rows); err != nil {
			return err
		}
	}
	if len(gone) > 0 {
		// Children first, and last above: they may refer to their instance.
		for _, c := range t.children {
			work.Queue(c.deleteRows, gone)
		}
		work.Queue(t.deleteRows, gone)
	}
	return nil
}

// queuePut adds the statements that write instances.
func (t *table) queuePut(work *pgx.Batch, rows []row) error {
	if err := t.queueUpsert(work, rows); err != nil {
		return err
	}
	for i, c := range t.children {
		if err := c.queue(work, rows, i); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) encode(l located) (row, error) {
	m := t.mapping.New()
	if err := proto.Unmarshal(l.change.GetAfter().GetValue(), m); err != nil {
		return row{}, fmt.Errorf("the instance cannot be decoded: %w", err)
	}
	if l.change.GetAfter().GetVersion() > math.MaxInt64 {
		return row{}, fmt.Errorf("version %d is too large", l.change.GetAfter().GetVersion())
	}
	rows, err := t.mapping.Rows(l.change.GetKey(), m)
	if err != nil {
		return row{}, err
	}
	r := row{change: l, values: rows.Values, children: rows.Children, bytes: 16 + sizeOf(rows.Values)}
	for _, table := range rows.Children {
		for _, values := range table {
			r.bytes += sizeOf(values)
		}
	}
	if related := l.change.GetAfter().GetRelated(); t.mapping.Related && len(related) > 0 {
		if r.related, err = proto.Marshal(&rkcyv1.Instance{Related: related}); err != nil {
			return row{}, fmt.Errorf("related instances: %w", err)
		}
		r.bytes += len(r.related)
	}
	return r, nil
}

// sizeOf returns about how many bytes values are on their way.
func sizeOf(values []any) (bytes int) {
	for _, v := range values {
		switch v := v.(type) {
		case string:
			bytes += len(v) + 4
		case []byte:
			bytes += len(v) + 4
		default:
			bytes += 12
		}
	}
	return bytes
}

func (t *table) queueUpsert(work *pgx.Batch, rows []row) error {
	args := make([]any, 0, len(t.mapping.Columns)+2)
	for i, c := range t.mapping.Columns {
		a, err := arrays[c.Type].make(rows, i)
		if err != nil {
			return err
		}
		args = append(args, a)
	}
	versions := make(cells[pgtype.Int8], len(rows))
	times := make(cells[pgtype.Timestamptz], len(rows))
	for i, r := range rows {
		versions[i] = pgtype.Int8{Int64: int64(r.change.change.GetAfter().GetVersion()), Valid: true} //nolint:gosec // checked in encode
		times[i] = pgtype.Timestamptz{Time: time.UnixMilli(r.change.change.GetEffectiveTimeMs()).UTC(), Valid: true}
	}
	args = append(args, versions, times)
	if t.mapping.Related {
		related := make(pgtype.FlatArray[[]byte], len(rows))
		for i, r := range rows {
			related[i] = r.related
		}
		args = append(args, related)
	}
	work.Queue(t.upsertRows, args...)
	return nil
}

// Watermarks implements storage.Target.
func (t *Target) Watermarks(ctx context.Context, partitions []storage.Partition) (map[storage.Partition]int64, error) {
	out := make(map[storage.Partition]int64, len(partitions))
	var concerns []string
	var generations []int64
	var numbers []int32
	for _, p := range partitions {
		out[p] = 0
		concerns, generations, numbers = append(concerns, p.Concern), append(generations, int64(p.Generation)), append(numbers, p.Partition)
	}
	if len(partitions) == 0 {
		return out, nil
	}
	rows, err := t.pool.Query(ctx, readWatermarks, concerns, generations, numbers)
	if err != nil {
		return nil, fmt.Errorf("postgres: watermarks: %w", describe(err))
	}
	var p storage.Partition
	var generation, next int64
	_, err = pgx.ForEachRow(rows, []any{&p.Concern, &generation, &p.Partition, &next}, func() error {
		p.Generation = uint32(generation) //nolint:gosec // written from a uint32
		out[p] = next
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("postgres: watermarks: %w", describe(err))
	}
	return out, nil
}
