// Package isolation checks histories of transactions for strict
// serializability.
//
// Clients record what they asked for, what they saw, and when (Recorder). From
// what reads saw of lists that only grow, and of registers that get each value
// once, Check infers in which order writes took effect, and with it which
// transaction must come before which:
//
//	ww   u wrote the version that v's write follows
//	wr   v saw what u wrote
//	rw   u did not see what v wrote
//	rt   u had ended before v began
//
// A circle of these is an anomaly: no order of the transactions explains what
// was seen. Its name tells how bad it is, from G0 (writes interleave) over G1c
// and G-single to G2-item; "-realtime" is added where a circle needs rt. The
// idea is Elle's: Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies
// from Experimental Observations", VLDB 2020; the names are Adya's.
//
//	r := isolation.NewRecorder()
//	op := r.Begin(client, steps...)
//	...
//	op.End(isolation.OK, seen...)
//	report, err := isolation.Check(r.History())
//	if !report.Valid() { fmt.Println(report) }
//
// Linearizable looks at each instance for itself, with porcupine; it knows
// orders that reads alone do not show.
//
// The checker knows nothing of the platform. The workload that drives one is
// in the package workload.
package isolation
