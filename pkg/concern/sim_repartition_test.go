package concern

import (
	"fmt"
	"testing"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// simMoving is what the simulation knows of changes of numbers of partitions.
type simMoving struct {
	on          bool
	generations map[string]int
	counts      map[string]int32
	retired     map[string]string // process topic -> Concern
	// former are the storage topics of a Concern before the current one, with
	// their partitions and ends.
	former map[string][]simFormer
	// copied is where the changes end that a new storage partition began with.
	copied map[stream.TopicPartition]int64
	moves  int
	// forget leaves a part out, to show that it is noticed.
	forget string
}

type simFormer struct {
	process, storage string
	count            int32
	ends             []int64
}

func (s *sim) move() {
	s.moving.on = true
	s.moving.generations, s.moving.counts, s.moving.retired = map[string]int{}, map[string]int32{}, map[string]string{}
	s.moving.former, s.moving.copied = map[string][]simFormer{}, map[stream.TopicPartition]int64{}
}

func (s *sim) suffix(concern string) string {
	if g := s.moving.generations[concern]; g > 0 {
		return fmt.Sprint(".", g)
	}
	return ""
}

// topic returns the current process topic of a Concern, count its partitions.
func (s *sim) topic(concern string) string { return processTopic(concern) + s.suffix(concern) }

func (s *sim) count(concern string) int32 {
	if n := s.moving.counts[concern]; n > 0 {
		return n
	}
	return s.partitions
}

func (s *sim) countOf(storage, concern string) int32 {
	for _, f := range s.moving.former[concern] {
		if f.storage == storage {
			return f.count
		}
	}
	return s.count(concern)
}

// persisting returns the storage topic that is written from now, and whether it
// is the current one: the first that was not passed.
func (s *sim) persisting(concern string) (string, bool) {
	for _, f := range s.moving.former[concern] {
		for i, end := range f.ends {
			if s.watermarks[stream.TopicPartition{Topic: f.storage, Partition: int32(i)}] < end {
				return f.storage, false
			}
		}
	}
	return "storage." + concern + s.suffix(concern), true
}

// dealRetired gives the process topics of the past to somebody, too.
func (s *sim) dealRetired() {
	for _, c := range simConcerns {
		for _, f := range s.moving.former[c] {
			for p := range f.count {
				w := s.workers[s.rng.IntN(len(s.workers))]
				s.deal[w] = append(s.deal[w], stream.TopicPartition{Topic: f.process, Partition: p})
			}
		}
	}
}

// repartition gives a Concern another number of partitions: whoever does it owns
// all, so that every commit in flight is refused, and may die before its own.
func (s *sim) repartition() {
	if s.rng.IntN(3) > 0 {
		return // seldom
	}
	c := simConcerns[s.rng.IntN(len(simConcerns))]
	if s.moving.generations[c] >= 3 {
		return
	}
	s.generation++ // nobody else's commit is accepted from here on
	if s.rng.IntN(4) == 0 {
		s.say("who changes the partitions of %s dies before the commit", c)
		s.rebalance(true)
		return
	}
	from := s.served[s.topic(c)]
	old := simFormer{process: s.topic(c), storage: from.topics.Storage, count: s.count(c)}
	s.moving.generations[c]++
	to := Topics{
		Process: s.topic(c), State: "state." + c + s.suffix(c), Storage: "storage." + c + s.suffix(c), Error: from.topics.Error,
	}
	partitions := int32(1 + s.rng.IntN(4))
	m := NewMover(Move{Concern: c, From: from.topics, To: to, Partitions: partitions, FromPartitions: old.count})
	watermarks := make([]int64, old.count)
	for i := range old.count {
		at := func(topic string) stream.TopicPartition { return stream.TopicPartition{Topic: topic, Partition: i} }
		watermarks[i] = s.watermarks[at(old.storage)]
		for _, r := range s.read(at(from.topics.State), 0) {
			if s.moving.forget == "state" {
				break
			}
			s.must(m.State(r))
		}
		for _, r := range s.read(at(old.storage), max(watermarks[i]-1000, 0)) {
			if s.moving.forget != "changes" {
				s.must(m.Change(r, watermarks[i]))
			}
		}
		for _, r := range s.read(at(old.process), s.committed[at(old.process)]) {
			if s.moving.forget != "process" {
				s.must(m.Process(r))
			}
		}
		s.committed[at(old.process)] = s.end(at(old.process))
	}
	records, _, err := m.Records()
	s.must(err)
	old.ends = m.StorageEnds(watermarks)
	s.say("%s moves from %d to %d partitions: %d records", c, old.count, partitions, len(records))
	for _, r := range records { // not through append: the changes are no new ones
		tp := stream.TopicPartition{Topic: r.Topic, Partition: r.Partition}
		r.Offset = s.end(tp)
		s.log[tp] = append(s.log[tp], r)
		if r.Topic == to.Storage {
			s.moving.copied[tp] = r.Offset + 1
		}
	}
	s.moving.counts[c] = partitions
	s.moving.former[c] = append(s.moving.former[c], old)
	s.moving.moves++
	s.served[to.Process] = &servedConcern{commands: from.commands, topics: to}
	for _, f := range s.moving.former[c] {
		s.served[f.process] = &servedConcern{
			commands: from.commands, topics: Topics{Process: f.process}, retired: &retired{c, to.Process, partitions},
		}
		if s.moving.forget != "names" {
			s.moving.retired[f.process] = c
		}
	}
	s.truncations = nil // of the past
	s.rebalance(true)
}

func (s *sim) must(err error) {
	if err != nil {
		s.fail("%v", err)
	}
}

func runMoving(t *testing.T, seed uint64, forget string) (moves int, err error) {
	t.Helper()
	s := newSim(t, seed)
	s.verbose = *simSeed != 0
	s.move()
	s.moving.forget = forget
	defer func() {
		if r := recover(); r != nil {
			fault, ok := r.(simFault)
			if !ok {
				panic(fmt.Sprintf("seed %d: %v", seed, r))
			}
			err = fault
		}
		moves = s.moving.moves
	}()
	s.run(400)
	return s.moving.moves, s.check()
}

// Numbers of partitions change while transactions, sagas and timers are in
// flight: everything that holds without that holds.
func TestSimulationRepartition(t *testing.T) {
	seeds := uint64(*simSeeds)
	moves := 0
	for seed := uint64(1); seed <= seeds; seed++ {
		if *simSeed != 0 {
			seed, seeds = *simSeed, 0
		}
		n, err := runMoving(t, seed, "")
		moves += n
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	t.Logf("%d moves", moves)
	if *simSeed == 0 && moves < *simSeeds/2 {
		t.Errorf("only %d moves", moves)
	}
}

// What is not taken along is noticed.
func TestSimulationRepartitionFinds(t *testing.T) {
	for _, forget := range []string{"state", "changes", "process", "names"} {
		found := false
		for seed := uint64(1); seed <= 100 && !found; seed++ {
			_, err := runMoving(t, seed, forget)
			found = err != nil
		}
		if !found {
			t.Errorf("%s can be left out, and nothing happens", forget)
		}
	}
}
