// Package control acts on a running platform: it pauses and resumes, cancels and
// retries in bulk, purges. Whatever it does is written to the platform topic before
// it is done, and how it ended afterwards: who, when, what, why.
//
//	c := control.New(log, router, types)
//	state, err := c.Pause(ctx, control.Who{Author: "ann", Reason: "bad release"}, &rkcyv1.PauseScope{Concern: "player", Partition: -1})
//
// It knows topics and the platform's configuration, and neither edges nor databases.
package control
