package stream

import "sync/atomic"

// Renewal is why a transactional producer is replaced.
type Renewal int

// The reasons.
const (
	// RenewalConnection: its connection to a broker broke.
	RenewalConnection Renewal = iota
	// RenewalError: the library reported an error.
	RenewalError
	// RenewalSlow: a commit took too long.
	RenewalSlow
	// RenewalFailed: a Kafka transaction failed.
	RenewalFailed
	// RenewalReasons is their number.
	RenewalReasons
)

// String returns the reason as metrics and logs have it.
func (r Renewal) String() string {
	switch r {
	case RenewalConnection:
		return "connection"
	case RenewalError:
		return "error"
	case RenewalSlow:
		return "slow"
	case RenewalFailed:
		return "failed"
	case RenewalReasons:
	}
	return "unknown"
}

// renewals counts new producers by what made the old one doubtful.
type renewals struct {
	why  atomic.Int64 // the latest
	done [RenewalReasons]atomic.Uint64
}

// suspect makes sure that the producer is not used for another transaction.
func (t *Transactor) suspect(why Renewal) {
	t.reasons.why.Store(int64(why))
	t.doubt.Store(true)
}

// RenewalsBy returns how often the producer was replaced, by reason.
func (t *Transactor) RenewalsBy() (out [RenewalReasons]uint64) {
	for i := range out {
		out[i] = t.reasons.done[i].Load()
	}
	return out
}
