package telemetry

// Kind is how a metric behaves.
type Kind string

// The kinds.
const (
	// KindCounter only grows while a process lives.
	KindCounter Kind = "counter"
	// KindGauge is how much there is now.
	KindGauge Kind = "gauge"
	// KindHistogram counts values by size.
	KindHistogram Kind = "histogram"
)

// Labels of metrics. Each has as many values as the application, the platform
// file or the program has names for; none is a key or an id.
const (
	LabelMethod    = "method"    // of a service, as "package.Service/Method"
	LabelCode      = "code"      // OK or why something was refused
	LabelConcern   = "concern"   // a Concern
	LabelCommand   = "command"   // a command of a Concern
	LabelOutcome   = "outcome"   // OutcomeDone or OutcomeFailed
	LabelPartition = "partition" // number of a partition
	LabelReason    = "reason"    // one of a list in the program
	LabelTarget    = "target"    // a storage target
	LabelTopic     = "topic"     // kind of a topic: process, state, storage
)

// Values of LabelOutcome.
const (
	OutcomeDone   = "done"
	OutcomeFailed = "failed"
)

// Roles that have metrics.
const (
	RoleAll       = "every process"
	RoleEdge      = "edge"
	RoleProcessor = "processor"
	RoleStorage   = "storage worker"
)

// Names of the metrics.
const (
	PlatformVersion    = "rkcy.platform.version"
	PlatformPartitions = "rkcy.platform.partitions"

	EdgeRequestDuration = "rkcy.edge.request.duration"
	EdgeInFlight        = "rkcy.edge.in_flight"
	EdgeShed            = "rkcy.edge.shed"
	EdgeWebSockets      = "rkcy.edge.websockets"
	EdgeWaiting         = "rkcy.edge.waiting"

	StepDuration          = "rkcy.step.duration"
	StepQueueDuration     = "rkcy.step.queue.duration"
	StepExecutionDuration = "rkcy.step.execution.duration"
	StepCommitDuration    = "rkcy.step.commit.duration"
	CommitDuration        = "rkcy.commit.duration"
	CommitRecords         = "rkcy.commit.records"
	ProducerRenewals      = "rkcy.producer.renewals"

	Transactions       = "rkcy.transactions"
	TransactionsOpen   = "rkcy.transactions.open.age"
	Visits             = "rkcy.visits"
	VisitsLocal        = "rkcy.visits.local"
	Hops               = "rkcy.hops"
	Markers            = "rkcy.markers"
	Changes            = "rkcy.changes"
	Duplicates         = "rkcy.duplicates"
	Repeats            = "rkcy.repeats"
	Holds              = "rkcy.holds"
	Parked             = "rkcy.parked"
	ParkedBytes        = "rkcy.parked.bytes"
	Parks              = "rkcy.parks"
	Deaths             = "rkcy.deaths"
	Expired            = "rkcy.expired"
	ProcessorShed      = "rkcy.processor.shed"
	SagasUndone        = "rkcy.sagas.undone"
	SagasStuck         = "rkcy.sagas.stuck"
	Quarantined        = "rkcy.quarantined"
	Panics             = "rkcy.handler.panics"
	HandlersBlocked    = "rkcy.handler.blocked"
	ConfigVersion      = "rkcy.config.version"
	CacheHits          = "rkcy.cache.hits"
	CacheMisses        = "rkcy.cache.misses"
	CacheLoads         = "rkcy.cache.loads"
	CacheEvictions     = "rkcy.cache.evictions"
	CacheBytes         = "rkcy.cache.size"
	CacheOverlayBytes  = "rkcy.cache.overlay"
	CacheInstances     = "rkcy.cache.instances"
	PartitionsOwned    = "rkcy.partitions.owned"
	PartitionsRestored = "rkcy.partitions.restoring"
	PartitionLag       = "rkcy.partition.lag"
	LSOLag             = "rkcy.partition.lso.lag"
	LSOStalled         = "rkcy.partition.lso.stalled"

	StorageApplyDuration = "rkcy.storage.apply.duration"
	StorageDelay         = "rkcy.storage.delay"
	StorageBatches       = "rkcy.storage.batches"
	StorageChanges       = "rkcy.storage.changes"
	StorageLag           = "rkcy.storage.lag"
	StorageLagOffsets    = "rkcy.storage.lag.offsets"
	StorageFailing       = "rkcy.storage.failing"
)

