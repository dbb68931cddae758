//go:build race

package integration

// raceEnabled says whether the test runs with the race detector. The program
// under test is then built with it, too.
const raceEnabled = true
