package platform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// WireVersion is that of the messages of this program.
const WireVersion = 1

// memberMark stands between client id and member id, in what the brokers know a
// member as.
const memberMark = "#"

// MembersGroup returns the consumer group whose sessions tell who lives.
func (n Names) MembersGroup() string { return n.prefix() + ".members" }

// Membership is the presence of a process in its platform. It has a session with
// the brokers, which ends when the process does, so that nobody needs to write down
// heartbeats. Run is called once; Acknowledge is safe for concurrent use.
type Membership struct {
	log    stream.Config
	names  Names
	member *rkcyv1.Member
	// session is how long the process may be silent.
	session time.Duration
	joined  chan struct{}
}

// NewMembership returns the presence of a member, whose id, roles and edge are set.
func NewMembership(log stream.Config, names Names, member *rkcyv1.Member, session time.Duration) *Membership {
	log = log.WithDefaults()
	m := proto.CloneOf(member)
	m.Client, m.WireVersion, m.StartedMs = log.ClientID, WireVersion, time.Now().UnixMilli()
	return &Membership{log: log, names: names, member: m, session: session, joined: make(chan struct{})}
}

// Joined is closed once the member has its session and has announced itself. What is
// read of the platform topic after that is all that was published for nobody to wait
// for.
func (m *Membership) Joined() <-chan struct{} { return m.joined }

// ID returns the id of the member.
func (m *Membership) ID() string { return m.member.GetId() }

// Run keeps the session until ctx ends, and then says goodbye.
func (m *Membership) Run(ctx context.Context) error {
	log := m.log
	log.ClientID += memberMark + m.ID()
	var group joiner
	g, err := stream.NewGroup(log, stream.GroupConfig{Group: m.names.MembersGroup(), Topics: []string{m.names.PlatformTopic()}, SessionTimeout: m.session}, &group)
	if err != nil {
		return fmt.Errorf("member: %w", err)
	}
	for ctx.Err() == nil {
		if _, err := g.Poll(ctx, 1, 200*time.Millisecond); err != nil {
			return errors.Join(fmt.Errorf("member: %w", err), g.Close())
		}
		if group.joined && !m.announced() {
			if err := m.append(ctx, keyMember, &rkcyv1.PlatformRecord{Kind: &rkcyv1.PlatformRecord_Member{Member: m.member}}); err != nil {
				return errors.Join(fmt.Errorf("member: %w", err), g.Close())
			}
			close(m.joined)
		}
	}
	if m.announced() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		gone := &rkcyv1.Member{Id: m.ID(), Gone: true}
		if err := m.append(last, keyMember, &rkcyv1.PlatformRecord{Kind: &rkcyv1.PlatformRecord_Member{Member: gone}}); err != nil {
			m.log.Logger.LogAttrs(ctx, slog.LevelDebug, "a member could not say goodbye", slog.Any("error", err))
		}
	}
	return g.Close()
}

func (m *Membership) announced() bool {
	select {
	case <-m.joined:
		return true
	default:
		return false
	}
}

// Acknowledge says that the member goes by a version, or has done its part in a
// phase of it, and has read the platform topic up to an offset.
func (m *Membership) Acknowledge(ctx context.Context, version uint64, phase string, offset int64) error {
	select {
	case <-m.joined:
	case <-ctx.Done():
		return ctx.Err()
	}
	return m.append(ctx, keyAck, &rkcyv1.PlatformRecord{Kind: &rkcyv1.PlatformRecord_Acknowledgement{
		Acknowledgement: &rkcyv1.Acknowledgement{Member: m.ID(), Version: version, Phase: phase, Offset: offset},
	}})
}

func (m *Membership) append(ctx context.Context, key string, r *rkcyv1.PlatformRecord) error {
	return Append(ctx, m.log, m.names, key, r)
}

// joiner notes that a group has taken its member in.
type joiner struct{ joined bool }

// Assigned implements stream.Listener.
func (j *joiner) Assigned([]stream.TopicPartition) { j.joined = true }

// Revoked implements stream.Listener.
func (j *joiner) Revoked([]stream.TopicPartition, bool) {}
