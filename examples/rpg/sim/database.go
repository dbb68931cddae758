package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// database is read with SQL, past all processors.
type database struct {
	name   string
	target *postgres.Target
}

// openAll opens every database and sees that it answers.
func openAll(cfg Config) ([]*database, func(), error) {
	var out []*database
	closeAll := func() {
		for _, d := range out {
			d.target.Close()
		}
	}
	for _, d := range cfg.Databases {
		// A timeout as long as that of a request: tables may be large.
		target, err := postgres.Open(postgres.Config{DSN: d.DSN, Mappings: cfg.Mappings, LoadTimeout: cfg.Timeout})
		if err != nil {
			closeAll()
			return nil, nil, &edgecmd.ExitError{Code: edgecmd.ExitUsage, Err: err}
		}
		out = append(out, &database{name: d.Name, target: target})
		ctx, cancel := context.WithTimeout(context.Background(), cfg.Timeout)
		err = target.CheckSchema(ctx)
		cancel()
		if err != nil {
			closeAll()
			code := edgecmd.ExitRefused
			if txn.CodeOf(err) == txn.CodeUnavailable {
				code = edgecmd.ExitUnavailable
			}
			return nil, nil, &edgecmd.ExitError{Code: code, Err: fmt.Errorf("database %s: %w", d.Name, err)}
		}
	}
	return out, closeAll, nil
}

// caughtUp reads everybody until nothing differs from what must be, or wait has
// passed; then it returns what is there. An error means that the database was
// away.
func (d *database) caughtUp(ctx context.Context, want state, wait time.Duration) (state, error) {
	until := time.Now().Add(wait)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		have, err := d.read(ctx, want)
		if err == nil && len(differences(want, []view{{state: have}})) == 0 {
			return have, nil
		}
		if time.Now().After(until) {
			if err != nil {
				return state{}, fmt.Errorf("database %s: %w", d.name, err)
			}
			return have, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return state{}, errors.Join(err, ctx.Err())
		}
	}
}

// read reads everybody that is known.
func (d *database) read(ctx context.Context, want state) (state, error) {
	out := newState()
	const most = 1000 // in one statement
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(want.players)), most) {
		found, err := d.target.Load(ctx, rpgv1.PlayerConcern, keys)
		if err != nil {
			return out, err
		}
		for key, i := range found {
			p := &rpgv1.Player{}
			if err := proto.Unmarshal(i.GetValue(), p); err != nil {
				return out, fmt.Errorf("player %s: %w", key, err)
			}
			out.players[key] = p
		}
	}
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(want.characters)), most) {
		found, err := d.target.Load(ctx, rpgv1.CharacterConcern, keys)
		if err != nil {
			return out, err
		}
		for key, i := range found {
			c := &rpgv1.Character{}
			if err := proto.Unmarshal(i.GetValue(), c); err != nil {
				return out, fmt.Errorf("character %s: %w", key, err)
			}
			out.characters[key] = c
		}
	}
	return out, nil
}
