package sim

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// perPlayer is how many characters a player has, itemsEach what a character
// carries in the beginning.
const (
	perPlayer = 4
	itemsEach = 2
)

// people makes up players and characters. Their ids are new in each run, so
// that runs with one seed do not meet.
func people(characters int) *model {
	m := &model{}
	run := txn.NewKey()
	for i := range characters {
		if i%perPlayer == 0 {
			n := len(m.players)
			m.players = append(m.players, &rpgv1.Player{Id: txn.NewKey(), Username: fmt.Sprintf("sim-%s-%d", run, n), Active: n%2 == 0})
		}
		start := money{10_000, 1000, 1000, 1000}
		c := &rpgv1.Character{
			Id: txn.NewKey(), PlayerId: m.players[i/perPlayer].GetId(), Fullname: fmt.Sprintf("Character %d", i), Active: true, Currency: start.currency(),
		}
		for n := range itemsEach {
			thing := &rpgv1.Item{Id: txn.NewKey(), Description: fmt.Sprintf("thing %d of %d", n, i)}
			c.Items = append(c.Items, thing)
			m.items = append(m.items, &item{thing: thing, owner: i})
		}
		m.accounts = append(m.accounts, &account{character: c, settled: start})
	}
	return m
}

// createAll creates them, players first.
func (s *simulation) createAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Wait+time.Duration(s.cfg.Characters)*time.Second/100)
	defer cancel()
	// One alone, so that an edge that is away is told once.
	err := s.create(ctx, "player", func(ctx context.Context) error {
		_, err := s.client.CreatePlayer(ctx, &rpgv1.CreatePlayerRequest{Player: s.model.players[0]})
		return err
	})
	if err != nil {
		return err
	}
	players, ctxPlayers := errgroup.WithContext(ctx)
	players.SetLimit(16)
	for _, p := range s.model.players[1:] {
		players.Go(func() error {
			return s.create(ctxPlayers, "player", func(ctx context.Context) error {
				_, err := s.client.CreatePlayer(ctx, &rpgv1.CreatePlayerRequest{Player: p})
				return err
			})
		})
	}
	if err := players.Wait(); err != nil {
		return err
	}
	characters, ctxCharacters := errgroup.WithContext(ctx)
	characters.SetLimit(16)
	for _, a := range s.model.accounts {
		characters.Go(func() error {
			return s.create(ctxCharacters, "character", func(ctx context.Context) error {
				_, err := s.client.CreateCharacter(ctx, &rpgv1.CreateCharacterRequest{Character: a.character})
				return err
			})
		})
	}
	return characters.Wait()
}

// create tries until something exists. The ids are ours, so what exists is
// what an earlier try made.
func (s *simulation) create(ctx context.Context, what string, call func(context.Context) error) error {
	return s.insist(ctx, "create a "+what, func(ctx context.Context) error {
		err := call(ctx)
		if status.Code(err) == codes.AlreadyExists {
			return nil
		}
		return err
	})
}

// insist repeats a call that may be repeated until it succeeds, is refused for
// good, or ctx ends. The error knows the exit code.
func (s *simulation) insist(ctx context.Context, what string, call func(context.Context) error) error {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		once, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
		err := call(once)
		cancel()
		if err == nil {
			return nil
		}
		code := edgecmd.ExitUnavailable
		switch status.Code(err) {
		case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Canceled:
		default:
			code = edgecmd.ExitRefused
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if code == edgecmd.ExitRefused || ctx.Err() != nil {
			s := status.Convert(err)
			return &edgecmd.ExitError{Code: code, Err: fmt.Errorf("%s: %v: %s", what, s.Code(), s.Message())}
		}
	}
}
