package node

import "github.com/rocketcycle/rocketcycle/pkg/concern"

// ProcessorStatus returns what the node's processor tells about itself; ok is
// false while there is none. Safe for concurrent use.
func (n *Node) ProcessorStatus() (status concern.Status, ok bool) {
	p := n.processors.get()
	if p == nil {
		return concern.Status{}, false
	}
	return p.Status(), true
}
