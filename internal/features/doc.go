// Package features has end-to-end tests of sagas, idempotency keys, cancels,
// delayed starts and what can be asked about transactions: nodes that run the
// role-playing game on real servers, asked over gRPC, HTTP and the command
// line.
package features
