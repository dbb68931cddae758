// Package workload drives real processors with transactions over lists and
// registers on few hot keys, disturbs them, and records what clients see, for
// package isolation to judge.
//
// The application has three Concerns without a database: list_a and list_b,
// whose instances are lists, and register. Processors run in this process and,
// where Config.Child names a program that calls Child, in processes of their
// own that are killed in the middle of their work.
//
// It is not for users. It is a package rather than a test because tests of
// several packages run it.
package workload
