package node

import (
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
)

// Types returns the types of the application's records.
func (a Application) Types() inspect.Types {
	types := inspect.Types{}
	for _, c := range a.AllConcerns() {
		m := inspect.Messages{Instance: c.Definition.New, Payload: map[string]func() proto.Message{}, Result: map[string]func() proto.Message{}}
		for _, own := range c.Definition.Commands {
			m.Payload[own.Name], m.Result[own.Name] = own.NewPayload, own.NewResult
		}
		types[c.Definition.Name] = m
	}
	for _, c := range a.ConfigConcerns {
		types[c.Name] = inspect.Messages{Instance: c.New}
	}
	return types
}
