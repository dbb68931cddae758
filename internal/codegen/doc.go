// Package codegen writes the code of Concerns. For each .proto file in which a
// message is marked as a Concern it generates two files beside the code of
// protoc-gen-go:
//
//	<file>.rkcy.go   step constructors, handler interface, definition, mapping
//	<file>.rkcy.sql  the default PostgreSQL schema
//
// The work has three parts: collect reads the options into a model and reports
// every fault with file and line, then writeGo and writeSQL print the model.
// cmd/protoc-gen-rkcy is the plugin; internal/protogen runs it without protoc.
package codegen
