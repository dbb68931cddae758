package sim

import (
	"fmt"
	"sync"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
)

// outcome is how an operation ended.
type outcome int

const (
	ok outcome = iota
	refused
	unknown
)

// part is what an operation does to one account.
type part struct {
	account int
	in, out money
}

func (p part) delta() money { return p.in.minus(p.out) }

// operation is a change that was sent.
type operation struct {
	number int
	what   string
	parts  []part
	// item moves between the accounts from and to; nil: none does.
	item     *item
	from, to int
}

// String names the operation in reports.
func (o *operation) String() string { return fmt.Sprintf("operation %d (%s)", o.number, o.what) }

// account is what the model knows of a character.
type account struct {
	character *rpgv1.Character // as it was created
	// settled is what it must have, without operations of unknown outcome.
	settled money
	// in and out are sums over operations that were begun and not refused,
	// ackIn and ackOut over those that were acknowledged.
	in, out, ackIn, ackOut money
}

// item is a thing that exists once.
type item struct {
	thing *rpgv1.Item
	owner int
	// busy: an operation that moves it has not ended, or nobody knows how.
	busy bool
}

// model is what must be. Safe for concurrent use.
type model struct {
	mu       sync.Mutex
	players  []*rpgv1.Player
	accounts []*account
	items    []*item
	unknown  []*operation
	faults   []string // what cannot be, as seen on the way
	more     int      // faults that are not in the list
}

// begin tells that an operation is about to be sent.
func (m *model) begin(o *operation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range o.parts {
		a := m.accounts[p.account]
		a.in, a.out = a.in.plus(p.in), a.out.plus(p.out)
	}
}

// end tells how it ended.
func (m *model) end(o *operation, how outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch how {
	case unknown:
		m.unknown = append(m.unknown, o)
		return // the item stays busy
	case refused:
		for _, p := range o.parts {
			a := m.accounts[p.account]
			a.in, a.out = a.in.minus(p.in), a.out.minus(p.out)
		}
	case ok:
		m.settle(o)
	}
	if o.item != nil {
		o.item.busy = false
	}
}

// settle makes an operation count. mu is held.
func (m *model) settle(o *operation) {
	for _, p := range o.parts {
		a := m.accounts[p.account]
		a.settled = a.settled.plus(p.delta())
		a.ackIn, a.ackOut = a.ackIn.plus(p.in), a.ackOut.plus(p.out)
	}
	if o.item != nil {
		o.item.owner = o.to
	}
}

// take returns an item that an account has and lends it to the caller's
// operation; nil if there is none.
func (m *model) take(owner int) *item {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range m.items {
		if i.owner == owner && !i.busy {
			i.busy = true
			return i
		}
	}
	return nil
}

// moment is what was acknowledged at some time.
type moment struct{ in, out money }

// now returns what is acknowledged of an account. It is called before a
// request, for check to be called with after the answer.
func (m *model) now(at int) moment {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[at]
	return moment{a.ackIn, a.ackOut}
}

// check holds an answer against what is possible.
func (m *model) check(at int, before moment, got *rpgv1.Character) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[at]
	initial := moneyOf(a.character.GetCurrency())
	low := initial.plus(before.in).minus(a.out)
	high := initial.plus(a.in).minus(before.out)
	low = money{max(low[0], 0), max(low[1], 0), max(low[2], 0), max(low[3], 0)}
	if has := moneyOf(got.GetCurrency()); !has.within(low, high) {
		m.fault("character %s was answered with %v, when at least %v and at most %v was possible", a.character.GetId(), has, low, high)
	}
	if got.GetId() != a.character.GetId() || got.GetFullname() != a.character.GetFullname() || got.GetPlayerId() != a.character.GetPlayerId() {
		m.fault("character %s was answered as %q of player %s with the id %s", a.character.GetId(), got.GetFullname(), got.GetPlayerId(), got.GetId())
	}
}

// wrong records what cannot be.
func (m *model) wrong(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault(format, args...)
}

// maxFaults bounds what is listed.
const maxFaults = 100

func (m *model) fault(format string, args ...any) {
	if len(m.faults) == maxFaults {
		m.more++
		return
	}
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}
