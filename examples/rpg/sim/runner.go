package sim

import (
	"context"
	"time"

	"google.golang.org/grpc/connectivity"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
)

// runner sends one request after another.
type runner struct {
	*simulation
	tally tally
}

// run works until every request was sent or ctx ends. It reports whether the
// edge was there.
func (r *runner) run(ctx context.Context) bool {
	for ctx.Err() == nil {
		number := int(r.next.Add(1))
		if number > r.cfg.Count {
			break
		}
		// Not into a connection that is down: of that nobody would know the
		// outcome.
		if !r.connected(ctx) {
			return ctx.Err() != nil
		}
		p := r.mix.plan(r.cfg.Seed, number, r.cfg.Characters)
		start := time.Now()
		how := r.send(ctx, number, p)
		r.tally.add(p.request, how, time.Since(start))
		if r.cfg.Progress != nil {
			r.cfg.Progress(int(r.done.Add(1)))
		}
	}
	return true
}

// connected waits for the connection.
func (r *runner) connected(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Wait)
	defer cancel()
	for {
		state := r.conn.GetState()
		if state == connectivity.Ready {
			return true
		}
		r.conn.Connect()
		if !r.conn.WaitForStateChange(ctx, state) {
			return false
		}
	}
}

// send sends one request and tells the model. A request that was begun is
// finished even if ctx ends.
func (r *runner) send(ctx context.Context, number int, p plan) outcome {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Timeout)
	defer cancel()
	switch p.request {
	case requestRead:
		return r.read(ctx, p)
	case requestFund:
		return r.fund(ctx, number, p)
	default:
		return r.trade(ctx, number, p)
	}
}

func (r *runner) read(ctx context.Context, p plan) outcome {
	if p.player {
		want := r.model.players[p.lhs/perPlayer]
		got, err := r.client.ReadPlayer(ctx, &rpgv1.ReadPlayerRequest{Id: want.GetId()})
		if err == nil && !r.model.samePlayer(got, want, p.lhs/perPlayer) {
			r.model.wrong("player %s was answered as %v", want.GetId(), got)
		}
		return r.readOutcome("player "+want.GetId(), err)
	}
	id := r.model.accounts[p.lhs].character.GetId()
	before := r.model.now(p.lhs)
	got, err := r.client.ReadCharacter(ctx, &rpgv1.ReadCharacterRequest{Id: id})
	if err == nil {
		r.model.check(p.lhs, before, got)
	}
	return r.readOutcome("character "+id, err)
}

// readOutcome: a read that failed changed nothing, whatever became of it. But
// what exists must be found.
func (r *runner) readOutcome(what string, err error) outcome {
	how := outcomeOf(err)
	if missing(err) {
		r.model.wrong("%s was not found", what)
	}
	return how
}

func (r *runner) fund(ctx context.Context, number int, p plan) outcome {
	o := &operation{number: number, what: "fund", parts: []part{{account: p.lhs, in: p.lhsGives}}}
	r.model.begin(o)
	before := r.model.now(p.lhs)
	got, err := r.client.FundCharacter(ctx, &rpgv1.FundCharacterRequest{
		Id: r.model.accounts[p.lhs].character.GetId(), Currency: p.lhsGives.currency(),
	})
	how := r.end(ctx, o, err)
	if how == ok {
		r.model.check(p.lhs, before, got)
	}
	return how
}

func (r *runner) trade(ctx context.Context, number int, p plan) outcome {
	o := &operation{
		number: number, what: "trade", from: p.lhs, to: p.rhs,
		parts: []part{{account: p.lhs, in: p.rhsGives, out: p.lhsGives}, {account: p.rhs, in: p.lhsGives, out: p.rhsGives}},
	}
	lhs := &rpgv1.TradeSide{CharacterId: r.model.accounts[p.lhs].character.GetId(), Currency: p.lhsGives.currency()}
	rhs := &rpgv1.TradeSide{CharacterId: r.model.accounts[p.rhs].character.GetId(), Currency: p.rhsGives.currency()}
	if p.item {
		if o.item = r.model.take(p.lhs); o.item != nil {
			lhs.Items = []*rpgv1.Item{{Id: o.item.thing.GetId()}}
		}
	}
	if p.tooMuch {
		// It must be refused, so it counts for nothing, unless it is not.
		o.parts = nil
	}
	r.model.begin(o)
	beforeLHS, beforeRHS := r.model.now(p.lhs), r.model.now(p.rhs)
	got, err := r.client.Trade(ctx, &rpgv1.TradeRequest{Lhs: lhs, Rhs: rhs})
	how := r.end(ctx, o, err)
	switch {
	case how == ok && p.tooMuch:
		r.model.wrong("operation %d gave away %d gold of character %s, which never had them", number, int64(tooMuch), lhs.GetCharacterId())
	case how == ok:
		r.model.check(p.lhs, beforeLHS, got.GetLhs())
		r.model.check(p.rhs, beforeRHS, got.GetRhs())
	}
	return how
}

// end tells the model how an operation ended.
func (r *runner) end(ctx context.Context, o *operation, err error) outcome {
	how := outcomeOf(err)
	if missing(err) {
		r.model.wrong("%v was refused, since something was not found: %v", o, err)
	}
	if how == unknown {
		if until, is := ctx.Deadline(); is {
			r.note(until)
		}
		if len(o.parts) == 0 {
			how = refused // it cannot take effect
		}
	}
	r.model.end(o, how)
	return how
}

// samePlayer compares what the simulation knows of player number n, its
// characters included.
func (m *model) samePlayer(got *rpgv1.PlayerView, want *rpgv1.Player, n int) bool {
	have := map[string]string{}
	for _, c := range got.GetCharacters() {
		have[c.GetId()] = c.GetFullname()
	}
	accounts := m.accounts[n*perPlayer : min((n+1)*perPlayer, len(m.accounts))]
	for _, a := range accounts {
		if have[a.character.GetId()] != a.character.GetFullname() {
			return false
		}
	}
	return len(have) == len(accounts) && got.GetId() == want.GetId() && got.GetUsername() == want.GetUsername() &&
		got.GetActive() == want.GetActive() && got.GetLimitsId() == want.GetLimitsId()
}
