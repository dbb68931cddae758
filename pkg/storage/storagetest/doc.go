// Package storagetest is the conformance suite for storage targets, and what
// tests of storage need: a Concern with a column of every kind, and a target
// in memory that can be made to fail.
//
//	func TestConformance(t *testing.T) {
//		storagetest.Run(t, func(t *testing.T, mappings []storage.Mapping) storagetest.Target { … })
//	}
package storagetest
