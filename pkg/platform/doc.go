// Package platform describes a platform: its Concerns, how they are
// partitioned and kept, which topics that makes, and how a change of the
// description is brought about.
//
//	cfg, err := platform.Load("platform.yaml", os.Getenv)
//	...
//	update, err := platform.PrepareUpdate(ctx, log, cfg) // log reaches Kafka
//	for _, action := range update.Actions {
//		fmt.Println(action)
//	}
//	version, err := update.Apply(ctx, "someone")
//
// A platform file goes through these states:
//
//	file ─ Parse ─► Config ─ Proto ─► PlatformConfig ─ Plan ─► actions ─ Apply ─► PlatformVersion
//	         │                            ▲                                            │
//	         └─► Faults, all at once      └── the version published before ◄───────────┘
//
// The published version is the authority. Everybody who produces or consumes
// reads it (Current, Watch) and derives topic names and partitions from it
// (Names, Router), so that no two programs disagree on where a key lives.
//
// The package imports stream and txn. It must not know what Concerns do, where
// they are stored, or how requests arrive.
package platform
