// Package devpostgres runs a real PostgreSQL for development and tests: the
// installed binaries where there are any of version 15 or newer, else fetched
// ones that are kept in the user's cache folder.
//
// A server listens on the loopback interface only and wants a password, which
// is made at random and kept beside the data. It ends with the process that
// started it, on Linux even when that is killed. A data folder that a crash
// left behind can be started on again; one that is in use is refused.
//
//	DataDir/
//	  data/       what initdb made; complete or not there
//	  password    of the superuser, 0600
//	  lock        held by the process that runs the server
//	  server.log  of the run under way
//	  server.log.old
//
// PostgreSQL refuses to run as root. Then it runs as the user postgres, or
// nobody, who must be able to reach the folder.
package devpostgres
