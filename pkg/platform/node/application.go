package node

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// Concern is one part of an application's data model, as the generator makes
// it.
type Concern struct {
	Definition concern.Definition
	Mapping    storage.Mapping
}

// Application is what a program brings to the platform.
type Application struct {
	// Name of the program, as users type it.
	Name     string
	Concerns []Concern
	// Services returns what the edge serves. The runner is what its handlers
	// submit transactions with.
	Services func(txn.Runner) []edge.Service
	// Service describes the gRPC service that the command line calls.
	Service protoreflect.ServiceDescriptor
	// OpenAPI is the document of the HTTP mapping, nil if there is none.
	OpenAPI []byte
	// Examples has arguments for the help of commands, by name of the rpc.
	Examples map[string]string
	// Migrations has the files NNNNN_name.sql that make the tables.
	Migrations fs.FS
	// PlatformFile is the platform file that is used when none is named.
	PlatformFile []byte
	// Commands are added to those that every program has.
	Commands []*cobra.Command
}

// Validate reports every fault of the application.
func (a Application) Validate() error {
	var faults []error
	if a.Name == "" || len(a.Concerns) == 0 {
		faults = append(faults, errors.New("application: name and Concerns are needed"))
	}
	for _, c := range a.Concerns {
		faults = append(faults, c.Definition.Validate(), c.Mapping.Validate())
		if c.Definition.Name != c.Mapping.Concern {
			faults = append(faults, fmt.Errorf("application: Concern %q has the mapping of %q", c.Definition.Name, c.Mapping.Concern))
		}
	}
	return errors.Join(faults...)
}

// Mappings returns the storage mappings of all Concerns.
func (a Application) Mappings() []storage.Mapping {
	out := make([]storage.Mapping, len(a.Concerns))
	for i, c := range a.Concerns {
		out[i] = c.Mapping
	}
	return out
}
