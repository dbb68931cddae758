// Package txn is the transaction model: what a transaction is, how it is
// built, how it moves on from step to step, and how a caller submits one and
// waits for its end.
//
// A transaction is an ordered list of steps, each a command on one instance of
// one Concern. The builder groups the steps into visits, one trip to one
// instance each:
//
//	b := txn.New()
//	debit := txn.Add(b, rpgv1.CharacterDebitFunds("c1", funds))
//	credit := txn.Add(b, rpgv1.CharacterCreditFunds("c2", funds))
//	result, err := client.Run(ctx, b)
//	if err == nil {
//		after, err := credit.Result(result)
//	}
//
// The state machine, from the point of view of one transaction (isolated
// mode), is driven by Advance and by HoldQueue, which are pure: no clock, no
// I/O, no goroutine.
//
//	submit ─► visit 0 ─ prepared ─► visit 1 ─ … ─► last visit ─► committed
//	             │  ▲                  │
//	   conflict: │  │ conflict: die    │ handler refuses, deadline, cancel
//	   park ◄────┘  └── attempt + 1 ◄──┤
//	                                   └─► aborted
//
// The package imports the wire format and nothing else of the platform. It
// must not know Kafka, PostgreSQL, or who runs the steps.
package txn
