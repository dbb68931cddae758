package platform

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Bounds of what is remembered of the platform topic.
const (
	maxVersions   = 100
	maxMembers    = 10_000
	maxOperations = 5_000
	maxFences     = 1_000
)

// State is what the platform topic says, up to an offset. It is immutable.
type State struct {
	// Next is the offset of the first record that is not part of it.
	Next int64
	// Current is the published version, nil if there is none.
	Current *rkcyv1.PlatformVersion
	// Versions are the newest of them, oldest first, Current included.
	Versions []*rkcyv1.PlatformVersion
	// Operations is the audit log, oldest first.
	Operations []*rkcyv1.Operation
	// Pauses are the operations that paused what is paused now, oldest first.
	Pauses []*rkcyv1.Operation
	// Fences are the newest of them, oldest first.
	Fences []*rkcyv1.Fence

	members map[string]*rkcyv1.Member
	acks    map[ackKey]*rkcyv1.Acknowledgement
	// base is the offset of the last snapshot, and records are those since.
	base    int64
	records int
}

type ackKey struct{ member, phase string }

// Version returns a published version, nil if it is not remembered.
func (s *State) Version(number uint64) *rkcyv1.PlatformVersion {
	for _, v := range s.Versions {
		if v.GetVersion() == number {
			return v
		}
	}
	return nil
}

// Members returns who has announced itself, and neither stopped in order nor was
// fenced, by start.
func (s *State) Members() []*rkcyv1.Member {
	return slices.SortedFunc(maps.Values(s.members), func(a, b *rkcyv1.Member) int {
		return cmp.Or(cmp.Compare(a.GetStartedMs(), b.GetStartedMs()), cmp.Compare(a.GetId(), b.GetId()))
	})
}

// Has says whether a member has announced itself, and neither stopped in order nor
// was fenced.
func (s *State) Has(member string) bool { return s.members[member] != nil }

// Acknowledged returns the newest version that a member acknowledged in a phase,
// and up to which offset of the topic it had read; 0 if it did not yet.
func (s *State) Acknowledged(member, phase string) (version uint64, offset int64) {
	a := s.acks[ackKey{member, phase}]
	return a.GetVersion(), a.GetOffset()
}

// Paused returns the operation that paused a partition of a Concern, nil if it is
// not paused.
func (s *State) Paused(concern string, partition int32) *rkcyv1.Operation {
	for _, op := range s.Pauses {
		scope := op.GetScope()
		if scope.GetTarget() == "" && scope.GetConcern() == concern && (scope.GetPartition() < 0 || scope.GetPartition() == partition) {
			return op
		}
	}
	return nil
}

// TargetPaused returns the operation that paused a storage target, nil if it is not
// paused.
func (s *State) TargetPaused(target string) *rkcyv1.Operation {
	for _, op := range s.Pauses {
		if op.GetScope().GetTarget() == target {
			return op
		}
	}
	return nil
}

// FencedEdge returns the fence that an edge is behind, nil if there is none.
func (s *State) FencedEdge(edge uint64) *rkcyv1.Fence {
	for _, f := range s.Fences {
		if slices.Contains(f.GetEdges(), edge) {
			return f
		}
	}
	return nil
}

// FencedMember returns the fence that a member is behind, nil if there is none.
func (s *State) FencedMember(id string) *rkcyv1.Fence {
	for _, f := range s.Fences {
		if slices.Contains(f.GetMembers(), id) {
			return f
		}
	}
	return nil
}

func (s *State) clone() *State {
	c := *s
	c.Versions, c.Operations = slices.Clone(s.Versions), slices.Clone(s.Operations)
	c.Pauses, c.Fences = slices.Clone(s.Pauses), slices.Clone(s.Fences)
	c.members, c.acks = maps.Clone(s.members), maps.Clone(s.acks)
	return &c
}

// journal folds the records of the platform topic. Versions are a chain: each is
// one more than the last, and of several with the same number the first counts.
type journal struct {
	logger *slog.Logger
	state  *State
}

func newJournal(logger *slog.Logger) *journal {
	return &journal{logger: logger, state: &State{members: map[string]*rkcyv1.Member{}, acks: map[ackKey]*rkcyv1.Acknowledgement{}}}
}

// add takes a record in. It returns true if the record says something new.
func (j *journal) add(r stream.Record) bool {
	s := j.state
	s.Next = r.Offset + 1
	s.records++
	if string(r.Key) == platformKey {
		v := &rkcyv1.PlatformVersion{}
		if err := proto.Unmarshal(r.Value, v); err != nil {
			j.logger.Warn("a record on the platform topic is not a version", "topic", r.Topic, "offset", r.Offset, "error", err)
			return false
		}
		if v.GetVersion() != s.Current.GetVersion()+1 {
			j.logger.Debug("a version lost against another", "topic", r.Topic, "offset", r.Offset, "version", v.GetVersion())
			return false
		}
		s.Current, s.Versions = v, newest(append(s.Versions, v), maxVersions)
		return true
	}
	m := &rkcyv1.PlatformRecord{}
	if err := proto.Unmarshal(r.Value, m); err != nil {
		j.logger.Warn("a record on the platform topic cannot be read", "topic", r.Topic, "offset", r.Offset, "error", err)
		return false
	}
	return j.record(r, m)
}

