package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rocketcycle/rocketcycle/internal/failpoint"
)

// lateEndTxn: a commit is lost on its way, the client repeats it, and the lost
// one arrives in the middle of the producer's next transaction. Then the process
// dies. With the product as it is nothing may come of it; without the two
// mechanisms against it the suite must notice.
func lateEndTxn(t *testing.T) {
	t.Run("as-it-is", func(t *testing.T) {
		if wrong, harm := lateCommits(t); len(wrong) > 0 || harm.accepted > 0 {
			t.Errorf("%d late commits were accepted; %s", harm.accepted, strings.Join(wrong[:min(len(wrong), 8)], "\n"))
		}
	})
	t.Run("without-renewal-and-window", func(t *testing.T) {
		wrong, harm := lateCommits(t, failpoint.Renewal, failpoint.DedupeWindow)
		if harm.accepted == 0 {
			t.Error("the brokers refused every late commit, so this shows nothing")
		}
		if len(wrong) == 0 {
			t.Error("the suite noticed nothing")
		}
		t.Logf("noticed, as it must be: %d faults, e.g. %s", len(wrong), strings.Join(wrong[:min(len(wrong), 3)], "\n"))
	})
}

// harm is what was done to a producer.
type harm struct {
	late, accepted, refused int
	codes                   []int16
}

// lateCommits does it a few times, and returns what is wrong with the feed.
func lateCommits(t *testing.T, off ...failpoint.Switch) (wrong []string, total harm) {
	a := shared(t)
	edge := a.launch("edge", edger)
	storage := a.launch("storage", storer)
	proxy, through := a.throughKafka()
	without := func(s *site) { s.Off = off }
	victim := a.launch("processor", processor, through, without).await()
	storage.await()
	l := newLoad(t, *seed, edge)
	l.create()
	l.start()
	rng := source(4)
	const rounds = 4
	for round := range rounds {
		l.succeed(30 + rng.IntN(30))
		h := &lateCommit{point: kmsg.AddOffsetsToTxn, done: make(chan struct{})}
		if round%2 == 1 {
			h.point = kmsg.Produce
		}
		proxy.judge(h.rule, h.answered)
		select {
		case <-h.done:
		case <-time.After(patience):
			t.Fatal("no commit came by")
		}
		victim.kill()
		proxy.judge(nil, nil)
		total.late++
		if h.code == 0 && h.err == nil {
			total.accepted++
		} else {
			total.refused++
		}
		total.codes = append(total.codes, h.code)
		if h.err != nil {
			t.Errorf("the late commit: %v", h.err)
		}
		victim = a.launch("processor", processor, through, without).await()
	}
	if len(off) == 0 {
		l.succeed(50)
		l.stop()
		t.Logf("late commits %d, accepted %d, refused %d (error codes %v)", total.late, total.accepted, total.refused, total.codes)
		l.verify(a, 100, edge)
		return nil, total
	}
	// Nothing can be said of how this ends, a transaction may even be stuck: the
	// feed is looked at.
	l.stop()
	t.Logf("late commits %d, accepted %d, refused %d (error codes %v)", total.late, total.accepted, total.refused, total.codes)
	f, err := readFeed(t.Context(), a.stream(), a.site)
	if err != nil {
		t.Fatal(err)
	}
	return l.judge(f), total
}

// lateCommit loses one commit and delivers it in the middle of the producer's
// next transaction: when that has been produced to once, or is about to add its
// offsets.
type lateCommit struct {
	point kmsg.Key

	mu        sync.Mutex
	lost      *request
	repeated  bool // the client's second attempt has been answered
	opened    bool // the next transaction has begun
	delivered bool
	code      int16
	err       error
	done      chan struct{}
}

func (h *lateCommit) rule(r *request) verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch e := r.endTxn(); {
	case h.delivered:
		return lose // the process is about to be killed
	case e != nil && e.Commit && h.lost == nil:
		h.lost = r
		return lose
	case h.opened && h.point == kmsg.AddOffsetsToTxn && r.key == kmsg.AddOffsetsToTxn:
		h.deliver()
		return lose
	}
	return forward
}

func (h *lateCommit) answered(r *request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.lost == nil || h.delivered:
	case r.key == kmsg.EndTxn:
		h.repeated = true
	case h.repeated && r.key == kmsg.AddPartitionsToTxn:
		h.opened = true
	case h.opened && h.point == kmsg.Produce && r.key == kmsg.Produce:
		h.deliver()
	}
}

func (h *lateCommit) deliver() {
	h.delivered = true
	h.code, h.err = deliver(h.lost)
	close(h.done)
}

// transactionRequests loses, delays and repeats the requests of transactions, at
// random.
func transactionRequests(t *testing.T) {
	for i, key := range []kmsg.Key{kmsg.EndTxn, kmsg.AddPartitionsToTxn, kmsg.TxnOffsetCommit, kmsg.AddOffsetsToTxn, kmsg.InitProducerID} {
		t.Run(key.Name(), func(t *testing.T) {
			a := shared(t)
			edge := a.launch("edge", edger)
			storage := a.launch("storage", storer)
			proxy, through := a.throughKafka()
			a.launch("processor-1", processor, through).await()
			a.launch("processor-2", processor).await()
			storage.await()
			l := newLoad(t, *seed, edge)
			l.create()
			l.start()
			h := &mischief{rng: source(uint64(10 + i)), key: key, did: map[string]int{}}
			proxy.judge(h.rule, nil)
			during(t, *duration, func() { l.succeed(5) })
			proxy.judge(nil, nil)
			recovery := l.succeed(30)
			l.stop()
			h.wg.Wait()
			h.mu.Lock()
			t.Logf("%s: %v, late ones answered with %v; after the end operations succeed within %v", key.Name(), h.did, h.codes, recovery.Round(10*time.Millisecond))
			if len(h.did) == 0 {
				t.Errorf("no %s came by", key.Name())
			}
			h.mu.Unlock()
			l.verify(a, 60, edge)
		})
	}
}

// mischief is what is done to the requests of one kind.
type mischief struct {
	mu    sync.Mutex
	rng   *rand.Rand
	key   kmsg.Key
	did   map[string]int
	codes []string
	wg    sync.WaitGroup
}

func (h *mischief) rule(r *request) verdict {
	h.mu.Lock()
	often := 12
	if r.key == kmsg.InitProducerID {
		often = 2
	}
	// A producer is made anew when something else went wrong.
	provoke := h.key == kmsg.InitProducerID && r.key == kmsg.EndTxn && h.rng.IntN(12) == 0
	if r.key != h.key || h.rng.IntN(often) > 0 {
		h.mu.Unlock()
		if provoke {
			return lose
		}
		return forward
	}
	what := []string{"lost", "answer lost", "delayed", "late", "twice"}[h.rng.IntN(5)]
	pause := time.Duration(50+h.rng.IntN(1500)) * time.Millisecond
	h.did[what]++
	h.mu.Unlock()
	later := func() {
		h.wg.Go(func() {
			time.Sleep(pause)
			code, err := deliver(r)
			h.mu.Lock()
			defer h.mu.Unlock()
			if text := fmt.Sprint(code, err); !slices.Contains(h.codes, text) {
				h.codes = append(h.codes, text)
			}
		})
	}
	switch what {
	case "lost":
		return lose
	case "answer lost":
		return loseAnswer
	case "delayed":
		time.Sleep(pause)
		return forward
	case "late":
		later()
		return lose
	default:
		later()
		return forward
	}
}
