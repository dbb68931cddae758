package node

import (
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
)

// ProcessorStatus returns what the node's processor tells about itself; ok is
// false while there is none. Safe for concurrent use.
func (n *Node) ProcessorStatus() (status concern.Status, ok bool) {
	p := n.processors.get()
	if p == nil {
		return concern.Status{}, false
	}
	return p.Status(), true
}

// WriterStatus is what the storage worker of a Concern and a target tells about
// itself.
type WriterStatus struct {
	Concern, Target string
	storage.WriterStatus
}

// StorageStatus returns the status of each storage worker of the node, by target
// and Concern. Safe for concurrent use.
func (n *Node) StorageStatus() []WriterStatus {
	n.mu.Lock()
	writers := n.writers
	n.mu.Unlock()
	out := make([]WriterStatus, 0, len(writers))
	for _, w := range writers {
		s := WriterStatus{Concern: w.concern, Target: w.target}
		if now := w.now.Load(); now != nil {
			s.WriterStatus = now.Status()
		}
		out = append(out, s)
	}
	return out
}
