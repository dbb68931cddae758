// Package store says how instances of the game become rows where the default
// mapping, one table with a column per field, is not what the game wants.
package store