// Metric describes one metric.
type Metric struct {
	// Name as OpenTelemetry has it.
	Name string
	Kind Kind
	// Unit is one of UCUM: s, By, or what is counted in braces.
	Unit string
	// Role is who has it.
	Role   string
	Labels []string
	Help   string
}

// Catalogue returns every metric of the platform.
func Catalogue() []Metric {
	const (
		counter, gauge, histogram = KindCounter, KindGauge, KindHistogram
		edge, processor, storage  = RoleEdge, RoleProcessor, RoleStorage
	)
	labels := func(names ...string) []string { return names }
	return []Metric{
		{PlatformVersion, gauge, "", RoleAll, nil, "Version of the published platform that the process goes by."},
		{PlatformPartitions, gauge, "{partition}", RoleAll, labels(LabelConcern), "Partitions that a Concern has, as published."},

		{EdgeRequestDuration, histogram, "s", edge, labels(LabelMethod, LabelCode), "Time that requests took, from their arrival to their answer, on all protocols."},
		{EdgeInFlight, gauge, "{request}", edge, nil, "Requests that are worked on."},
		{EdgeShed, counter, "{request}", edge, nil, "Requests refused since as many as the limit were in flight."},
		{EdgeWebSockets, gauge, "{connection}", edge, nil, "Open WebSockets."},
		{EdgeWaiting, gauge, "{transaction}", edge, nil, "Transactions that were submitted and whose end is waited for."},

		{StepDuration, histogram, "s", processor, labels(LabelConcern, LabelCommand), "Time from when a step came into the log until its effects were committed. Of a step that did not hop, from its execution on."},
		{StepQueueDuration, histogram, "s", processor, labels(LabelConcern), "Time from when a step came into the log until it was executed: waiting to be read, for the batch before it, and behind holds. Steps that did not hop are not counted."},
		{StepExecutionDuration, histogram, "s", processor, labels(LabelConcern, LabelCommand), "Time in the handler."},
		{StepCommitDuration, histogram, "s", processor, labels(LabelConcern), "Time from the end of the execution until the Kafka transaction was committed: the rest of the batch, the one in flight, and its own."},
		{CommitDuration, histogram, "s", processor, labels(LabelOutcome), "Time that Kafka transactions took, each of which is one batch."},
		{CommitRecords, counter, "{record}", processor, nil, "Input records of committed Kafka transactions."},
		{ProducerRenewals, counter, "{producer}", processor, labels(LabelReason), "Transactional producers that were replaced: connection (it broke), error (the library reported one), slow (a commit took too long), failed (a Kafka transaction did)."},

		{Transactions, counter, "{transaction}", processor, labels(LabelCode), "Transactions that ended, by how: OK, or why they were refused."},
		{TransactionsOpen, gauge, "s", processor, nil, "Age of the oldest transaction that holds or waits for an instance here; those that wait for a time of their own are left out. 0: there is none."},
		{Visits, counter, "{visit}", processor, nil, "Visits of transactions to instances."},
		{VisitsLocal, counter, "{visit}", processor, nil, "Visits that did not hop through the log."},
		{Hops, counter, "{record}", processor, nil, "Visits written to the log."},
		{Markers, counter, "{record}", processor, nil, "Commit and abort markers received."},
		{Changes, counter, "{change}", processor, nil, "Committed changes of instances."},
		{Duplicates, counter, "{record}", processor, nil, "Visits that arrived a second time and were ignored."},
		{Repeats, counter, "{request}", processor, nil, "Requests whose idempotency key was known."},
		{Holds, gauge, "{hold}", processor, nil, "Holds of transactions on instances."},
		{Parked, gauge, "{visit}", processor, nil, "Visits that wait behind holds."},
		{ParkedBytes, gauge, "By", processor, nil, "Size of the visits that wait behind holds."},
		{Parks, counter, "{visit}", processor, nil, "Visits that had to wait behind a hold."},
		{Deaths, counter, "{attempt}", processor, nil, "Attempts that gave up all they held, by wait-die, to start again."},
		{Expired, counter, "{transaction}", processor, nil, "Transactions whose deadline passed while they were parked."},
		{ProcessorShed, counter, "{transaction}", processor, nil, "Transactions refused since too much waits for the database or behind holds."},
		{SagasUndone, counter, "{saga}", processor, nil, "Sagas that went back."},
		{SagasStuck, gauge, "{saga}", processor, nil, "Sagas whose compensation is refused, which wait for somebody."},
		{Quarantined, counter, "{record}", processor, nil, "Records written to error topics."},
		{Panics, counter, "{panic}", processor, nil, "Panics of handlers."},
		{HandlersBlocked, gauge, "{worker}", processor, nil, "Workers whose handler has not come back for 10 s."},
		{ConfigVersion, gauge, "", processor, nil, "Version of the config Concerns that handlers see."},
		{CacheHits, counter, "{instance}", processor, nil, "Visits from the log whose instance was in memory."},
		{CacheMisses, counter, "{instance}", processor, nil, "Visits from the log whose instance was not."},
		{CacheLoads, counter, "{instance}", processor, nil, "Instances read from the primary target."},
		{CacheEvictions, counter, "{instance}", processor, nil, "Instances that made room for others."},
		{CacheBytes, gauge, "By", processor, nil, "Size of the instances in memory."},
		{CacheOverlayBytes, gauge, "By", processor, nil, "Size of those that cannot be evicted: the database does not have them yet, or a transaction works on them."},
		{CacheInstances, gauge, "{instance}", processor, nil, "Instances in memory."},
		{PartitionsOwned, gauge, "{partition}", processor, labels(LabelConcern), "Partitions that the process owns."},
		{PartitionsRestored, gauge, "{partition}", processor, nil, "Partitions that the process owns and that are being restored."},
		{PartitionLag, gauge, "{offset}", processor, labels(LabelConcern, LabelPartition), "Offsets of a process partition between the committed position and the last stable offset. The ends of Kafka transactions count, so it is seldom 0."},
		{LSOLag, gauge, "{offset}", processor, labels(LabelConcern, LabelTopic, LabelPartition), "Offsets between the last stable offset and the high watermark: of open Kafka transactions, or behind one."},
		{LSOStalled, gauge, "s", processor, labels(LabelConcern, LabelTopic, LabelPartition), "How long the last stable offset has been below the high watermark without moving."},

		{StorageApplyDuration, histogram, "s", storage, labels(LabelConcern, LabelTarget, LabelOutcome), "Time that database transactions took, each of which is one batch."},
		{StorageDelay, histogram, "s", storage, labels(LabelConcern, LabelTarget), "Time from when the oldest change of a batch came into the log until it was in the target."},
		{StorageBatches, counter, "{batch}", storage, labels(LabelConcern, LabelTarget), "Database transactions committed."},
		{StorageChanges, counter, "{change}", storage, labels(LabelConcern, LabelTarget), "Changes applied. Of several to one instance in a batch only the last is written as a row."},
		{StorageLag, gauge, "s", storage, labels(LabelConcern, LabelTarget), "Age of the oldest change that was read and is not in the target. 0: there is none."},
		{StorageLagOffsets, gauge, "{offset}", storage, labels(LabelConcern, LabelTarget), "Offsets of all partitions between the target's position and the last stable offset. The ends of Kafka transactions count, so it is seldom 0."},
		{StorageFailing, gauge, "", storage, labels(LabelConcern, LabelTarget), "1 while the target, or a partition of it, cannot be written."},
	}
}
