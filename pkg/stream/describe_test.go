package stream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
)

// What nobody is in has no members, and topics show replicas and settings.
func TestDescribe(t *testing.T) {
	cfg := streamtest.Config(t)
	admin, err := stream.NewAdmin(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	topic := streamtest.Name("describe")
	if _, err := admin.EnsureTopics(t.Context(), []stream.TopicSpec{{Name: topic, Partitions: 2, Replication: 1, Config: map[string]string{"retention.ms": "1234567"}}}); err != nil {
		t.Fatal(err)
	}
	groups, err := admin.DescribeGroups(t.Context(), []string{topic})
	if err != nil || len(groups[topic].Members) != 0 {
		t.Errorf("%v, %v", groups, err)
	}
	replicas, err := admin.TopicReplicas(t.Context())
	if err != nil || replicas[topic] != (stream.Replicas{Total: 1, InSync: 1}) {
		t.Errorf("%v, %v", replicas[topic], err)
	}
	configs, err := admin.TopicConfigs(t.Context(), []string{topic})
	if err != nil || configs[topic]["retention.ms"] != "1234567" {
		t.Errorf("%v, %v", configs[topic]["retention.ms"], err)
	}
}

// Several partitions are read to their ends, each in order, and no further.
func TestFollowMany(t *testing.T) {
	cfg := streamtest.Config(t)
	admin, err := stream.NewAdmin(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	topic := streamtest.Name("many")
	if _, err := admin.EnsureTopics(t.Context(), []stream.TopicSpec{{Name: topic, Partitions: 3, Replication: 1}}); err != nil {
		t.Fatal(err)
	}
	producer, err := stream.NewProducer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	send := func(p int32, value string) {
		if err := producer.Send(t.Context(), topic, p, nil, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		send(0, fmt.Sprint("a", i))
		send(1, fmt.Sprint("b", i))
	}
	tps := []stream.TopicPartition{{Topic: topic}, {Topic: topic, Partition: 1}, {Topic: topic, Partition: 2}}
	ends, err := admin.StableOffsets(t.Context(), tps)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := stream.NewReader(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	got := map[int32][]string{}
	take := func(batch []stream.Record) error {
		for _, r := range batch {
			got[r.Partition] = append(got[r.Partition], string(r.Value))
		}
		return nil
	}
	from := map[stream.TopicPartition]int64{tps[0]: 7, tps[1]: 0, tps[2]: 0}
	if err := reader.FollowMany(t.Context(), from, ends, take); err != nil {
		t.Fatal(err)
	}
	if a, b := strings.Join(got[0], " "), len(got[1]); a != "a7 a8 a9" || b != 10 || len(got[2]) != 0 {
		t.Errorf("got %v", got)
	}
	// Without ends it goes on until the context ends, and an error ends it.
	ctx, cancel := context.WithCancel(t.Context())
	send(2, "late")
	if err := reader.FollowMany(ctx, map[stream.TopicPartition]int64{tps[2]: 0}, nil, func(batch []stream.Record) error {
		cancel()
		return take(batch)
	}); err != nil || len(got[2]) != 1 {
		t.Errorf("%v, %v", got[2], err)
	}
	enough := errors.New("enough")
	if err := reader.FollowMany(t.Context(), from, nil, func([]stream.Record) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("%v, want %v", err, enough)
	}
}
