// Package chaos is the fault suite: what docs/faults.md promises, made
// executable.
//
// Every scenario runs a small application in several processes of their own
// (processor, storage worker, edge) on a real Apache Kafka and a real PostgreSQL,
// drives it over gRPC, and does harm meanwhile. The application has accounts of
// two Concerns between which amounts are transferred, lists that are appended
// to, and counters; each operation has a number of its own that stays in every
// instance it changes. The client writes down for each whether it is ok, failed
// or unknown, and afterwards, whatever was killed:
//
//   - what is ok took effect once, what failed did not, what is unknown did at
//     most once, each in all its instances or in none;
//   - the versions of an instance in the change feed are 1, 2, 3 and so on;
//   - feed, rows and what every edge reads are the same, and sums are what they
//     were;
//   - package isolation finds no anomaly;
//   - nothing is held any more, and enough operations succeeded.
//
// "make chaos" runs all of it. A plain "go test" runs the tests that need no
// servers of their own, which are those of the proxies.
package chaos
