package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// Config configures a Cluster.
type Config struct {
	// Label is the platform and environment. Nodes of another label are refused.
	Label string
	// ID of this node. Default: a new one, which is right for every process.
	ID string
	// Role is what it does, and ReplicaSets the groups of like nodes that it is in,
	// as role/name.
	Role        string
	ReplicaSets []string
	// Tunnel is where other nodes reach its internal services; may be empty.
	Tunnel string
	// Listen is where gossip is heard, as host:port; port 0 picks a free one. Both
	// UDP and TCP are used. Default 127.0.0.1:0.
	Listen string
	// Join are addresses of other nodes, any of which is enough.
	Join []string
	// Keys encrypt the gossip: the first for what is sent, each for what is heard.
	// Without any, Listen must be a loopback address.
	Keys   [][]byte
	Logger *slog.Logger

	// pace is the time between two probes of other nodes. Default 1 s.
	pace time.Duration
}

// WithDefaults returns the configuration with zero values replaced.
func (c Config) WithDefaults() Config {
	if c.ID == "" {
		c.ID = uuid.NewString()
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.pace == 0 {
		c.pace = time.Second
	}
	return c
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var faults []error
	if c.Label == "" || c.Role == "" {
		faults = append(faults, errors.New("label and role are needed"))
	}
	if len(c.Label) > memberlist.LabelMaxSize {
		faults = append(faults, fmt.Errorf("the label has %d bytes; at most %d are allowed", len(c.Label), memberlist.LabelMaxSize))
	}
	host, _, err := splitAddr(c.Listen)
	switch ip := net.ParseIP(host); {
	case err != nil:
		faults = append(faults, fmt.Errorf("listen: %w", err))
	case ip == nil:
		faults = append(faults, fmt.Errorf("listen: %q is not an IP address", host))
	case len(c.Keys) == 0 && !ip.IsLoopback():
		faults = append(faults, fmt.Errorf("listen: %s is reached from other machines, which needs a key file; make one with NewKey", host))
	}
	for _, addr := range c.Join {
		if _, port, err := splitAddr(addr); err != nil || port == 0 {
			faults = append(faults, fmt.Errorf("join: %q is not host:port", addr))
		}
	}
	for i, key := range c.Keys {
		if err := memberlist.ValidateKey(key); err != nil {
			faults = append(faults, fmt.Errorf("key %d: %w", i+1, err))
		}
	}
	if n := len(c.meta(true)); n > memberlist.MetaMaxSize {
		faults = append(faults, fmt.Errorf("role, replica sets and tunnel address take %d bytes; at most %d are allowed", n, memberlist.MetaMaxSize))
	}
	if err := errors.Join(faults...); err != nil {
		return txn.Errorf(txn.CodeInvalidArgument, "cluster: %w", err)
	}
	return nil
}

// meta is what others are told of the node with its name.
type meta struct {
	Role        string   `json:"r"`
	ReplicaSets []string `json:"s,omitempty"`
	Tunnel      string   `json:"t,omitempty"`
	// Leaving is told before the node goes: memberlist does not tell one that goes
	// from one that failed (its Node.State is hidden by another field).
	Leaving bool `json:"l,omitempty"`
}

func (c Config) meta(leaving bool) []byte {
	raw, err := json.Marshal(meta{Role: c.Role, ReplicaSets: c.ReplicaSets, Tunnel: c.Tunnel, Leaving: leaving})
	if err != nil { // strings only
		return nil
	}
	return raw
}

func splitAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port", addr)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q has no port", addr)
	}
	return host, int(n), nil
}
