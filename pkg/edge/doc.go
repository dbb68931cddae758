// Package edge is the outermost layer: it turns gRPC and HTTP/JSON requests
// into calls of a service, and what the service returns into answers that a
// client can act upon.
//
//	server, err := edge.New(edge.Config{HTTPAddr: ":8080", GRPCAddr: ":9090"}, edge.Service{
//		Register: func(r grpc.ServiceRegistrar) { rpgv1.RegisterRpgServiceServer(r, service) },
//		Gateway:  rpgv1.RegisterRpgServiceHandler,
//		OpenAPI:  openapi,
//	})
//	...
//	err = server.Run(ctx) // until ctx ends, then drains
//
// A request passes:
//
//	gRPC ─► gRPC server ──────────────────────────────────────────┐
//	                                                              ├─► slot, deadline, decode, service, status
//	HTTP ─► slot, size, UTF-8 ─► grpc-gateway ─► in-process gRPC ─┤
//	WebSocket, batch ─► slot, size ─► envelope ─► dispatch ───────┘
//
// An envelope (rkcy.edge.v1) names a method and carries its request; a batch is
// a container of envelopes with one answer for each, and no transaction. Which
// methods there are follows from the services that are registered. One that is
// marked internal is refused on every way.
//
// A server goes through new → ready → draining → stopped, once. While it is
// ready, SetServing moves its health between serving and not serving; requests
// are accepted in both.
//
// Every failure has a code. On gRPC it is the status, on HTTP the matching
// status line and a google.rpc.Status as JSON; both carry a google.rpc.ErrorInfo
// whose metadata are the details of a txn.Error.
//
// The package imports txn. It must not know who runs transactions, where
// instances are stored, or which services it serves. Nothing is shared between
// two servers in one process.
package edge
