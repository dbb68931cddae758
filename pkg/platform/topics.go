package platform

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Kind is what a topic is for.
type Kind string

// The kinds of topics.
const (
	// KindProcess has steps and markers.
	KindProcess Kind = "process"
	// KindState has what a new owner of a partition must know besides instances.
	KindState Kind = "state"
	// KindStorage has committed after-images: the change feed.
	KindStorage Kind = "storage"
	// KindError has quarantined records.
	KindError Kind = "error"
	// KindResponse has results of transactions, one partition per edge slot.
	KindResponse Kind = "response"
	// KindPlatform has the published versions of the configuration.
	KindPlatform Kind = "platform"
	// KindConfig has the instances of config Concerns.
	KindConfig Kind = "config"
)

// Names derives the names of topics and consumer groups. It is immutable.
type Names struct {
	platform, environment string
	generations           map[string]uint32
}

// NewNames returns the names that a published configuration leads to.
func NewNames(p *rkcyv1.PlatformConfig) Names {
	n := Names{platform: p.GetName(), environment: p.GetEnvironment(), generations: map[string]uint32{}}
	for _, c := range p.GetConcerns() {
		n.generations[c.GetName()] = c.GetGeneration()
	}
	return n
}

// Names returns the names of a platform that was never changed. Programs that
// run use those of the published version.
func (c Config) Names() Names { return NewNames(c.Proto()) }

// TopicName puts a name together:
// rkcy.<platform>.<environment>.<concern>.<kind>.<generation>.
func TopicName(platform, environment, concern string, kind Kind, generation uint32) string {
	return fmt.Sprintf("rkcy.%s.%s.%s.%s.%04d", platform, environment, concern, kind, generation)
}

// ParseTopic takes a topic name apart. ok is false for topics of others.
func ParseTopic(topic string) (platform, environment, concern string, kind Kind, generation uint32, ok bool) {
	p := strings.Split(topic, ".")
	if len(p) != 6 || p[0] != "rkcy" || len(p[5]) < 4 {
		return
	}
	g, err := strconv.ParseUint(p[5], 10, 32)
	if err != nil {
		return
	}
	return p[1], p[2], p[3], Kind(p[4]), uint32(g), true
}

func (n Names) topic(concern string, kind Kind) string {
	generation := n.generations[concern]
	if generation == 0 {
		generation = FirstGeneration
	}
	return TopicName(n.platform, n.environment, concern, kind, generation)
}

// Generation returns that of a Concern's topics; 0 if there is no such Concern.
func (n Names) Generation(concern string) uint32 { return n.generations[concern] }

// ProcessTopic returns the topic of a Concern's steps and markers.
func (n Names) ProcessTopic(concern string) string { return n.topic(concern, KindProcess) }

// StateTopic returns the topic of a Concern's holds and parked steps.
func (n Names) StateTopic(concern string) string { return n.topic(concern, KindState) }

// StorageTopic returns the topic of a Concern's committed changes.
func (n Names) StorageTopic(concern string) string { return n.topic(concern, KindStorage) }

// ErrorTopic returns the topic of a Concern's quarantined records. It has one
// partition, and stays when the others get a new generation.
func (n Names) ErrorTopic(concern string) string { return n.Of(concern, KindError, FirstGeneration) }

// ResponseTopic returns the topic of results, one partition per edge slot.
func (n Names) ResponseTopic() string { return n.topic(reservedConcern, KindResponse) }

// PlatformTopic returns the topic of the published configuration.
func (n Names) PlatformTopic() string { return n.topic(reservedConcern, KindPlatform) }

// ConfigTopic returns the topic of the instances of config Concerns.
func (n Names) ConfigTopic() string { return n.topic(reservedConcern, KindConfig) }

func (n Names) prefix() string { return "rkcy." + n.platform + "." + n.environment }

// ProcessGroup returns the consumer group of the processors.
func (n Names) ProcessGroup() string { return n.prefix() + ".process" }

// StorageGroup returns the consumer group of the writers that bring a Concern's
// changes into a storage target.
func (n Names) StorageGroup(concern, target string) string {
	return n.prefix() + ".storage." + concern + "." + target
}

// ConcernOf returns the part of a published configuration that describes a
// Concern. An unknown one is an Error with CodeUnimplemented.
func ConcernOf(p *rkcyv1.PlatformConfig, name string) (*rkcyv1.ConcernConfig, error) {
	for _, c := range p.GetConcerns() {
		if c.GetName() == name {
			return c, nil
		}
	}
	return nil, unknownConcern(p, name)
}

func unknownConcern(p *rkcyv1.PlatformConfig, name string) error {
	known := make([]string, 0, len(p.GetConcerns()))
	for _, c := range p.GetConcerns() {
		known = append(known, c.GetName())
	}
	return txn.Errorf(txn.CodeUnimplemented, "platform %s has no Concern %q; it has %s",
		p.GetName(), name, strings.Join(known, ", ")).With(txn.DetailConcern, name)
}
