package concern

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Retired is a process topic of a former generation of a Concern that is served.
// What still comes there is passed on to the current one, and what names it as a
// place is understood.
type Retired struct {
	Process string
}

// retired says where what comes to a topic of a former generation goes; nil for
// a current one.
type retired struct {
	concern    string
	process    string
	partitions int32
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// rerouted returns what becomes of a process record that was meant for another
// number of partitions. What is not about one instance goes everywhere: where it
// is not expected it does nothing. A record that cannot be read goes by its own
// key, to be quarantined there.
func rerouted(r stream.Record, concern, topic string, partitions int32) []stream.Record {
	one := func(key string) []stream.Record {
		return []stream.Record{{
			Topic: topic, Partition: stream.PartitionFor([]byte(key), partitions), Key: r.Key, Value: r.Value, Headers: r.Headers,
		}}
	}
	pr := &rkcyv1.ProcessRecord{}
	if proto.Unmarshal(r.Value, pr) != nil {
		return one(string(r.Key))
	}
	switch k := pr.GetKind().(type) {
	case *rkcyv1.ProcessRecord_Visit:
		switch {
		case k.Visit.GetClaim():
			return one(txn.HomeKey(k.Visit.GetTxn().GetIdempotency().GetKey()))
		case txn.CheckVisit(k.Visit) != nil:
			return one(string(r.Key))
		}
		of, key := txn.Instance(k.Visit)
		if of != concern {
			return one(string(r.Key))
		}
		return one(key)
	case *rkcyv1.ProcessRecord_Outcome:
		return one(txn.HomeKey(k.Outcome.GetKey()))
	case *rkcyv1.ProcessRecord_Related:
		return one(k.Related.GetParent())
	case *rkcyv1.ProcessRecord_Marker, *rkcyv1.ProcessRecord_Cancel, *rkcyv1.ProcessRecord_Retry:
		all := make([]stream.Record, partitions)
		for i := range all {
			all[i] = stream.Record{Topic: topic, Partition: int32(i), Key: r.Key, Value: r.Value, Headers: r.Headers} //nolint:gosec // below partitions
		}
		return all
	default:
		return one(string(r.Key))
	}
}

// passOn sends what came late to a topic of a former generation to the current
// one.
func (e *engine) passOn(p *partition, r stream.Record) {
	to := p.concern.retired
	for _, out := range rerouted(r, to.concern, to.process, to.partitions) {
		e.stats.PassedOn++
		e.out = append(e.out, out)
	}
}

// modernize replaces what a visit names of former generations: partitions that
// hold something for it, and the home of its idempotency key. What was in one
// partition is now where the hash of its key says; a partition that is told of
// an end and holds nothing does nothing.
func (e *engine) modernize(v *rkcyv1.Visit) {
	if len(e.cfg.retired) == 0 {
		return
	}
	if claim := v.GetTxn().GetIdempotency(); claim.GetHome() != nil {
		if concern, old := e.cfg.retired[claim.GetHome().GetTopic()]; old {
			if topic, partition, err := e.cfg.router.Route(concern, txn.HomeKey(claim.GetKey())); err == nil {
				claim.Home = &rkcyv1.Participant{Topic: topic, Partition: partition}
			}
		}
	}
	moved := map[string]bool{}
	kept := make([]*rkcyv1.Participant, 0, len(v.GetParticipants()))
	for _, at := range v.GetParticipants() {
		if concern, old := e.cfg.retired[at.GetTopic()]; old {
			moved[concern] = true
			continue
		}
		kept = append(kept, at)
	}
	if len(moved) == 0 {
		return
	}
	v.Participants = kept
	t := v.GetTxn()
	for i := range min(int(v.GetVisit()), len(t.GetVisits())) {
		s := t.GetSteps()[t.GetVisits()[i].GetSteps()[0]]
		if !moved[s.GetConcern()] {
			continue
		}
		topic, partition, err := e.cfg.router.Route(s.GetConcern(), s.GetKey())
		if err == nil && !txn.IsParticipant(v, topic, partition) {
			v.Participants = append(v.Participants, &rkcyv1.Participant{Topic: topic, Partition: partition})
		}
	}
}

// addRetired makes the topics of former generations known to a processor.
func (p *Processor) addRetired(s Served, set *commandSet) error {
	if len(s.Retired) == 0 {
		return nil
	}
	counter, ok := p.cfg.Router.(interface{ Partitions(concern string) int32 })
	if !ok {
		return fmt.Errorf("processor: %T cannot tell how many partitions %s has", p.cfg.Router, s.Definition.Name)
	}
	for _, r := range s.Retired {
		p.served[r.Process] = &servedConcern{
			commands: set, topics: Topics{Process: r.Process},
			retired: &retired{s.Definition.Name, s.Topics.Process, counter.Partitions(s.Definition.Name)},
		}
		p.retired[r.Process] = s.Definition.Name
	}
	return nil
}
