// Package cli is the command line that an application embeds:
//
//	func main() { os.Exit(cli.Main(app)) }
//
// where app is a node.Application. It gives the program
//
//	APP run [--embedded]          everything in one process, or with a child per role
//	APP process|storage           one role alone; APP edge serve is the third
//	APP platform update|show      the platform file and its topics
//	APP db migrate|status         the tables
//	APP edge …                    a command for every rpc (package edgecmd)
//	APP status|doctor             what runs, and what is wrong
//	APP watch|decode|errors       the topics, decoded
//	APP txn …, APP instance …     what transactions hold and wait for
//	APP completion                for the shell
//
// Exit codes: 0 done, 2 wrong usage, 3 refused, 4 unavailable, 130 interrupted
// before it served, 1 anything else.
package cli
