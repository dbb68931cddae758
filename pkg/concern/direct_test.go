package concern

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// readAny asks processors in turn until one owns the instance.
func readAny(ctx context.Context, ps []*Processor, r Read) (*list, uint64, error) {
	for i := 0; ; i++ {
		found, err := ps[i%len(ps)].Read(ctx, r)
		if err == nil {
			err = found[0].Err
		}
		if e, ok := errors.AsType[*txn.Error](err); ok && e.Details[DetailNotOwner] == "true" {
			select {
			case <-ctx.Done():
				return nil, 0, err
			case <-time.After(time.Millisecond):
			}
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		l := &list{}
		return l, found[0].Instance.GetVersion(), proto.Unmarshal(found[0].Instance.GetValue(), l)
	}
}

// Two processors; every runner writes two instances in one transaction and, once
// it has the answer, reads both from whoever owns them. A processor goes away in
// the middle.
func TestDirectReadsSeeOwnWrites(t *testing.T) {
	r := newRig(t, 4)
	one, stopOne := r.start(3 * time.Second)
	defer stopOne()
	two, stopTwo := r.start(3 * time.Second)
	defer stopTwo()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	ps := []*Processor{one, two}
	const keys = 8
	for k := range keys {
		key := fmt.Sprint("instance-", k)
		b := txn.New()
		txn.Add(b, listStep(txn.CommandCreate, key))
		res, err := r.client.Run(ctx, b)
		if err != nil {
			t.Fatal(err)
		}
		if _, version, err := readAny(ctx, ps, Read{Concern: "list", Keys: []string{key}, Session: true, After: []txn.ID{res.ID}}); err != nil || version != 1 {
			t.Fatalf("%s after its create: version %d, %v", key, version, err)
		}
	}
	const runners, each = 8, 25
	var g errgroup.Group
	for i := range runners {
		g.Go(func() error {
			for j := range each {
				if i == 0 && j == each/2 {
					stopTwo()
				}
				written := []string{fmt.Sprint("instance-", (i+j)%keys), fmt.Sprint("instance-", (i+3*j+1)%keys)}
				b := txn.New()
				for _, key := range written {
					txn.Add(b, listStep("Append", key))
				}
				res, err := r.client.Run(ctx, b)
				if err != nil {
					return err
				}
				for _, key := range written {
					l, _, err := readAny(ctx, ps, Read{Concern: "list", Keys: []string{key}, Session: true, After: []txn.ID{res.ID}})
					if err != nil {
						return err
					}
					if !slices.Contains(l.GetPaths(), res.ID.String()) {
						return fmt.Errorf("%s does not have what %s wrote", key, res.ID)
					}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestDirectReadRefusals(t *testing.T) {
	r := newRig(t, 1)
	p, stop := r.start(3 * time.Second)
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ps := []*Processor{p}
	// What nobody has made has version 0, also the second time.
	for range 2 {
		if _, version, err := readAny(ctx, ps, Read{Concern: "list", Keys: []string{"nobody"}}); err != nil || version != 0 {
			t.Fatalf("version %d, %v", version, err)
		}
	}
	for name, read := range map[string]Read{
		"no key":         {Concern: "list"},
		"too many keys":  {Concern: "list", Keys: make([]string, MaxReadKeys+1)},
		"a long session": {Concern: "list", Keys: []string{"k"}, After: make([]txn.ID, MaxSession+1)},
	} {
		if _, err := p.Read(ctx, read); txn.CodeOf(err) != txn.CodeInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := p.Read(ctx, Read{Concern: "nothing", Keys: []string{"k"}}); txn.CodeOf(err) != txn.CodeUnimplemented {
		t.Errorf("unknown Concern: %v", err)
	}
	found, err := p.Read(ctx, Read{Concern: "list", Keys: []string{"nobody", ""}})
	if err != nil || found[0].Err != nil || txn.CodeOf(found[1].Err) != txn.CodeInvalidArgument {
		t.Errorf("%v, %v", found, err)
	}
	// A session waits for a transaction that holds the instance, and no longer than
	// the caller.
	at := p.mirrors.get(stream.TopicPartition{Topic: r.prefix + ".list.process"})
	id := txn.NewID()
	at.mirror.hold("nobody", id)
	gone, leave := context.WithCancel(ctx)
	leave()
	found, err = p.Read(gone, Read{Concern: "list", Keys: []string{"nobody"}, Session: true, After: []txn.ID{id}})
	if err != nil || txn.CodeOf(found[0].Err) != txn.CodeCancelled {
		t.Errorf("a hold: %v, %v", found, err)
	}
	at.mirror.release("nobody", id)
	stop()
	if found, err = p.Read(ctx, Read{Concern: "list", Keys: []string{"nobody"}}); err != nil || txn.AsError(found[0].Err).Details[DetailNotOwner] != "true" {
		t.Errorf("a processor that has stopped: %v, %v", found, err)
	}
}

// A lease is worth nothing once its time has passed, which is how an owner that
// was stopped and goes on finds out, nor once its assignment has ended.
func TestDirectReadNeedsALease(t *testing.T) {
	value := &rkcyv1.Instance{Value: []byte("v"), Version: 3}
	w := &worker{}
	s := &served{mirror: newMirror(), worker: w}
	refused := func() bool {
		f := s.answer("list", "k", value)
		return f.Instance == nil && txn.AsError(f.Err).Details[DetailNotOwner] == "true"
	}
	if !refused() {
		t.Error("no lease")
	}
	w.lease.renew(w.lease.now(), time.Now().Add(time.Hour))
	if refused() {
		t.Error("refused with a lease")
	}
	epoch := w.lease.now()
	w.lease.end()
	w.lease.renew(epoch, time.Now().Add(time.Hour)) // was asked before
	if !refused() {
		t.Error("the assignment has ended")
	}
	w.lease.renew(w.lease.now(), time.Now().Add(-time.Millisecond))
	if !refused() {
		t.Error("the lease has passed")
	}
}

// What a batch changes is not seen before it lands, also if the next one has
// changed it again.
func TestMirrorShowsWhatHasLanded(t *testing.T) {
	m := newMirror()
	first, second, third := &rkcyv1.Instance{Version: 1}, &rkcyv1.Instance{Version: 2}, &rkcyv1.Instance{Version: 3}
	m.set("k", first)
	en := &entry{key: "k", instance: second}
	m.change("k", 1)
	values := valuesOf([]*entry{en})
	en.instance = third
	m.change("k", 2)
	if got := m.look("k", false, nil); got.value != first || got.wait != nil {
		t.Errorf("eventual: %v", got)
	}
	waiting := m.look("k", true, nil)
	if waiting.wait == nil {
		t.Error("a session does not wait")
	}
	m.land(1, []*entry{en}, values)
	select {
	case <-waiting.wait:
	default:
		t.Error("nobody was woken")
	}
	if got := m.look("k", false, nil); got.value != second {
		t.Errorf("after the first batch: %v", got.value)
	}
	if got := m.look("k", true, nil); got.wait == nil {
		t.Error("the second batch is not waited for")
	}
	m.land(2, []*entry{en}, valuesOf([]*entry{en}))
	if got := m.look("k", true, nil); got.value != third || got.wait != nil {
		t.Errorf("after the second batch: %v", got)
	}
	if !m.stillMissing("other", 0) {
		t.Error("nothing was removed")
	}
	m.remove("k")
	if m.stillMissing("other", 0) {
		t.Error("an instance left the cache, which may be any")
	}
	m.close()
	if got := m.look("k", true, nil); !got.closed || got.value != nil {
		t.Errorf("closed: %v", got)
	}
}
