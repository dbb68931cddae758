package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
)

// state is everybody, by id, as somebody sees them.
type state struct {
	players    map[string]*rpgv1.Player
	characters map[string]*rpgv1.Character
}

func newState() state {
	return state{players: map[string]*rpgv1.Player{}, characters: map[string]*rpgv1.Character{}}
}

// view is a state and where it was seen.
type view struct {
	name  string
	state state
}

// state returns what must be.
func (m *model) state() state {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := newState()
	for _, p := range m.players {
		s.players[p.GetId()] = p
	}
	things := make([][]*rpgv1.Item, len(m.accounts))
	for _, i := range m.items {
		things[i.owner] = append(things[i.owner], i.thing)
	}
	for at, a := range m.accounts {
		c := a.character
		s.characters[c.GetId()] = &rpgv1.Character{
			Id: c.GetId(), PlayerId: c.GetPlayerId(), Fullname: c.GetFullname(), Active: c.GetActive(),
			Currency: a.settled.currency(), Items: things[at],
		}
	}
	return s
}

// readAll reads everybody through the edge. What is not found is left out.
func (s *simulation) readAll(ctx context.Context) (state, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Wait)
	defer cancel()
	out := newState()
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	read := func(what string, call func(context.Context) error) {
		g.Go(func() error {
			return s.insist(ctx, "read "+what, func(ctx context.Context) error {
				err := call(ctx)
				if status.Code(err) == codes.NotFound {
					return nil
				}
				return err
			})
		})
	}
	for _, p := range s.model.players {
		read("player "+p.GetId(), func(ctx context.Context) error {
			got, err := s.client.ReadPlayer(ctx, &rpgv1.ReadPlayerRequest{Id: p.GetId()})
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				out.players[p.GetId()] = &rpgv1.Player{Id: got.GetId(), Username: got.GetUsername(), Active: got.GetActive(), LimitsId: got.GetLimitsId()}
			}
			return err
		})
	}
	for _, a := range s.model.accounts {
		id := a.character.GetId()
		read("character "+id, func(ctx context.Context) error {
			got, err := s.client.ReadCharacter(ctx, &rpgv1.ReadCharacterRequest{Id: id})
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				out.characters[id] = got
			}
			return err
		})
	}
	return out, g.Wait()
}

// fields returns what is compared, as text, in a fixed order.
func (s state) fields(kind, id string) []string {
	if kind == "player" {
		p := s.players[id]
		if p == nil {
			return nil
		}
		return []string{"id: " + p.GetId(), "username: " + p.GetUsername(), fmt.Sprintf("active: %v", p.GetActive()), "limits_id: " + p.GetLimitsId()}
	}
	c := s.characters[id]
	if c == nil {
		return nil
	}
	out := []string{"id: " + c.GetId(), "player_id: " + c.GetPlayerId(), "fullname: " + c.GetFullname(), fmt.Sprintf("active: %v", c.GetActive())}
	for i, amount := range moneyOf(c.GetCurrency()) {
		out = append(out, fmt.Sprintf("%s: %d", kinds[i], amount))
	}
	var things []string // the order says when each came
	for _, i := range c.GetItems() {
		things = append(things, fmt.Sprintf("%s (%s)", i.GetId(), i.GetDescription()))
	}
	slices.Sort(things)
	return append(out, "items: "+strings.Join(things, ", "))
}

// differences lists every field in which a view differs from what must be.
func differences(want state, views []view) []string {
	var out []string
	one := func(kind, id string) {
		must := want.fields(kind, id)
		for _, v := range views {
			have := v.state.fields(kind, id)
			if have == nil {
				out = append(out, fmt.Sprintf("%s %s: missing in %s", kind, id, v.name))
				continue
			}
			for i := range must {
				if have[i] != must[i] {
					name, is, _ := strings.Cut(have[i], ": ")
					_, should, _ := strings.Cut(must[i], ": ")
					out = append(out, fmt.Sprintf("%s %s: %s is %q in %s, must be %q", kind, id, name, is, v.name, should))
				}
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(want.players)) {
		one("player", id)
	}
	for _, id := range slices.Sorted(maps.Keys(want.characters)) {
		one("character", id)
	}
	return out
}
