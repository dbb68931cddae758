// Package devbroker starts brokers for development and tests: an embedded one
// in the same process (franz-go's kfake with a data directory) and a real
// Apache Kafka from its jars. Both listen on the loopback interface only.
package devbroker
