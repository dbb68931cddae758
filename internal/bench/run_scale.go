package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/jackc/pgx/v5"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

const (
	// stepsInFlight is how many callers the steps workload has.
	stepsInFlight = 32
	// scaleInFlight is the same of the other workloads that scale.
	scaleInFlight = 512
	// hotInstances get 99 of 100 funds, the others share the rest. All are
	// outside of the cache but for those, hence the misses.
	hotInstances  = 1000
	coldShare     = 0.01
	instanceCache = 1 << 20
)

// stepsOp funds a number of characters in one transaction, each a visit. Callers
// have characters of their own, so that conflicts do not count.
func stepsOp(c *client, steps int) operation {
	return func(ctx context.Context, caller int, _ *rand.Rand) error {
		b := txn.New()
		for i := range steps {
			txn.Add(b, rpgv1.CharacterFund(characterID(caller*steps+i), &rpgv1.Funds{Currency: &rpgv1.Currency{Faction_2: 1}}))
		}
		_, err := c.Run(ctx, b)
		return err
	}
}

// steps measures transactions that grow.
func (g *gameRun) steps(ctx context.Context) error {
	for _, n := range g.o.Steps {
		if err := g.sized(ctx, wlSteps, n, stepsInFlight, stepsOp(g.client, n)); err != nil {
			return err
		}
	}
	return nil
}

// sized measures a cell of a scaling workload.
func (g *gameRun) sized(ctx context.Context, workload string, size, inFlight int, op operation) error {
	g.size = size
	defer func() { g.size = 0 }()
	return g.cell(ctx, sysRocketcycle, workload, inFlight, op)
}

// partitions measures trades on topics of more and more partitions, each on a
// platform of its own.
func (r *runner) partitions(ctx context.Context, kind, bootstrap string) error {
	for _, n := range r.o.PartitionCounts {
		cfg, err := r.nodeConfigOf(ctx, fmt.Sprintf("partitions%d", n), kind, bootstrap, n, node.AllRoles())
		if err != nil {
			return err
		}
		err = r.with(ctx, cfg, kind, func(g *gameRun) error {
			if err := createCharacters(ctx, g.client, r.o.Characters); err != nil {
				return err
			}
			return errors.Join(
				g.sized(ctx, wlPartitions, n, scaleInFlight, tradeOp(g.client, r.o.Characters)),
				checkSums(ctx, g.client, r.o.Characters),
			)
		})
		if err != nil {
			return fmt.Errorf("%d partitions: %w", n, err)
		}
	}
	return nil
}

// instances measures funds while the database has more and more characters, and
// the cache stays small.
func (r *runner) instances(ctx context.Context, kind, bootstrap string) error {
	cfg, err := r.nodeConfig(ctx, wlInstances, kind, bootstrap, node.AllRoles())
	if err != nil {
		return err
	}
	cfg.CacheBytes = instanceCache
	have := 0
	for _, n := range r.o.Instances {
		if err := addCharacters(ctx, cfg.DSN, have, n); err != nil {
			return err
		}
		have = n
		err := r.with(ctx, cfg, kind, func(g *gameRun) error {
			return g.sized(ctx, wlInstances, n, scaleInFlight, func(ctx context.Context, _ int, rnd *rand.Rand) error {
				i := rnd.IntN(hotInstances)
				if n > hotInstances && rnd.Float64() < coldShare {
					i = hotInstances + rnd.IntN(n-hotInstances)
				}
				_, err := g.client.fund(ctx, &rpgv1.FundCharacterRequest{Id: characterID(i), Currency: &rpgv1.Currency{Faction_2: 1}})
				return err
			})
		})
		if err != nil {
			return fmt.Errorf("%d instances: %w", n, err)
		}
	}
	return nil
}

// insertCharacters makes those from $1 up to, and without, $2.
const insertCharacters = `INSERT INTO character (id, player_id, fullname, active, currency, rkcy_version, rkcy_time)
SELECT '00000000-0000-7000-8000-' || lpad(i::text, 12, '0'), '00000000-0000-7000-9000-' || lpad((i / 10)::text, 12, '0'),
	'Character ' || i, true, '{"gold":"1000000000","faction_0":"1000000000"}', 1, now()
FROM generate_series($1::bigint, $2::bigint - 1) AS i`

// addCharacters writes rows as the storage worker would, from number from up to,
// and without, to.
func addCharacters(ctx context.Context, dsn string, from, to int) (err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	for _, statement := range []string{insertCharacters, "VACUUM ANALYZE character", "CHECKPOINT"} {
		var args []any
		if strings.Contains(statement, "$1") {
			args = []any{from, to}
		}
		if _, err := conn.Exec(ctx, statement, args...); err != nil {
			return fmt.Errorf("characters %d to %d: %w", from, to, err)
		}
	}
	return nil
}
