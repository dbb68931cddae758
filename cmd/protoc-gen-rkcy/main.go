// Command protoc-gen-rkcy is the protoc plugin that generates the code and the
// default SQL schema of Concerns.
package main

import (
	"google.golang.org/protobuf/compiler/protogen"

	"github.com/rocketcycle/rocketcycle/internal/codegen"
)

func main() {
	protogen.Options{}.Run(codegen.Generate)
}
