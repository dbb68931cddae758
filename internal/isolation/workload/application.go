package workload

import (
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/internal/isolation"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// The Concerns.
const (
	listA    = "list_a"
	listB    = "list_b"
	register = "register"
)

var concerns = [...]string{listA, listB, register}

// The commands.
const (
	commandAppend = "Append"
	commandSet    = "Set"
	commandLook   = "Look"
	commandRefuse = "Refuse"
)

// instance is a list or a register: a message that happens to have a key and a
// list of texts.
type instance = rkcyv1.UpdatePayload

func newInstance() *instance    { return &instance{} }
func newMessage() proto.Message { return newInstance() }
func definition(name string) concern.Definition {
	change := concern.Command{Name: commandAppend, NewPayload: newMessage, NewResult: newMessage, Run: func(_ concern.Context, at, in proto.Message) (proto.Message, error) {
		l := at.(*instance)
		l.Paths = append(l.Paths, in.(*instance).GetPaths()...)
		return &instance{}, nil
	}}
	if name == register {
		change = concern.Command{Name: commandSet, NewPayload: newMessage, NewResult: newMessage, Run: func(_ concern.Context, at, in proto.Message) (proto.Message, error) {
			at.(*instance).Paths = in.(*instance).GetPaths()
			return &instance{}, nil
		}}
	}
	return concern.Definition{
		Name: name, New: newMessage, KeyOf: func(m proto.Message) string { return string(m.(*instance).GetValue()) },
		Commands: []concern.Command{change, {
			Name: commandLook, ReadOnly: true, NewPayload: newMessage, NewResult: newMessage,
			Run: func(_ concern.Context, at, _ proto.Message) (proto.Message, error) {
				return &instance{Paths: at.(*instance).GetPaths()}, nil
			},
		}, {
			Name: commandRefuse, NewPayload: newMessage, NewResult: newMessage,
			Run: func(concern.Context, proto.Message, proto.Message) (proto.Message, error) {
				return nil, txn.Errorf(txn.CodeFailedPrecondition, "refused on purpose")
			},
		}},
	}
}

// step makes the transaction's step of a recorded one.
func step(s isolation.Step) txn.TypedStep[*instance] {
	command, access := commandLook, rkcyv1.Access_ACCESS_READ
	payload := newInstance()
	switch s.Verb {
	case isolation.Append:
		command, access = commandAppend, rkcyv1.Access_ACCESS_WRITE
	case isolation.Write:
		command, access = commandSet, rkcyv1.Access_ACCESS_WRITE
	case isolation.ReadList, isolation.ReadRegister:
	}
	if access == rkcyv1.Access_ACCESS_WRITE {
		payload.Paths = []string{strconv.FormatInt(s.Value, 10)}
	}
	return txn.NewStep(s.Object.Concern, s.Object.Key, command, access, proto.Message(payload), newInstance)
}

// refusal makes a step that is always refused.
func refusal(o isolation.Object) txn.TypedStep[*instance] {
	return txn.NewStep(o.Concern, o.Key, commandRefuse, rkcyv1.Access_ACCESS_WRITE, proto.Message(newInstance()), newInstance)
}

// create makes the step that brings an instance about.
func create(o isolation.Object) txn.TypedStep[*instance] {
	return txn.NewStep(o.Concern, o.Key, txn.CommandCreate, rkcyv1.Access_ACCESS_WRITE,
		proto.Message(&instance{Value: []byte(o.Key)}), newInstance)
}

// seen decodes what a read returned.
func seen(m *instance) ([]int64, error) {
	out := make([]int64, len(m.GetPaths()))
	for i, p := range m.GetPaths() {
		v, err := strconv.ParseInt(p, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		out[i] = v
	}
	return out, nil
}

// site is where everything is: what a process needs to know to take part.
type site struct {
	Bootstrap          string
	Prefix             string
	Partitions         int32
	Workers            int
	Session            time.Duration
	TransactionTimeout time.Duration
}

// Route implements txn.Router.
func (s site) Route(name, key string) (string, int32, error) {
	return s.topic(name, "process"), stream.PartitionFor([]byte(key), s.Partitions), nil
}

// IdempotencyHome implements txn.Router.
func (s site) IdempotencyHome() string { return concerns[0] }

func (s site) topic(name, kind string) string { return s.Prefix + "." + name + "." + kind }

func (s site) responses() string { return s.Prefix + ".response" }

func (s site) processor(log stream.Config) concern.Config {
	cfg := concern.Config{
		Stream: log, Group: s.Prefix + ".process", ResponseTopic: s.responses(), Router: s,
		Loader: nothing{}, Workers: s.Workers, SessionTimeout: s.Session, Logger: log.Logger,
		// Small, so that snapshots of the state happen all the time.
		StateRecords: 500,
	}
	for _, name := range concerns {
		cfg.Concerns = append(cfg.Concerns, concern.Served{
			Definition: definition(name), StorageGroup: s.Prefix + ".storage",
			Topics: concern.Topics{
				Process: s.topic(name, "process"), State: s.topic(name, "state"),
				Storage: s.topic(name, "storage"), Error: s.topic(name, "error"),
			},
		})
	}
	return cfg
}
