// Package logic has the rules of the game: the command handlers of each
// Concern. Handlers are pure functions; they know nothing of Kafka, of
// PostgreSQL, or of who asks.
package logic
