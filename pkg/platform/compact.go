package platform

import (
	"context"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// AuditRetention is how long operations are kept.
const AuditRetention = 90 * 24 * time.Hour

// Compact repeats all that the platform topic says in one record, a snapshot, and
// deletes what is before it, if there are at least so many records. It reports
// whether it did. A snapshot counts only at the very offset that it names, so one
// that something came before is passed over, and tried again another time.
func Compact(ctx context.Context, log stream.Config, names Names, records int, now time.Time) (bool, error) {
	s, err := Read(ctx, log, names)
	if err != nil || s.records < records || s.Current == nil {
		return false, err
	}
	admin, err := stream.NewAdmin(log)
	if err != nil {
		return false, err
	}
	defer admin.Close()
	alive, err := Alive(ctx, admin, names)
	if err != nil {
		return false, err
	}
	snapshot := s.snapshot(now.Add(-AuditRetention), func(id string) bool { return alive[id] })
	if err := Append(ctx, log, names, keySnapshot, &rkcyv1.PlatformRecord{Kind: &rkcyv1.PlatformRecord_Snapshot{Snapshot: snapshot}}); err != nil {
		return false, err
	}
	// The log decides whether it counts.
	after, err := Read(ctx, log, names)
	if err != nil {
		return false, err
	}
	if after.base != snapshot.GetOffset() {
		return false, nil
	}
	tp := stream.TopicPartition{Topic: names.PlatformTopic()}
	if err := admin.DeleteRecordsBefore(ctx, map[stream.TopicPartition]int64{tp: snapshot.GetOffset()}); err != nil {
		return false, away(err)
	}
	return true, nil
}
