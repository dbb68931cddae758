package concern

// Stats counts what an engine did since it was made.
type Stats struct {
	// Visits run, of which LocalVisits did not hop; Hops written to the log.
	Visits, LocalVisits, Hops uint64
	// Markers received, Changes written to storage topics.
	Markers, Changes uint64
	// Committed and Refused count ends of transactions that were decided here.
	Committed, Refused uint64
	// Parked and Deaths count conflicts; Duplicates what arrived twice.
	Parked, Deaths, Duplicates uint64
	// Shed counts transactions refused because too much waits for the
	// database, Quarantined records in the error topic, Panics of handlers.
	Shed, Quarantined, Panics uint64
	// Undone counts sagas that went back, Stuck those whose compensation is
	// refused, Repeats claims of an idempotency key that was known.
	Undone, Stuck, Repeats uint64
	// PassedOn counts what came late to topics of former generations.
	PassedOn uint64
	// Expired counts transactions whose deadline passed while they were parked.
	Expired uint64
	// Loaded counts instances read from the database, Evicted those that made
	// room.
	Loaded, Evicted uint64
	// CacheHits and CacheMisses count visits from the log by whether their
	// instance was in memory.
	CacheHits, CacheMisses uint64
	// Ended counts ends of transactions by their code, 0 if they committed.
	Ended [15]uint64
}

// Add returns the sum of two Stats.
func (s Stats) Add(o Stats) Stats {
	ended := s.Ended
	for i := range ended {
		ended[i] += o.Ended[i]
	}
	return Stats{
		Visits: s.Visits + o.Visits, LocalVisits: s.LocalVisits + o.LocalVisits, Hops: s.Hops + o.Hops,
		Markers: s.Markers + o.Markers, Changes: s.Changes + o.Changes,
		Committed: s.Committed + o.Committed, Refused: s.Refused + o.Refused,
		Parked: s.Parked + o.Parked, Deaths: s.Deaths + o.Deaths, Duplicates: s.Duplicates + o.Duplicates,
		PassedOn: s.PassedOn + o.PassedOn,
		Shed:     s.Shed + o.Shed, Quarantined: s.Quarantined + o.Quarantined, Panics: s.Panics + o.Panics,
		Undone: s.Undone + o.Undone, Stuck: s.Stuck + o.Stuck, Repeats: s.Repeats + o.Repeats,
		Expired: s.Expired + o.Expired, Loaded: s.Loaded + o.Loaded,
		Evicted: s.Evicted + o.Evicted, CacheHits: s.CacheHits + o.CacheHits, CacheMisses: s.CacheMisses + o.CacheMisses, Ended: ended,
	}
}