func (j *journal) record(r stream.Record, m *rkcyv1.PlatformRecord) bool {
	s := j.state
	switch k := m.GetKind().(type) {
	case *rkcyv1.PlatformRecord_Member:
		s.member(k.Member)
	case *rkcyv1.PlatformRecord_Acknowledgement:
		a := k.Acknowledgement
		key := ackKey{a.GetMember(), a.GetPhase()}
		if have := s.acks[key]; s.members[a.GetMember()] == nil || have.GetVersion() > a.GetVersion() || have.GetOffset() > a.GetOffset() {
			return false
		}
		s.acks[key] = a
	case *rkcyv1.PlatformRecord_Operation:
		s.operation(k.Operation)
	case *rkcyv1.PlatformRecord_Fence:
		s.Fences = newest(append(s.Fences, k.Fence), maxFences)
		for _, id := range k.Fence.GetMembers() {
			s.forget(id)
		}
	case *rkcyv1.PlatformRecord_Snapshot:
		if k.Snapshot.GetOffset() != r.Offset {
			j.logger.Debug("a snapshot does not count: something came between", "topic", r.Topic, "offset", r.Offset)
			return false
		}
		j.state = stateOf(k.Snapshot)
	default:
		j.logger.Debug("a record of a kind that is not known here", "topic", r.Topic, "offset", r.Offset)
		return false
	}
	return true
}

func (s *State) member(m *rkcyv1.Member) {
	switch {
	case m.GetGone():
		s.forget(m.GetId())
	case s.FencedMember(m.GetId()) == nil && len(s.members) < maxMembers:
		s.members[m.GetId()] = m
	}
}

func (s *State) forget(member string) {
	delete(s.members, member)
	maps.DeleteFunc(s.acks, func(k ackKey, _ *rkcyv1.Acknowledgement) bool { return k.member == member })
}

// Actions of operations that the journal itself goes by.
const (
	ActionPause  = "pause"
	ActionResume = "resume"
)

func (s *State) operation(op *rkcyv1.Operation) {
	if i := slices.IndexFunc(s.Operations, func(o *rkcyv1.Operation) bool { return o.GetId() == op.GetId() }); i >= 0 {
		ended := proto.CloneOf(s.Operations[i])
		ended.Outcome = op.GetOutcome()
		s.Operations[i] = ended
		return
	}
	s.Operations = newest(append(s.Operations, op), maxOperations)
	same := func(o *rkcyv1.Operation) bool { return proto.Equal(o.GetScope(), op.GetScope()) }
	switch {
	case op.GetAction() == ActionPause && !slices.ContainsFunc(s.Pauses, same):
		s.Pauses = append(s.Pauses, op)
	case op.GetAction() == ActionResume:
		s.Pauses = slices.DeleteFunc(s.Pauses, same)
	}
}

// ScopeText returns what is paused in words.
func ScopeText(s *rkcyv1.PauseScope) string {
	switch {
	case s.GetTarget() != "":
		return "storage target " + s.GetTarget()
	case s.GetPartition() >= 0:
		return fmt.Sprintf("partition %d of Concern %s", s.GetPartition(), s.GetConcern())
	}
	return "Concern " + s.GetConcern()
}

// newest bounds a list whose newest elements are at its end.
func newest[T any](list []T, n int) []T {
	if len(list) > n {
		return slices.Clone(list[len(list)-n:])
	}
	return list
}

func stateOf(p *rkcyv1.PlatformSnapshot) *State {
	s := &State{
		Next: p.GetOffset() + 1, base: p.GetOffset(), Versions: p.GetVersions(), Operations: p.GetOperations(), Pauses: p.GetPauses(), Fences: p.GetFences(),
		members: map[string]*rkcyv1.Member{}, acks: map[ackKey]*rkcyv1.Acknowledgement{},
	}
	if n := len(s.Versions); n > 0 {
		s.Current = s.Versions[n-1]
	}
	for _, m := range p.GetMembers() {
		s.members[m.GetId()] = m
	}
	for _, a := range p.GetAcknowledgements() {
		s.acks[ackKey{a.GetMember(), a.GetPhase()}] = a
	}
	return s
}

// snapshot returns the record that repeats the state, without what is not needed
// any more: operations from before a time, and members that do not live.
func (s *State) snapshot(since time.Time, lives func(id string) bool) *rkcyv1.PlatformSnapshot {
	p := &rkcyv1.PlatformSnapshot{Offset: s.Next, Versions: s.Versions, Pauses: s.Pauses, Fences: s.Fences}
	for _, m := range s.Members() {
		// An edge that died was not told to stop; it is kept until it is fenced.
		if m.GetEdge() != 0 || lives(m.GetId()) {
			p.Members = append(p.Members, m)
		}
	}
	for _, m := range p.GetMembers() {
		for key, a := range s.acks {
			if key.member == m.GetId() {
				p.Acknowledgements = append(p.Acknowledgements, a)
			}
		}
	}
	for _, op := range s.Operations {
		if op.GetTimeMs() >= since.UnixMilli() {
			p.Operations = append(p.Operations, op)
		}
	}
	for n := len(p.GetOperations()); n > 0 && proto.Size(p) > maxSnapshot; n = len(p.GetOperations()) {
		p.Operations = p.Operations[(n+1)/2:]
	}
	for n := len(p.GetVersions()); n > 1 && proto.Size(p) > maxSnapshot; n = len(p.GetVersions()) {
		p.Versions = p.Versions[n/2:]
	}
	return p
}

// maxSnapshot is the size of a snapshot above which it leaves out the oldest of
// what it repeats.
const maxSnapshot = 3 << 20
