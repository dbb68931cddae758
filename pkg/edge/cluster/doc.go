// Package cluster tells the nodes of a platform of each other, by gossip: who is
// there, in which role, where its tunnel listens, and which partitions it owns.
//
//	c, err := cluster.Open(cluster.Config{Label: "rpg.dev", Role: "edge", Listen: "127.0.0.1:0", Join: peers})
//	defer c.Close()
//	owner, ok := c.Owner("rkcy.rpg.dev.character.process.0001", 3)
//
// All of it is a hint: it may be late or lost, and Kafka is the truth. Whoever
// acts on it must be refused by the other side where it is wrong. It knows
// nothing of Kafka, transactions or gRPC.
package cluster
