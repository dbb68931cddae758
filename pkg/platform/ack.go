package platform

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// AckQuery asks who has acknowledged a version.
type AckQuery struct {
	Version uint64
	// Phase of a change that has several; "" says that the member goes by it.
	Phase string
	// Roles: members that have any of them. Empty: all.
	Roles []string
	// Timeout is how long to wait. Default 10 s.
	Timeout time.Duration
	// Author of the fence.
	Author string
}

// AckReport is what has become of it.
type AckReport struct {
	// Acknowledged and Missing are those whose session with the brokers lasts.
	Acknowledged, Missing []*rkcyv1.Member
	// Fenced are edges whose transactions are refused from now on: missing ones,
	// and those that ended without a word.
	Fenced []*rkcyv1.Member
}

// ackPause is how long AwaitAcks rests between two looks.
const ackPause = 50 * time.Millisecond

// AwaitAcks waits until every member that lives has acknowledged a version. Edges
// that have not when the time is over are fenced, and so are those that ended
// without a word: they may be asleep. Errors have CodeUnavailable.
func AwaitAcks(ctx context.Context, log stream.Config, names Names, q AckQuery) (*AckReport, error) {
	if q.Timeout == 0 {
		q.Timeout = 10 * time.Second
	}
	wait, cancel := context.WithTimeout(ctx, q.Timeout)
	defer cancel()
	admin, err := stream.NewAdmin(log)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	for {
		report, dead, err := lookAtAcks(ctx, admin, log, names, q)
		if err != nil {
			return nil, err
		}
		if len(report.Missing) > 0 {
			select {
			case <-time.After(ackPause):
				continue
			case <-wait.Done():
			}
		}
		return report, fence(ctx, log, names, q, report, dead)
	}
}

func lookAtAcks(ctx context.Context, admin *stream.Admin, log stream.Config, names Names, q AckQuery) (report *AckReport, dead []*rkcyv1.Member, err error) {
	// The sessions first: who is in none of them then, and has not read the version
	// before, reads it before it does anything.
	alive, err := Alive(ctx, admin, names)
	if err != nil {
		return nil, nil, err
	}
	s, err := readState(ctx, log, names)
	if err != nil {
		return nil, nil, err
	}
	report = &AckReport{}
	for _, m := range s.Members() {
		if len(q.Roles) > 0 && !slices.ContainsFunc(q.Roles, func(r string) bool { return slices.Contains(m.GetRoles(), r) }) {
			continue
		}
		version, _ := s.Acknowledged(m.GetId(), q.Phase)
		switch {
		case !alive[m.GetId()]:
			dead = append(dead, m)
		case version >= q.Version:
			report.Acknowledged = append(report.Acknowledged, m)
		default:
			report.Missing = append(report.Missing, m)
		}
	}
	return report, dead, nil
}

// Alive returns the ids of the members whose session with the brokers lasts.
func Alive(ctx context.Context, admin *stream.Admin, names Names) (map[string]bool, error) {
	group := names.MembersGroup()
	groups, err := admin.DescribeGroups(ctx, []string{group})
	if err != nil {
		return nil, away(err)
	}
	alive := map[string]bool{}
	for _, m := range groups[group].Members {
		if _, id, ok := strings.Cut(m.ClientID, memberMark); ok {
			alive[id] = true
		}
	}
	return alive, nil
}

// fence refuses what edges submit that did not acknowledge.
func fence(ctx context.Context, log stream.Config, names Names, q AckQuery, report *AckReport, dead []*rkcyv1.Member) error {
	f := &rkcyv1.Fence{Version: q.Version, Author: q.Author, TimeMs: time.Now().UnixMilli()}
	for _, m := range slices.Concat(report.Missing, dead) {
		if m.GetEdge() == 0 {
			continue
		}
		f.Edges = append(f.Edges, m.GetEdge())
		f.Members = append(f.Members, m.GetId())
		report.Fenced = append(report.Fenced, m)
	}
	if len(f.GetEdges()) == 0 {
		return nil
	}
	return Append(ctx, log, names, keyFence, &rkcyv1.PlatformRecord{Kind: &rkcyv1.PlatformRecord_Fence{Fence: f}})
}

// Keys of records that are no versions.
const (
	keyMember    = "member"
	keyAck       = "acknowledgement"
	keyFence     = "fence"
	keyOperation = "operation"
	keySnapshot  = "snapshot"
)
