// Package node is the composition root: it puts the parts of a platform
// together that one process runs, and is the only place where edge, concern,
// storage and platform meet.
//
//	app := node.Application{
//		Name:     "rpg",
//		Concerns: []node.Concern{{Definition: rpgv1.NewPlayer(nil), Mapping: rpgv1.PlayerMapping()}},
//		Services: func(r txn.Runner) []edge.Service { … },
//	}
//	n, err := node.New(node.Config{Application: app, Platform: cfg, Roles: node.AllRoles()})
//	...
//	err = n.Run(ctx) // until ctx ends; n.Ready() tells when it serves
//
// A node runs any of three roles: processor (the group members that own
// process partitions), storage (the writers of every target) and edge. A part
// that fails is started again, with a growing pause; the process goes on.
//
//	starting ─► serving ─► draining: edge first, then processors and writers ─► stopped
package node
