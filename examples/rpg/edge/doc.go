// Package edge is what clients of the game talk to: it turns each request into
// a transaction over players and characters.
package edge
