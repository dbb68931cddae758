package integration

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/internal/audit"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// change is one record of the change feed of characters.
type change struct {
	key           string
	version       uint64
	id            txn.ID
	before, after *rpgv1.Currency // before is nil for a new instance
}

// feed is all that the storage topic of characters has.
type feed struct {
	byTxn map[txn.ID][]change
	last  map[string]change
}

// readFeed reads the change feed, and checks that the versions of each instance
// are 1, 2, 3 and so on, without gap or repetition, and that no balance is
// negative.
func readFeed(s *system) *feed {
	s.t.Helper()
	f := &feed{byTxn: map[txn.ID][]change{}, last: map[string]change{}}
	topic := s.names().StorageTopic("character")
	s.readAll(topic, func(r stream.Record) error {
		c := &rkcyv1.Change{}
		if err := proto.Unmarshal(r.Value, c); err != nil {
			return err
		}
		at := fmt.Sprintf("%s[%d]@%d: %s", r.Topic, r.Partition, r.Offset, c.GetKey())
		switch {
		case string(r.Key) != c.GetKey():
			s.t.Errorf("%s: the record's key is %q", at, r.Key)
		case stream.PartitionFor(r.Key, partitions) != r.Partition:
			s.t.Errorf("%s: is in the wrong partition", at)
		}
		before := f.last[c.GetKey()]
		if got, want := c.GetAfter().GetVersion(), before.version+1; got != want {
			s.t.Errorf("%s: version %d follows on %d", at, got, before.version)
		}
		after := &rpgv1.Character{}
		if err := proto.Unmarshal(c.GetAfter().GetValue(), after); err != nil {
			return err
		}
		now := change{
			key: c.GetKey(), version: c.GetAfter().GetVersion(), id: txn.ID(c.GetTxnId()), before: before.after, after: after.GetCurrency(),
		}
		if now.after.GetGold() < 0 || now.after.GetFaction_0() < 0 {
			s.t.Errorf("%s: negative balance %v", at, now.after)
		}
		f.last[now.key] = now
		f.byTxn[now.id] = append(f.byTxn[now.id], now)
		return nil
	})
	return f
}

// readAll reads every committed record of a topic, partition by partition.
func (s *system) readAll(topic string, fn func(stream.Record) error) {
	s.t.Helper()
	if err := audit.ReadAll(s.t.Context(), s.stream(), topic, partitions, fn); err != nil {
		s.t.Fatal(err)
	}
}

// openHolds returns how many holds and parked visits the state topics have.
// Once all is done there are none.
func openHolds(s *system) int {
	s.t.Helper()
	sum := 0
	for topic := range s.topics() {
		name, _, _, kind, _, _ := platform.ParseTopic(topic)
		if name != s.name || kind != platform.KindState {
			continue
		}
		n, err := audit.OpenHolds(s.t.Context(), s.stream(), topic, partitions)
		if err != nil {
			s.t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// quarantined returns the records of a Concern's error topic.
func quarantined(s *system, concern string) []*rkcyv1.Quarantined {
	s.t.Helper()
	reader, err := stream.NewReader(s.stream())
	if err != nil {
		s.t.Fatal(err)
	}
	defer reader.Close()
	var out []*rkcyv1.Quarantined
	_, err = reader.ReadTo(s.t.Context(), stream.TopicPartition{Topic: s.names().ErrorTopic(concern)}, stream.OffsetBeginning, func(r stream.Record) error {
		q := &rkcyv1.Quarantined{}
		if err := proto.Unmarshal(r.Value, q); err != nil {
			return err
		}
		out = append(out, q)
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}
