package sim

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
)

// Database is one that must have what the processors have.
type Database struct {
	Name, DSN string
}

// Config configures a simulation.
type Config struct {
	// Edge is where the edge serves gRPC, host:port.
	Edge      string
	Databases []Database
	// Mappings say in which tables the Concerns are.
	Mappings []storage.Mapping
	// Mix is one of Mixes.
	Mix string
	// Runners send requests at the same time, Count in all.
	Runners, Count int
	// Characters that they do it with; a few per player.
	Characters int
	// Seed decides what is sent.
	Seed uint64
	// Timeout is the deadline of one request.
	Timeout time.Duration
	// Wait bounds how long edge and databases may take at the beginning, at the
	// end, and when they are away.
	Wait time.Duration
	// Progress is told the number of requests that have ended.
	Progress func(done int)
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var faults []error
	if _, _, err := net.SplitHostPort(c.Edge); err != nil {
		faults = append(faults, fmt.Errorf("edge %q is not host:port", c.Edge))
	}
	if _, err := mixNamed(c.Mix); err != nil {
		faults = append(faults, err)
	}
	if c.Runners < 1 || c.Runners > 10_000 {
		faults = append(faults, fmt.Errorf("%d runners; 1 to 10000 are possible", c.Runners))
	}
	if c.Count < 1 {
		faults = append(faults, fmt.Errorf("count is %d; at least 1 is needed", c.Count))
	}
	if c.Characters < 2 || c.Characters > 1_000_000 {
		faults = append(faults, fmt.Errorf("%d characters; 2 to 1000000 are possible", c.Characters))
	}
	if c.Timeout <= 0 || c.Wait <= 0 {
		faults = append(faults, errors.New("timeout and wait are more than 0"))
	}
	return errors.Join(faults...)
}
