// Package edgecmd makes a command line out of a gRPC service: one command per
// rpc, whose arguments are the fields of the request.
//
//	edge := edgecmd.New(edgecmd.Config{
//		App:     "rpg",
//		Service: rpgv1.File_rpg_v1_edge_proto.Services().ByName("RpgService"),
//	})
//	root.AddCommand(edge)
//
// CreatePlayer becomes "edge create player", Trade becomes "edge trade".
// Arguments are field=value:
//
//	username=brock01            a field of the request, or of a message in it:
//	                            player.username, as long as only one is meant
//	currency.gold=5             dots lead into messages
//	lhs=ID                      a message's only field that is an id
//	tags=a tags=b               lists by repetition
//	items={"id":"i1"}           messages as JSON
//	state=ACTIVE                enums by name
//	labels.color=red            maps by key
//
// Where the request has an update mask, it names the fields that are given,
// those inside JSON for the whole resource included. Outgoing metadata in the
// command's context goes along with the request. What a server sends reaches a
// terminal without control characters, as text and as JSON. Errors are of type *ExitError and carry the exit code for main.
//
// The package knows descriptors only, nothing of a particular service or of
// the platform behind it.
package edgecmd
