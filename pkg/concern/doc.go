// Package concern serves Concerns: it defines what a Concern is (Definition,
// Command), runs command handlers, and owns the partitions that it processes
// (Processor).
//
// A handler is a pure function of its instance, its payload and its Context.
// It changes the private copy of the instance that it is given and returns a
// result, or it refuses with a *txn.Error and nothing happens:
//
//	func (Characters) Fund(ctx concern.Context, c *rpgv1.Character, in *rpgv1.Funds) (*rpgv1.Character, error) {
//		c.Currency.Gold += in.GetCurrency().GetGold()
//		return c, nil
//	}
//
// A Processor runs workers. Each worker is a member of the consumer group, has
// one transactional producer, and one engine, which holds all that is known of
// the partitions that the worker owns:
//
//	poll ► decode ► load misses ► engine (pure) ► ONE Kafka transaction ► effects count
//
// The engine has no clock, no I/O and no goroutine: the same records in the
// same order give the same output. A partition passes through these states:
//
//	assigned (paused) ─► restoring ─► running ─► revoked
//	                        ▲            │
//	                        └────────────┘ a Kafka transaction failed
//
// The package imports pkg/stream and pkg/txn. It must not know the edge, the
// platform file, or which database is behind a Loader.
package concern
