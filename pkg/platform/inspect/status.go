package inspect

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// PlatformStatus is what can be seen of a running platform from outside.
type PlatformStatus struct {
	Platform    string    `json:"platform"`
	Environment string    `json:"environment"`
	Version     uint64    `json:"version"`
	Published   time.Time `json:"published"`
	Author      string    `json:"author"`
	Brokers     int       `json:"brokers"`
	// Members of the group of processors.
	Members  []Member        `json:"members"`
	Concerns []ConcernStatus `json:"concerns"`
	Storage  []StorageStatus `json:"storage"`
	// Oldest is the transaction that has held or waited for longest, and not for a
	// time; nil if there is none.
	Oldest *Waiting `json:"oldest,omitempty"`
	// Paused is what is paused, by whom, and why, in words.
	Paused []string `json:"paused"`
	// Problems are what somebody should look at, in words.
	Problems []string `json:"problems"`
}

// Member is one worker of a processor.
type Member struct {
	Client     string `json:"client"`
	Host       string `json:"host"`
	Partitions int    `json:"partitions"`
}

// ConcernStatus is that of a Concern.
type ConcernStatus struct {
	Name       string            `json:"name"`
	Generation uint32            `json:"generation"`
	Partitions []PartitionStatus `json:"partitions"`
}

// PartitionStatus is that of a process partition.
type PartitionStatus struct {
	Partition int32 `json:"partition"`
	// Owner is the client id of the member that has it, "" for nobody.
	Owner string `json:"owner"`
	// Committed is the position of its owner, -1 if it never had one; Stable the
	// last stable offset and End the high watermark.
	Committed int64 `json:"committed"`
	Stable    int64 `json:"stable"`
	End       int64 `json:"end"`
	// Behind is how many records are committed and not processed yet. Past
	// countLimit offsets they are not counted, and Exact is false.
	Behind int64 `json:"behind"`
	Exact  bool  `json:"exact"`
	// Open is how many offsets belong to Kafka transactions that are open, or lie
	// behind one.
	Open int64 `json:"open"`
}

// StorageStatus is that of a Concern and a target.
type StorageStatus struct {
	Concern string `json:"concern"`
	Target  string `json:"target"`
	// Members are the client ids of the storage workers.
	Members []string `json:"members"`
	// Behind is how many changes the target does not have yet.
	Behind int64 `json:"behind"`
	Exact  bool  `json:"exact"`
}

// countLimit is up to which distance records are counted one by one; offsets also
// count the markers of Kafka transactions.
const countLimit = 2000

// looker asks brokers, for one look.
type looker struct {
	inspector *Inspector
	admin     *stream.Admin
	reader    *stream.Reader
	topics    map[string]int
	state     *platform.State
}

func (i *Inspector) looker(ctx context.Context) (*looker, error) {
	admin, err := stream.NewAdmin(i.log)
	if err != nil {
		return nil, err
	}
	l := &looker{inspector: i, admin: admin}
	if l.topics, err = admin.Topics(ctx); err != nil {
		admin.Close()
		return nil, away(err)
	}
	if l.reader, err = stream.NewReader(i.log); err != nil {
		admin.Close()
		return nil, err
	}
	return l, nil
}

func (l *looker) close() {
	l.reader.Close()
	l.admin.Close()
}

// missingTopics returns what is wrong with the topics of the published version.
func (l *looker) missingTopics() (problems []string) {
	for _, spec := range platform.Topics(l.inspector.router.Config()) {
		switch n, exists := l.topics[spec.Name]; {
		case !exists:
			problems = append(problems, fmt.Sprintf("topic %s does not exist", spec.Name))
		case n == 0:
			problems = append(problems, fmt.Sprintf("topic %s has a partition without a leader: a broker is away", spec.Name))
		case n != spec.Partitions:
			problems = append(problems, fmt.Sprintf("topic %s has %d partitions, but %d are published", spec.Name, n, spec.Partitions))
		}
	}
	return problems
}

// usable says whether a topic's partitions can be asked.
func (l *looker) usable(topic string, partitions int32) bool {
	return l.topics[topic] == int(partitions)
}

func partitionsOf(topic string, n int32) []stream.TopicPartition {
	tps := make([]stream.TopicPartition, n)
	for p := range n {
		tps[p] = stream.TopicPartition{Topic: topic, Partition: p}
	}
	return tps
}

// behind counts the committed records from a position to the last stable offset.
func (l *looker) behind(ctx context.Context, tp stream.TopicPartition, position, low, stable int64) (n int64, exact bool, err error) {
	from := max(position, low, 0)
	if stable-from > countLimit {
		return stable - from, false, nil
	}
	_, err = l.reader.ReadUntil(ctx, tp, from, stable, func(stream.Record) error { n++; return nil })
	return n, true, err
}

