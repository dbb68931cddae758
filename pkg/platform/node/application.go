package node

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
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
	// ConfigConcerns are small sets that handlers may read. Their names differ
	// from those of Concerns.
	ConfigConcerns []concern.ConfigDefinition
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
	known := map[string]Concern{}
	for _, c := range a.AllConcerns() {
		name := c.Definition.Name
		faults = append(faults, c.Definition.Validate(), c.Mapping.Validate())
		if name != c.Mapping.Concern {
			faults = append(faults, fmt.Errorf("application: Concern %q has the mapping of %q", name, c.Mapping.Concern))
		}
		if _, twice := known[name]; twice {
			faults = append(faults, fmt.Errorf("application: Concern %q is there twice", name))
		}
		known[name] = c
	}
	for _, c := range a.ConfigConcerns {
		if c.Name == "" || c.New == nil || c.KeyOf == nil {
			faults = append(faults, fmt.Errorf("application: config Concern %q: name, constructor and key function are needed", c.Name))
		}
		if _, twice := known[c.Name]; twice {
			faults = append(faults, fmt.Errorf("application: config Concern %q has the name of another Concern", c.Name))
		}
		known[c.Name] = Concern{}
	}
	for _, c := range a.Concerns {
		for _, r := range c.Definition.Relations {
			switch parent, ok := known[r.Parent]; {
			case !ok:
				faults = append(faults, fmt.Errorf("application: field %s of Concern %q refers to %q, which the application does not have",
					r.Field, c.Definition.Name, r.Parent))
			case !parent.Mapping.Related:
				faults = append(faults, fmt.Errorf("application: Concern %q refers to %q, whose mapping has no column for that; set Related",
					c.Definition.Name, r.Parent))
			}
		}
	}
	return errors.Join(faults...)
}

// AllConcerns returns the Concerns and, behind each, those that have the values
// of its unique fields.
func (a Application) AllConcerns() []Concern {
	var out []Concern
	for _, c := range a.Concerns {
		out = append(out, c)
		for _, u := range c.Definition.Unique {
			out = append(out, Concern{Definition: u.Definition(), Mapping: storage.UniqueMapping(u.Index)})
		}
	}
	return out
}

// Mappings returns the storage mappings of all Concerns.
func (a Application) Mappings() []storage.Mapping {
	var out []storage.Mapping
	for _, c := range a.AllConcerns() {
		out = append(out, c.Mapping)
	}
	return out
}

// Complete adds to a platform file what follows from the application: the
// Concerns of unique fields, each like the Concern whose field it is. Every
// platform file of an application has to pass through it before it is
// published.
func (a Application) Complete(cfg platform.Config) platform.Config {
	for _, c := range a.Concerns {
		for _, u := range c.Definition.Unique {
			cfg = cfg.WithConcernLike(u.Index, c.Definition.Name)
		}
	}
	return cfg
}
