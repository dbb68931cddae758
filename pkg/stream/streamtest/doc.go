// Package streamtest gives tests a broker: one in the process, or the one that
// RKCY_TEST_KAFKA names, so that the same tests run on both.
//
//	cfg := streamtest.Config(t)
//	topic := streamtest.Name("orders") // no other test uses it
//	admin, err := stream.NewAdmin(cfg)
package streamtest
