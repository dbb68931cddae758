package integration

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Records that nobody can read go to the error topic, with the reason, and
// hold nothing up, also after a restart.
func TestServersUndecodableRecord(t *testing.T) {
	t.Parallel()
	s := newServers(t)
	p := s.start()
	producer, err := stream.NewProducer(s.stream())
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	empty, err := proto.Marshal(&rkcyv1.ProcessRecord{})
	if err != nil {
		t.Fatal(err)
	}
	stepless, err := proto.Marshal(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Visit{Visit: &rkcyv1.Visit{}}})
	if err != nil {
		t.Fatal(err)
	}
	marker, err := proto.Marshal(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Marker{Marker: &rkcyv1.Marker{TxnId: []byte("short")}}})
	if err != nil {
		t.Fatal(err)
	}
	bad := [][]byte{{0xff, 0xff, 0xff}, empty, stepless, marker, nil}
	const key = "p1"
	at := stream.PartitionFor([]byte(key), partitions)
	put := func(value []byte) {
		t.Helper()
		if err := producer.Send(t.Context(), s.names().ProcessTopic("player"), at, []byte(key), value); err != nil {
			t.Fatal(err)
		}
	}
	for _, value := range bad {
		put(value)
	}
	create(t, p.client(), key) // in the same partition, behind them
	found := quarantined(s, "player")
	if len(found) != len(bad) {
		t.Fatalf("%d records in the error topic, want %d: %v", len(found), len(bad), found)
	}
	for i, q := range found {
		if q.GetReason() == "" || q.GetTopic() != s.names().ProcessTopic("player") || q.GetPartition() != at || q.GetOffset() != int64(i) ||
			string(q.GetKey()) != key || string(q.GetValue()) != string(bad[i]) {
			t.Errorf("record %d is quarantined as %v", i, q)
		}
	}
	put([]byte{0xff})
	p.kill()
	p = s.start()
	for i := range 10 {
		revise(t, p.client(), key, fmt.Sprint("again", i))
	}
	if n := len(quarantined(s, "player")); n != len(bad)+1 {
		t.Errorf("%d records in the error topic, want %d", n, len(bad)+1)
	}
	s.awaitPlayer(key, "again9", 11)
	p.stop()
}
