package devbroker

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// recoverEmbedded mends a data folder whose broker was killed, before kfake
// reads it. kfake itself regards transactions that were open as aborted, but
// writes that down nowhere, and it keeps serving their producers:
//
//   - After a second crash, the commit marker of the producer's next
//     transaction would make the records of the aborted one visible. So each
//     open transaction gets its abort marker.
//   - A producer whose transaction had nothing but offsets, or whose records
//     were still on their way, would be told that its commit succeeded. So
//     the epoch of every transactional producer is raised, which fences it.
//   - What is appended behind a torn entry of its logs is not found again. So
//     torn ends are cut off.
//   - A batch whose index entry is missing would not count as transactional.
//     So the index is completed from the batches.
//
// It knows the files of the version of kfake that go.mod pins.
func recoverEmbedded(dir string) error {
	parts, err := os.ReadDir(filepath.Join(dir, "partitions"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, p := range parts {
		if err := recoverPartition(filepath.Join(dir, "partitions", p.Name())); err != nil {
			return fmt.Errorf("recover %s: %w", p.Name(), err)
		}
	}
	if _, err := cutLog(filepath.Join(dir, "groups.log")); err != nil {
		return err
	}
	return fenceProducers(filepath.Join(dir, "pids.log"))
}

const (
	attrTransactional = 0x10
	attrControl       = 0x20
	batchHeader       = 61
	indexEntry        = 15
)

// castagnoli is a function, as the package has no state.
func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// recoverPartition completes the last segment of a partition.
func recoverPartition(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.dat"))
	if err != nil || len(files) == 0 {
		return err
	}
	base := func(file string) int64 {
		n, _ := strconv.ParseInt(strings.TrimSuffix(filepath.Base(file), ".dat"), 10, 64)
		return n
	}
	slices.SortFunc(files, func(a, b string) int { return int(base(a) - base(b)) })
	opened := map[int64]int16{} // epoch by producer id
	var next int64
	for i, file := range files {
		raw, err := os.ReadFile(file) //nolint:gosec // in our folder
		if err != nil {
			return err
		}
		index, err := os.ReadFile(strings.TrimSuffix(file, ".dat") + ".idx") //nolint:gosec // in our folder
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		valid, batches := 0, 0
		for size := batchSize(raw); size > 0; size = batchSize(raw[valid:]) {
			b := raw[valid : valid+size]
			attributes := binary.BigEndian.Uint16(b[21:])
			producer, epoch := int64(binary.BigEndian.Uint64(b[43:])), int16(binary.BigEndian.Uint16(b[51:])) //nolint:gosec // the same bits
			switch {
			case attributes&attrControl != 0:
				delete(opened, producer)
			case attributes&attrTransactional != 0:
				opened[producer] = epoch
			}
			next = int64(binary.BigEndian.Uint64(b)) + int64(binary.BigEndian.Uint32(b[23:])) + 1 //nolint:gosec // an offset
			if batches++; len(index) < batches*indexEntry {
				index = appendIndex(index[:(batches-1)*indexEntry], 0, attributes&(attrTransactional|attrControl) == attrTransactional)
			}
			valid += size
		}
		raw, index = raw[:valid], index[:batches*indexEntry]
		if i == len(files)-1 {
			for _, producer := range slices.Sorted(maps.Keys(opened)) {
				raw = abortMarker(next, producer, opened[producer]).AppendTo(raw)
				index = appendIndex(index, 0, false)
				next++
			}
		}
		if err := errors.Join(
			replaceFile(file, raw), replaceFile(strings.TrimSuffix(file, ".dat")+".idx", index),
		); err != nil {
			return err
		}
	}
	// A snapshot that still matches would hide the markers.
	if err := os.Remove(filepath.Join(dir, "snapshot.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// batchSize returns the size of the valid batch that raw begins with, else 0.
func batchSize(raw []byte) int {
	if len(raw) < batchHeader {
		return 0
	}
	size := 12 + int64(binary.BigEndian.Uint32(raw[8:]))
	if size < batchHeader || size > int64(len(raw)) || castagnoli(raw[21:size]) != binary.BigEndian.Uint32(raw[17:]) {
		return 0
	}
	return int(size)
}

func appendIndex(index []byte, epoch uint32, transactional bool) []byte {
	var e [indexEntry]byte
	e[0] = 1 // version
	binary.LittleEndian.PutUint32(e[2:], epoch)
	if transactional {
		e[14] = 1
	}
	e[1] = byte(castagnoli(e[2:]))
	return append(index, e[:]...)
}

// abortMarker is the control batch that ends a transaction.
func abortMarker(offset, producer int64, epoch int16) *kmsg.RecordBatch {
	record := kmsg.Record{
		Key:   (&kmsg.ControlRecordKey{Type: kmsg.ControlRecordKeyTypeAbort}).AppendTo(nil),
		Value: (&kmsg.EndTxnMarker{}).AppendTo(nil),
	}
	record.Length = int32(len(record.AppendTo(nil)) - 1) //nolint:gosec // a few bytes, whose length takes one
	now := time.Now().UnixMilli()
	b := &kmsg.RecordBatch{
		FirstOffset: offset, PartitionLeaderEpoch: -1, Magic: 2, Attributes: attrControl | attrTransactional,
		FirstTimestamp: now, MaxTimestamp: now, ProducerID: producer, ProducerEpoch: epoch, FirstSequence: -1,
		NumRecords: 1, Records: record.AppendTo(nil),
	}
	raw := b.AppendTo(nil)
	b.Length = int32(len(raw) - 12)                 //nolint:gosec // a few bytes
	b.CRC = int32(castagnoli(b.AppendTo(nil)[21:])) //nolint:gosec // the same bits
	return b
}

// replaceFile writes a file unless it is that already.
func replaceFile(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && slices.Equal(old, content) { //nolint:gosec // in our folder
		return nil
	}
	if err := os.WriteFile(path+".recover", content, 0o600); err != nil { //nolint:gosec // in our folder
		return err
	}
	return os.Rename(path+".recover", path)
}

// cutLog cuts the torn end off a log of kfake and returns its entries: length,
// CRC, version, content.
func cutLog(path string) ([][]byte, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // in our folder
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	valid := 0
	for rest := raw; len(rest) >= 10; rest = raw[valid:] {
		end := 8 + int64(binary.LittleEndian.Uint32(rest))
		if end < 10 || end > int64(len(rest)) || castagnoli(rest[8:end]) != binary.LittleEndian.Uint32(rest[4:]) {
			break
		}
		entries = append(entries, rest[10:end])
		valid += int(end)
	}
	if valid == len(raw) {
		return entries, nil
	}
	return entries, os.Truncate(path, int64(valid))
}

// producerEntry is an entry of pids.log.
type producerEntry struct {
	Type    string `json:"type"`
	PID     int64  `json:"pid"`
	Epoch   int16  `json:"epoch"`
	TxID    string `json:"txid,omitempty"`
	Timeout int32  `json:"timeout,omitempty"`
}

// fenceProducers raises the epoch of every transactional producer.
func fenceProducers(path string) error {
	entries, err := cutLog(path)
	if err != nil {
		return err
	}
	producers := map[int64]producerEntry{}
	for _, raw := range entries {
		var e producerEntry
		if err := json.Unmarshal(raw, &e); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if e.Type == "init" && e.TxID != "" {
			producers[e.PID] = e
		} else if p, ok := producers[e.PID]; ok {
			p.Epoch = e.Epoch
			producers[e.PID] = p
		}
	}
	var out []byte
	for _, pid := range slices.Sorted(maps.Keys(producers)) {
		e := producers[pid]
		e.Epoch++
		text, err := json.Marshal(e)
		if err != nil {
			return err
		}
		framed := make([]byte, 10, 10+len(text))
		binary.LittleEndian.PutUint16(framed[8:], 1) // version
		framed = append(framed, text...)
		binary.LittleEndian.PutUint32(framed, uint32(len(framed)-8)) //nolint:gosec // short
		binary.LittleEndian.PutUint32(framed[4:], castagnoli(framed[8:]))
		out = append(out, framed...)
	}
	if len(out) == 0 {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // in our folder
	if err != nil {
		return err
	}
	_, err = f.Write(out)
	return errors.Join(err, f.Close())
}
