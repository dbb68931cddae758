//go:build !race

package integration

// raceEnabled is described in race_test.go.
const raceEnabled = false
