package features

import (
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

// Repeats of a request take effect once, whichever edge they come through and
// whoever owns the partitions then, and all get one answer.
func TestRepeats(t *testing.T) {
	w := newWorld(t)
	one := w.start(node.AllRoles())
	w.cast(one)
	two := w.start(node.Roles{Edge: true})
	answers := make(chan *rpgv1.Character, 20)
	var wg sync.WaitGroup
	for i := range 20 {
		p := []*peer{one, two}[i%2]
		wg.Go(func() {
			got, err := p.FundCharacter(keyed(t.Context(), "order-1"), fund(7))
			if err != nil {
				t.Error(err)
			}
			answers <- got
		})
	}
	wg.Wait()
	close(answers)
	first := <-answers
	for got := range answers {
		if !proto.Equal(got, first) {
			t.Errorf("answers %v and %v", first, got)
		}
	}
	w.wantGold(two, 107, 100)
	_, err := two.FundCharacter(keyed(t.Context(), "order-1"), fund(8))
	wantCode(t, err, codes.InvalidArgument)
	_, err = two.DeleteCharacter(keyed(t.Context(), "order-1"), &rpgv1.DeleteCharacterRequest{Id: "c1"})
	wantCode(t, err, codes.InvalidArgument)
	// A key has one home, whichever Concern a request begins in.
	_, err = two.CreatePlayer(keyed(t.Context(), "order-1"), &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: "q", Username: "other"}})
	wantCode(t, err, codes.InvalidArgument)

	// A refusal is an outcome, too.
	for range 2 {
		_, err = one.Trade(keyed(t.Context(), "order-2"), trade(0, 1000))
		wantCode(t, err, codes.FailedPrecondition)
	}
	if _, err := one.FundCharacter(t.Context(), fund(1)); err != nil {
		t.Fatal(err)
	}
	one.stop()
	three := w.start(node.Roles{Processor: true, Storage: true})
	_ = three
	got, err := two.FundCharacter(keyed(t.Context(), "order-1"), fund(7))
	if err != nil || !proto.Equal(got, first) {
		t.Errorf("after a takeover: %v, %v; want %v", got, err, first)
	}
	w.wantGold(two, 108, 100)
}
