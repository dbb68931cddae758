package configset

import (
	"context"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Follow reads the config topic to its end, calls fn with the state there, and
// then with each later one until ctx ends; then it returns nil. fn is called on
// the caller's goroutine. A record that cannot be used is logged, and the
// Concern's set stays as it was. Versions of Concerns without a definition are
// passed over.
func Follow(ctx context.Context, log stream.Config, names platform.Names, definitions []Definition, fn func(*State)) error {
	log = log.WithDefaults()
	byName := map[string]Definition{}
	for _, d := range definitions {
		byName[d.Name] = d
	}
	reader, err := stream.NewReader(log)
	if err != nil {
		return err
	}
	defer reader.Close()
	state := &State{}
	take := func(v *rkcyv1.ConfigVersion) bool {
		d, ok := byName[v.GetConcern()]
		if !ok {
			log.Logger.Debug("a version of a config Concern that this program does not have", "concern", v.GetConcern(), "version", v.GetVersion())
			return false
		}
		set, err := d.Decode(v)
		if err != nil {
			log.Logger.Error("a published set of a config Concern cannot be used; the one before stays",
				"concern", v.GetConcern(), "version", v.GetVersion(), "author", v.GetAuthor(), "error", err)
			return false
		}
		state = state.with(v, set)
		return true
	}
	at, err := readAll(ctx, log, reader, names, func(v *rkcyv1.ConfigVersion) { take(v) })
	if err == nil {
		fn(state)
		err = reader.Follow(ctx, topic(names), at.offset, nil, func(r stream.Record) {
			if v := at.chain.next(r); v != nil && take(v) {
				fn(state)
			}
		})
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the caller ended it
	}
	return err
}
