// Package integration tests the rpg program as its users have it: processes of
// the real binary, driven over gRPC, HTTP and the command line, with a real
// PostgreSQL, and killed without warning.
//
// Every case runs on a broker of one of two kinds:
//
//   - TestEmbedded…: the one that "rpg run --embedded" brings along, which dies
//     with the process and comes back on its data directory;
//   - TestServers…: the Apache Kafka that RKCY_TEST_KAFKA names. Where it is
//     unset, an embedded broker in the test process stands in, so that a plain
//     "go test" runs the same cases.
//
// test.sh runs all of it on both. A test has a platform name of its own, so
// that tests share a broker.
package integration
