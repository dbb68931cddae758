// Package configset publishes and follows the instances of config Concerns:
// small sets that handlers may read, the same in every processor.
//
//	instances, err := configset.Parse(definition, data, "limits.yaml")
//	...
//	r, err := configset.PrepareReplace(ctx, log, names, definition, instances)
//	for _, change := range r.Changes {
//		fmt.Println(change)
//	}
//	version, err := r.Apply(ctx, "someone")
//
// One record of the config topic has all instances of one config Concern, so
// whoever reads it switches from one whole set to the next. The versions are a
// chain: each is one more than the last, whichever Concern it is of, and of
// several with the same number the first in the log counts. So of two people
// who replace something at the same time one wins and the other one is told.
// The topic is not compacted, since compaction would keep the last of several
// with the same number.
//
//	file ─ Parse ─► instances ─ PrepareReplace ─► changes ─ Apply ─► ConfigVersion ─ Follow ─► State
//	         └─► platform.Faults, all at once
//
// The package imports platform, stream and txn. It must not know who uses the
// instances.
package configset
