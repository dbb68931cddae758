package node

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
)

// clientID names this process to the brokers, so that who owns a partition can
// be told.
func clientID(application string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s@%s:%d", application, host, os.Getpid())
}

// usedConcerns returns the Concerns that the node's processor and storage
// workers serve, in the order of the application.
func (c Config) usedConcerns() []Concern {
	if len(c.Concerns) == 0 {
		return c.Application.AllConcerns()
	}
	wanted := map[string]bool{}
	for _, name := range c.Concerns {
		wanted[name] = true
	}
	for _, k := range c.Application.Concerns {
		if wanted[k.Definition.Name] {
			for _, u := range k.Definition.Unique {
				wanted[u.Index] = true
			}
		}
	}
	return slices.DeleteFunc(c.Application.AllConcerns(), func(k Concern) bool { return !wanted[k.Definition.Name] })
}

// writtenTargets returns the targets that the node's storage workers write to, in
// the order of the platform file.
func (c Config) writtenTargets() []platform.Target {
	if !c.Roles.Storage {
		return nil
	}
	all := slices.Clone(c.Platform.WithDefaults().Storage.Targets)
	if len(c.Targets) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(t platform.Target) bool { return !slices.Contains(c.Targets, t.Name) })
}

// usedTargets returns the targets that any role of the node talks to: a
// processor reads from the primary, an edge needs none.
func (c Config) usedTargets() []platform.Target {
	used := map[string]bool{}
	for _, t := range c.writtenTargets() {
		used[t.Name] = true
	}
	if primary, ok := c.Platform.WithDefaults().Primary(); ok && c.Roles.Processor {
		used[primary.Name] = true
	}
	return slices.DeleteFunc(slices.Clone(c.Platform.WithDefaults().Storage.Targets), func(t platform.Target) bool { return !used[t.Name] })
}

// checkServers reports missing addresses of servers that the node needs.
func (c Config) checkServers() error {
	used := map[string]bool{}
	for _, t := range c.usedTargets() {
		used[t.Name] = true
	}
	p := c.Platform
	p.Storage.Targets = slices.Clone(p.Storage.Targets)
	for i, t := range p.Storage.Targets {
		if !used[t.Name] && c.Roles != (Roles{}) {
			p.Storage.Targets[i].DSN = "not needed here"
		}
	}
	return p.CheckServers()
}

// checkSelection reports Concerns and targets that do not exist.
func (c Config) checkSelection() error {
	var concerns, targets []string
	for _, k := range c.Application.AllConcerns() {
		concerns = append(concerns, k.Definition.Name)
	}
	for _, t := range c.Platform.Storage.Targets {
		targets = append(targets, t.Name)
	}
	return errors.Join(unknown("Concern", c.Application.Name, c.Concerns, concerns),
		unknown("storage target", "the platform file", c.Targets, targets))
}

func unknown(what, where string, wanted, known []string) error {
	var faults []error
	for _, name := range wanted {
		if !slices.Contains(known, name) {
			faults = append(faults, fmt.Errorf("%s has no %s %q%s; it has %s", where, what, name, suggest.Hint(name, known), strings.Join(known, ", ")))
		}
	}
	return errors.Join(faults...)
}
