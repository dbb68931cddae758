package concern

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// checkDirect is called when records are in the log, and before the worker that
// wrote them knows. Whoever sees a response in them may read at once, from the
// owner of each instance that the transaction wrote: it waits, or sees what was
// written, or something later.
func (s *sim) checkDirect(records []stream.Record) {
	if s.moving.on { // it looks at the topics of one generation
		return
	}
	for _, r := range records {
		if r.Topic != "response" {
			continue
		}
		response := &rkcyv1.Response{}
		s.unmarshal(r.Value, response)
		x := s.txns[txn.ID(response.GetTxnId())]
		if x == nil || response.GetError() != nil || len(response.GetOriginalTxnId()) > 0 {
			continue
		}
		for i, step := range x.steps {
			if step.Access == rkcyv1.Access_ACCESS_WRITE && !response.GetResults()[i].GetSkipped() {
				s.checkDirectRead(x.id, step.Concern, step.Key)
			}
		}
	}
}

func (s *sim) checkDirectRead(id txn.ID, concern, key string) {
	topic, n, err := s.Route(concern, key)
	if err != nil {
		s.fail("%v", err)
	}
	tp := stream.TopicPartition{Topic: topic, Partition: n}
	for _, w := range s.workers {
		p := w.engine.parts[tp]
		if p == nil || w.generation != s.generation {
			continue // not the owner: its lease has ended
		}
		if s.readsPastHolds {
			p.mirror.release(key, id)
		}
		if s.readsPastCommits {
			clear(p.mirror.unlanded)
		}
		look := p.mirror.look(key, true, []txn.ID{id})
		if look.wait != nil {
			s.directWaits++
			continue
		}
		s.directReads++
		value := look.value
		if value == nil {
			value = s.database[concern+"/"+key]
		}
		var changes []*rkcyv1.Change
		at := -1
		for _, r := range s.read(stream.TopicPartition{Topic: "storage." + concern, Partition: n}, 0) {
			c := &rkcyv1.Change{}
			s.unmarshal(r.Value, c)
			if c.GetKey() != key {
				continue
			}
			changes = append(changes, c)
			if txn.ID(c.GetTxnId()) == id {
				at = len(changes) - 1
			}
		}
		if at < 0 {
			s.fail("a read of %s/%s does not wait for the change of %s, which is not there", concern, key, id)
		}
		if !slices.ContainsFunc(changes[at:], func(c *rkcyv1.Change) bool { return proto.Equal(c.GetAfter(), value) }) {
			s.fail("a read of %s/%s after %s sees what was there before it", concern, key, id)
		}
	}
}
