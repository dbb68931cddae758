package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// baseline is the same game written by hand on PostgreSQL, with a column per
// kind of money and the rules as checks of the table.
type baseline struct {
	pool    *pgxpool.Pool
	retries func() // called for every try that did not serialize
}

const baselineTable = `CREATE TABLE IF NOT EXISTS bench_character (
	id text PRIMARY KEY,
	player_id text NOT NULL,
	fullname text NOT NULL,
	active boolean NOT NULL,
	gold bigint NOT NULL CHECK (gold >= 0),
	faction_0 bigint NOT NULL CHECK (faction_0 >= 0),
	faction_1 bigint NOT NULL CHECK (faction_1 >= 0),
	faction_2 bigint NOT NULL CHECK (faction_2 >= 0)
)`

func newBaseline(ctx context.Context, dsn string, conns, characters int) (*baseline, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = int32(conns) //nolint:gosec // few
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	b := &baseline{pool: pool, retries: func() {}}
	if _, err := pool.Exec(ctx, baselineTable); err != nil {
		pool.Close()
		return nil, err
	}
	_, err = pool.CopyFrom(ctx, pgx.Identifier{"bench_character"},
		[]string{"id", "player_id", "fullname", "active", "gold", "faction_0", "faction_1", "faction_2"},
		pgx.CopyFromSlice(characters, func(i int) ([]any, error) {
			c := newCharacter(i, "bench")
			return []any{c.GetId(), c.GetPlayerId(), c.GetFullname(), true, c.GetCurrency().GetGold(), c.GetCurrency().GetFaction_0(), int64(0), int64(0)}, nil
		}))
	if err != nil {
		pool.Close()
		return nil, err
	}
	if _, err := pool.Exec(ctx, "VACUUM ANALYZE bench_character"); err != nil {
		pool.Close()
		return nil, err
	}
	return b, nil
}

const (
	selectMoney = "SELECT gold, faction_0 FROM bench_character WHERE id = $1"
	updateMoney = "UPDATE bench_character SET gold = $2, faction_0 = $3 WHERE id = $1"
	moveMoney   = "UPDATE bench_character SET gold = gold + $2, faction_0 = faction_0 + $3 WHERE id = $1 RETURNING gold, faction_0"
)

var errShort = errors.New("not enough money")

// trade reads both rows, checks, and writes both, in one transaction: lock is
// "" or " FOR UPDATE".
func (b *baseline) trade(ctx context.Context, level pgx.TxIsoLevel, lock string, lhs, rhs string, gold, faction int64) error {
	return pgx.BeginTxFunc(ctx, b.pool, pgx.TxOptions{IsoLevel: level}, func(tx pgx.Tx) error {
		money := map[string]*[2]int64{lhs: {}, rhs: {}}
		first, second := lhs, rhs
		if lock != "" && second < first {
			first, second = second, first
		}
		for _, id := range []string{first, second} {
			if err := tx.QueryRow(ctx, selectMoney+lock, id).Scan(&money[id][0], &money[id][1]); err != nil {
				return err
			}
		}
		l, r := money[lhs], money[rhs]
		if l[0] < gold || r[1] < faction {
			return errShort
		}
		l[0], r[0] = l[0]-gold, r[0]+gold
		r[1], l[1] = r[1]-faction, l[1]+faction
		for _, id := range []string{first, second} {
			if _, err := tx.Exec(ctx, updateMoney, id, money[id][0], money[id][1]); err != nil {
				return err
			}
		}
		return nil
	})
}

// retried repeats what did not serialize, as the manual of PostgreSQL asks for.
func (b *baseline) retried(ctx context.Context, f func() error) error {
	for {
		err := f()
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "40001" && e.Code != "40P01" {
			return err
		}
		b.retries()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (b *baseline) tradeSerializable(characters int) operation {
	return func(ctx context.Context, _ int, rnd *rand.Rand) error {
		x, y := pair(rnd, characters)
		gold, faction := amounts(rnd)
		return b.retried(ctx, func() error {
			return b.trade(ctx, pgx.Serializable, "", characterID(x), characterID(y), gold, faction)
		})
	}
}

func (b *baseline) tradeRowLocked(characters int) operation {
	return func(ctx context.Context, _ int, rnd *rand.Rand) error {
		x, y := pair(rnd, characters)
		gold, faction := amounts(rnd)
		return b.trade(ctx, pgx.ReadCommitted, " FOR UPDATE", characterID(x), characterID(y), gold, faction)
	}
}

// tradeTuned is the trade in one round trip: two updates in key order, which
// lock their rows, in one pipeline, which PostgreSQL runs as one transaction;
// the table's checks refuse what the handlers would.
func (b *baseline) tradeTuned(characters int) operation {
	return func(ctx context.Context, _ int, rnd *rand.Rand) error {
		x, y := pair(rnd, characters)
		gold, faction := amounts(rnd)
		work := &pgx.Batch{}
		take := func() { work.Queue(moveMoney, characterID(x), -gold, faction) }
		give := func() { work.Queue(moveMoney, characterID(y), gold, -faction) }
		if x < y {
			take()
			give()
		} else {
			give()
			take()
		}
		results := b.pool.SendBatch(ctx, work)
		var err error
		for range 2 {
			var g, f int64
			err = errors.Join(err, results.QueryRow().Scan(&g, &f))
		}
		return errors.Join(err, results.Close())
	}
}

// fundTransaction is how most people write it: read, change, write,
// SERIALIZABLE.
func (b *baseline) fundTransaction(characters int) operation {
	return func(ctx context.Context, _ int, rnd *rand.Rand) error {
		id := characterID(rnd.IntN(characters))
		return b.retried(ctx, func() error {
			return pgx.BeginTxFunc(ctx, b.pool, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
				var have int64
				if err := tx.QueryRow(ctx, "SELECT faction_2 FROM bench_character WHERE id = $1", id).Scan(&have); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, "UPDATE bench_character SET faction_2 = $2 WHERE id = $1", id, have+1)
				return err
			})
		})
	}
}

// fundStatement is one statement.
func (b *baseline) fundStatement(characters int) operation {
	return func(ctx context.Context, _ int, rnd *rand.Rand) error {
		var have int64
		return b.pool.QueryRow(ctx, "UPDATE bench_character SET faction_2 = faction_2 + 1 WHERE id = $1 RETURNING faction_2",
			characterID(rnd.IntN(characters))).Scan(&have)
	}
}

// read reads by primary key.
func (b *baseline) read(characters int) operation {
	return func(ctx context.Context, _ int, rnd *rand.Rand) error {
		var id, player, fullname string
		var active bool
		var money [4]int64
		return b.pool.QueryRow(ctx,
			"SELECT id, player_id, fullname, active, gold, faction_0, faction_1, faction_2 FROM bench_character WHERE id = $1",
			characterID(rnd.IntN(characters))).Scan(&id, &player, &fullname, &active, &money[0], &money[1], &money[2], &money[3])
	}
}

// checkSums is that of the game.
func (b *baseline) checkSums(ctx context.Context, n int) error {
	var gold, faction int64
	err := b.pool.QueryRow(ctx, "SELECT sum(gold)::bigint, sum(faction_0)::bigint FROM bench_character").Scan(&gold, &faction)
	if err != nil {
		return err
	}
	if gold != int64(n)*startGold || faction != int64(n)*startFaction {
		return fmt.Errorf("baseline: money was not conserved: %d, %d", gold, faction)
	}
	return nil
}
