package integration

import (
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/encoding/protojson"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
)

// balance is what counts of a character.
type balance struct{ gold, faction int64 }

func balanceOf(c *rpgv1.Currency) balance { return balance{c.GetGold(), c.GetFaction_0()} }

// row is a character as the database has it.
type row struct {
	balance
	version uint64
}

// verify checks everything that a workload must leave behind, whatever was
// killed meanwhile:
//
//   - in the change feed, every acknowledged trade is found once, every unknown
//     one at most once, a refused one never, and nothing else;
//   - a trade is two changes, which took and gave the same, and the answer told
//     what they made;
//   - a model of the balances, the feed, what every edge reads and the rows of
//     the database agree;
//   - nothing is held any more.
//
// At least want trades must have succeeded.
func (w *workload) verify(s *system, want int, readers ...rpgv1.RpgServiceClient) {
	t := w.t
	t.Helper()
	// The last answer is sent in the Kafka transaction that commits the trade, so
	// what is read now has every change that was acknowledged. Those of unknown
	// trades may still be under way: they end when their holds have.
	eventually(t, "every hold ends", func() error {
		if n := openHolds(s); n > 0 {
			return fmt.Errorf("%d holds or parked visits are left", n)
		}
		return nil
	})
	f := readFeed(s)
	committed := w.committed(f)
	model := map[string]balance{}
	for _, id := range w.ids {
		model[id] = balance{purse, purse}
	}
	counts := map[outcome]int{}
	applied := 0
	for i, o := range w.ops {
		counts[o.outcome]++
		changes, found := committed[o.trade]
		delete(committed, o.trade)
		switch {
		case o.outcome == ok && !found:
			t.Errorf("trade %d %+v was acknowledged and is lost", i, o.trade)
		case o.outcome == failed && found:
			t.Errorf("trade %d %+v was refused (%v) and took effect all the same", i, o.trade, o.err)
		case o.outcome == notTried:
			t.Errorf("trade %d was not tried", i)
		case o.outcome == unknown && found:
			applied++
		}
		if !found {
			continue
		}
		if o.outcome == ok {
			for side, c := range map[string]*rpgv1.Character{o.lhs: o.answer.GetLhs(), o.rhs: o.answer.GetRhs()} {
				if got, want := balanceOf(c.GetCurrency()), balanceOf(changes[side].after); got != want {
					t.Errorf("trade %d: the answer says that %s has %v, the feed %v", i, side, got, want)
				}
			}
		}
		l, r := model[o.lhs], model[o.rhs]
		model[o.lhs] = balance{l.gold - o.gold, l.faction + o.faction}
		model[o.rhs] = balance{r.gold + o.gold, r.faction - o.faction}
	}
	for extra := range committed {
		t.Errorf("the feed has a trade that nobody asked for: %+v", extra)
	}
	t.Logf("%d trades acknowledged, %d refused, %d unknown, of which %d took effect", counts[ok], counts[failed], counts[unknown], applied)
	if counts[ok] < want {
		t.Errorf("%d trades succeeded, want at least %d", counts[ok], want)
	}
	if counts[failed] == 0 {
		t.Error("no trade was refused: overdrafts were not tried")
	}

	rows := map[string]row{}
	var total balance
	for _, id := range w.ids {
		last := f.last[id]
		if got := balanceOf(last.after); got != model[id] {
			t.Errorf("%s has %v in the feed, the model %v", id, got, model[id])
		}
		rows[id] = row{model[id], last.version}
		total.gold += last.after.GetGold()
		total.faction += last.after.GetFaction_0()
		for i, c := range readers {
			read, err := c.ReadCharacter(t.Context(), &rpgv1.ReadCharacterRequest{Id: id})
			if err != nil {
				t.Fatalf("edge %d: read %s: %v", i, id, err)
			}
			if got := balanceOf(read.GetCurrency()); got != model[id] {
				t.Errorf("edge %d: %s has %v, the model %v", i, id, got, model[id])
			}
		}
	}
	n := int64(len(w.ids)) * purse
	if want := (balance{n, n}); total != want {
		t.Errorf("all characters together have %v, want %v", total, want)
	}
	eventually(t, "the rows are what the cache has", func() error {
		got, err := s.characters()
		if err == nil && !maps.Equal(got, rows) {
			err = fmt.Errorf("%d of %d rows differ, e.g. %s", differences(got, rows), len(rows), example(got, rows))
		}
		return err
	})
}

// committed returns the trades that the feed has, each with its changes by
// character.
func (w *workload) committed(f *feed) map[trade]map[string]change {
	w.t.Helper()
	out := map[trade]map[string]change{}
	for id, changes := range f.byTxn {
		if len(changes) == 1 && changes[0].version == 1 {
			continue // created
		}
		if len(changes) != 2 || changes[0].key == changes[1].key {
			w.t.Errorf("transaction %v has made %d changes, want one of each of two characters: %v", id, len(changes), changes)
			continue
		}
		l, r := changes[0], changes[1]
		gold, faction := l.before.GetGold()-l.after.GetGold(), l.after.GetFaction_0()-l.before.GetFaction_0()
		if gold < 0 || faction < 0 {
			l, r = r, l
			gold, faction = -gold, -faction
		}
		if r.after.GetGold()-r.before.GetGold() != gold || r.before.GetFaction_0()-r.after.GetFaction_0() != faction {
			w.t.Errorf("transaction %v has not given what it took: %v", id, changes)
		}
		key := trade{l.key, r.key, gold, faction}
		if out[key] != nil {
			w.t.Errorf("trade %+v took effect more than once", key)
		}
		out[key] = map[string]change{l.key: l, r.key: r}
	}
	return out
}

// characters returns the rows of all characters.
func (s *system) characters() (map[string]row, error) {
	rows, done, err := s.query(`SELECT id, currency, rkcy_version FROM "character"`)
	defer done()
	if err != nil {
		return nil, err
	}
	out := map[string]row{}
	var id string
	var currency []byte
	var version int64
	_, err = pgx.ForEachRow(rows, []any{&id, &currency, &version}, func() error {
		c := &rpgv1.Currency{}
		if err := protojson.Unmarshal(currency, c); err != nil {
			return err
		}
		out[id] = row{balanceOf(c), uint64(version)} //nolint:gosec // not negative
		return nil
	})
	return out, err
}

func differences(a, b map[string]row) int {
	n := 0
	for id := range b {
		if a[id] != b[id] {
			n++
		}
	}
	return n
}

func example(a, b map[string]row) string {
	for id := range b {
		if a[id] != b[id] {
			return fmt.Sprintf("%s: %v, want %v", id, a[id], b[id])
		}
	}
	return fmt.Sprintf("%d rows, want %d", len(a), len(b))
}
