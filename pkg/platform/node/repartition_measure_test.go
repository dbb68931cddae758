package node_test

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

var repartitionInstances = flag.Int("repartition.instances", 0, "measure the pause with so many characters, by hand")

// TestRepartitionPause measures the longest time that a caller waits, with a load
// on all instances. It says so, and asserts nothing about it.
func TestRepartitionPause(t *testing.T) {
	if *repartitionInstances == 0 {
		t.Log("by hand: -repartition.instances 100000")
		return
	}
	w := newWorld(t)
	n, _ := w.start(t, node.AllRoles())
	c := client(t, n)
	if _, err := w.repartition(t, t.Context(), 4); err != nil { // a world begins with two
		t.Fatal(err)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 256 {
		wg.Go(func() {
			for from := next.Add(10) - 9; from <= int64(*repartitionInstances); from = next.Add(10) - 9 {
				for i := from; i < from+10; i++ {
					if i%10 == 1 { // ten characters a player
						if _, err := c.CreatePlayer(t.Context(), &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: fmt.Sprint("p", (i-1)/10), Username: fmt.Sprint("player", i)}}); err != nil {
							t.Error(err)
							return
						}
					}
					if _, err := c.CreateCharacter(t.Context(), &rpgv1.CreateCharacterRequest{Character: &rpgv1.Character{
						Id: fmt.Sprint("c", i), PlayerId: fmt.Sprint("p", (i-1)/10), Fullname: "x", Currency: &rpgv1.Currency{Gold: startGold},
					}}); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	load, stop := context.WithCancel(t.Context())
	defer stop()
	var longest atomic.Int64
	for range 32 {
		wg.Go(func() {
			for load.Err() == nil {
				began := time.Now()
				i := next.Add(7919)%int64(*repartitionInstances) + 1
				if _, err := c.FundCharacter(context.WithoutCancel(load), &rpgv1.FundCharacterRequest{Id: fmt.Sprint("c", i), Currency: &rpgv1.Currency{Gold: 1}}); err != nil {
					t.Error(err)
				}
				for took := int64(time.Since(began)); ; {
					was := longest.Load()
					if took <= was || longest.CompareAndSwap(was, took) {
						break
					}
				}
			}
		})
	}
	for _, partitions := range []int{8, 3} {
		time.Sleep(2 * time.Second) // a measurement: the load settles
		before := time.Duration(longest.Swap(0))
		done, err := w.repartition(t, t.Context(), partitions)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		fmt.Printf("%d instances to %d partitions: pause %v, longest wait of a caller %v (before: %v), %+v\n", *repartitionInstances, partitions,
			done.Pause.Round(time.Millisecond), time.Duration(longest.Load()).Round(time.Millisecond), before.Round(time.Millisecond), done.Moved)
	}
	stop()
	wg.Wait()
}
