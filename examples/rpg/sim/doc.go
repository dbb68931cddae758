// Package sim puts load on an edge of the game and then checks that nothing
// was lost or doubled: it keeps a model of what must be, and compares it with
// what the processors answer and with what every database has.
//
//	choose ► send ► model: ok counts, refused does not, unknown may
//	                  │
//	        at the end ├► read everything through the edge: which of the unknown took effect?
//	                  └► wait for the databases, read every row ► differences
//
// While the load runs, each answer is held against what is possible at that
// moment: no less than what was acknowledged before the request, no more than
// what was begun before the answer.
package sim
