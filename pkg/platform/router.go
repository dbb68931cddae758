package platform

import (
	"sync/atomic"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Router knows where the instances of every Concern live. It implements
// txn.Router and is safe for concurrent use, also while it is updated.
type Router struct {
	table atomic.Pointer[table]
}

type table struct {
	config   *rkcyv1.PlatformConfig
	names    Names
	concerns map[string]route
}

type route struct {
	topic      string
	partitions int32
}

// NewRouter returns a router for a published configuration, which must not be
// changed afterwards.
func NewRouter(p *rkcyv1.PlatformConfig) *Router {
	r := &Router{}
	r.Update(p)
	return r
}

// Update makes the router follow another version of the configuration.
func (r *Router) Update(p *rkcyv1.PlatformConfig) {
	t := &table{config: p, names: NewNames(p), concerns: map[string]route{}}
	for _, c := range p.GetConcerns() {
		t.concerns[c.GetName()] = route{topic: t.names.ProcessTopic(c.GetName()), partitions: c.GetPartitions()}
	}
	r.table.Store(t)
}

// Route returns the process topic of a Concern and the partition of a key in
// it. An unknown Concern is an Error with CodeUnimplemented.
func (r *Router) Route(concern, key string) (topic string, partition int32, err error) {
	t := r.table.Load()
	to, ok := t.concerns[concern]
	if !ok {
		return "", 0, unknownConcern(t.config, concern)
	}
	return to.topic, stream.PartitionFor([]byte(key), to.partitions), nil
}

// IdempotencyHome returns the Concern whose partitions remember idempotency
// keys.
func (r *Router) IdempotencyHome() string { return idempotencyHome(r.table.Load().config) }

// idempotencyHome returns the Concern that a configuration names for it. Those
// that were published before there was one name none.
func idempotencyHome(p *rkcyv1.PlatformConfig) string {
	if home := p.GetIdempotencyHome(); home != "" || len(p.GetConcerns()) == 0 {
		return home
	}
	return p.GetConcerns()[0].GetName()
}

// Partitions returns how many partitions a Concern has, 0 for an unknown one.
func (r *Router) Partitions(concern string) int32 { return r.table.Load().concerns[concern].partitions }

// Names returns the names of topics and groups.
func (r *Router) Names() Names { return r.table.Load().names }

// Config returns the configuration that the router follows. It must not be
// changed.
func (r *Router) Config() *rkcyv1.PlatformConfig { return r.table.Load().config }