// Platform looks at a platform whose published version the inspector was made with.
// Errors have CodeUnavailable; what is only missing is among the problems.
func (i *Inspector) Platform(ctx context.Context, targets []string) (*PlatformStatus, error) {
	l, err := i.looker(ctx)
	if err != nil {
		return nil, err
	}
	defer l.close()
	p, names := i.router.Config(), i.router.Names()
	s := &PlatformStatus{Platform: p.GetName(), Environment: p.GetEnvironment(), Members: []Member{}, Problems: l.missingTopics()}
	if s.Brokers, err = l.admin.Brokers(ctx); err != nil {
		return nil, away(err)
	}
	if l.state, err = platform.Read(ctx, i.log, names); err != nil {
		return nil, err
	}
	s.Paused = []string{}
	for _, op := range l.state.Pauses {
		s.Paused = append(s.Paused, fmt.Sprintf("%s, by %s since %s: %s", platform.ScopeText(op.GetScope()), op.GetAuthor(), at(op.GetTimeMs()).Format(time.RFC3339), op.GetReason()))
	}
	groups, err := l.admin.DescribeGroups(ctx, []string{names.ProcessGroup()})
	if err != nil {
		return nil, away(err)
	}
	owners := map[stream.TopicPartition]string{}
	for _, m := range groups[names.ProcessGroup()].Members {
		s.Members = append(s.Members, Member{Client: m.ClientID, Host: m.Host, Partitions: len(m.Partitions)})
		for _, tp := range m.Partitions {
			owners[tp] = m.ClientID
		}
	}
	if len(s.Members) == 0 {
		s.Problems = append(s.Problems, "no processor runs")
	}
	for _, c := range p.GetConcerns() {
		if err := l.concern(ctx, s, c.GetName(), owners); err != nil {
			return nil, err
		}
	}
	for _, t := range targets {
		for _, c := range p.GetConcerns() {
			if err := l.storage(ctx, s, c.GetName(), t); err != nil {
				return nil, err
			}
		}
	}
	if len(s.Problems) == 0 { // else some topic may not be there
		if s.Oldest, err = i.oldest(ctx); err != nil {
			return nil, err
		}
	}
	s.Problems = slices.Clip(append([]string{}, s.Problems...))
	return s, nil
}

// oldest returns the oldest transaction that holds or waits, and not for a time.
func (i *Inspector) oldest(ctx context.Context) (*Waiting, error) {
	found, err := i.Waiting(ctx, nil, WaitingFilter{States: []string{StateHolds, StateParked, StateRestarts, StateStuck}})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return slices.MinFunc(found, func(a, b *Waiting) int { return a.Submitted.Compare(b.Submitted) }), nil
}

func (l *looker) concern(ctx context.Context, s *PlatformStatus, name string, owners map[stream.TopicPartition]string) error {
	router := l.inspector.router
	names := router.Names()
	topic, n := names.ProcessTopic(name), router.Partitions(name)
	out := ConcernStatus{Name: name, Generation: names.Generation(name), Partitions: []PartitionStatus{}}
	if !l.usable(topic, n) {
		s.Concerns = append(s.Concerns, out)
		return nil
	}
	tps := partitionsOf(topic, n)
	committed, low, stable, end, err := l.positions(ctx, names.ProcessGroup(), tps)
	if err != nil {
		return away(err)
	}
	var orphans []int32
	for _, tp := range tps {
		ps := PartitionStatus{Partition: tp.Partition, Owner: owners[tp], Committed: committed[tp], Stable: stable[tp], End: end[tp], Open: end[tp] - stable[tp]}
		if ps.Behind, ps.Exact, err = l.behind(ctx, tp, committed[tp], low[tp], stable[tp]); err != nil {
			return away(err)
		}
		if ps.Owner == "" && len(s.Members) > 0 {
			orphans = append(orphans, tp.Partition)
		}
		if committed[tp] >= 0 && committed[tp] < low[tp] {
			s.Problems = append(s.Problems, fmt.Sprintf("%s[%d]: records were deleted before they were processed: the log begins at %d, the processors are at %d",
				name, tp.Partition, low[tp], committed[tp]))
		}
		out.Partitions = append(out.Partitions, ps)
	}
	if len(orphans) > 0 {
		s.Problems = append(s.Problems, fmt.Sprintf("nobody serves the partitions %v of %s", orphans, name))
	}
	s.Concerns = append(s.Concerns, out)
	return nil
}

func (l *looker) positions(ctx context.Context, group string, tps []stream.TopicPartition) (committed, low, stable, end map[stream.TopicPartition]int64, err error) {
	if committed, err = l.admin.GroupOffsets(ctx, group, tps); err != nil {
		return
	}
	if low, err = l.admin.LowWatermarks(ctx, tps); err != nil {
		return
	}
	// The end comes last, so that it is not below the others.
	if stable, err = l.admin.StableOffsets(ctx, tps); err != nil {
		return
	}
	end, err = l.admin.EndOffsets(ctx, tps)
	return
}

func (l *looker) storage(ctx context.Context, s *PlatformStatus, concern, target string) error {
	router := l.inspector.router
	names := router.Names()
	topic, n := names.StorageTopic(concern), router.Partitions(concern)
	out := StorageStatus{Concern: concern, Target: target, Members: []string{}, Exact: true}
	group := names.StorageGroup(concern, target)
	groups, err := l.admin.DescribeGroups(ctx, []string{group})
	if err != nil {
		return away(err)
	}
	clients := map[string]bool{}
	for _, m := range groups[group].Members {
		clients[m.ClientID] = true
	}
	out.Members = append(out.Members, slices.SortedFunc(maps.Keys(clients), cmp.Compare)...)
	if len(clients) == 0 && l.state.TargetPaused(target) == nil {
		s.Problems = append(s.Problems, fmt.Sprintf("nobody brings changes of %s into storage target %s", concern, target))
	}
	if l.usable(topic, n) {
		tps := partitionsOf(topic, n)
		committed, low, stable, _, err := l.positions(ctx, group, tps)
		if err != nil {
			return away(err)
		}
		for _, tp := range tps {
			behind, exact, err := l.behind(ctx, tp, committed[tp], low[tp], stable[tp])
			if err != nil {
				return away(err)
			}
			out.Behind += behind
			out.Exact = out.Exact && exact
		}
	}
	s.Storage = append(s.Storage, out)
	return nil
}
