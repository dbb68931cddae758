package inspect

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Messages are the types of a Concern: what is in its records as bytes.
type Messages struct {
	// Instance returns an empty instance.
	Instance func() proto.Message
	// Payload and Result return empty messages, by the Concern's own commands.
	Payload, Result map[string]func() proto.Message
}

// Types are the Concerns of an application, config Concerns included.
type Types map[string]Messages

// payload returns an empty payload of a command, nil if its type is not known.
func (t Types) payload(concern, command string) proto.Message {
	m, ok := t[concern]
	if !ok {
		return nil
	}
	switch command {
	case txn.CommandCreate:
		return m.Instance()
	case txn.CommandUpdate:
		return &rkcyv1.UpdatePayload{}
	case txn.CommandRead, txn.CommandDelete:
		return &rkcyv1.Empty{}
	}
	if own := m.Payload[command]; own != nil {
		return own()
	}
	return nil
}

func (t Types) result(concern, command string) proto.Message {
	m, ok := t[concern]
	if !ok {
		return nil
	}
	switch command {
	case txn.CommandCreate, txn.CommandUpdate, txn.CommandRead, txn.CommandDelete:
		return m.Instance()
	}
	if own := m.Result[command]; own != nil {
		return own()
	}
	return nil
}

func (t Types) instance(concern string) proto.Message {
	if m, ok := t[concern]; ok {
		return m.Instance()
	}
	return nil
}

// expander makes a record into a tree that JSON can have, with all that is in it
// as bytes.
type expander struct {
	types Types
	// concern is that of instances.
	concern string
	// steps are those that results belong to, nil if not known.
	steps []*rkcyv1.Step
}

// bytes returns what a message of a known type says; where it is not known, or
// the bytes are not such a message, the bytes themselves.
func (x expander) bytes(value []byte, to proto.Message) any {
	if to == nil {
		return raw(value)
	}
	if err := proto.Unmarshal(value, to); err != nil {
		return map[string]any{"undecodable": raw(value), "error": fmt.Sprintf("not a %s: %v", to.ProtoReflect().Descriptor().FullName(), err)}
	}
	if update, ok := to.(*rkcyv1.UpdatePayload); ok {
		out := map[string]any{"value": x.bytes(update.GetValue(), x.types.instance(x.concern))}
		if len(update.GetPaths()) > 0 {
			out["paths"] = update.GetPaths()
		}
		return out
	}
	return foreign(to)
}

func raw(value []byte) any {
	if len(value) == 0 {
		return ""
	}
	return "base64:" + base64.StdEncoding.EncodeToString(value)
}

// foreign returns a message of the application as JSON.
func foreign(m proto.Message) any {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return map[string]any{"error": err.Error()}
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		return map[string]any{"error": err.Error()}
	}
	return out
}

// message returns a message of the platform, field by field.
func (x expander) message(m protoreflect.Message) any {
	switch v := m.Interface().(type) {
	case *rkcyv1.Transaction:
		x.steps = v.GetSteps()
	case *rkcyv1.Visit:
		x.steps = v.GetTxn().GetSteps()
	case *rkcyv1.RelatedInstance:
		x.concern = v.GetConcern()
	case *rkcyv1.ConfigVersion:
		x.concern = v.GetConcern()
	case *rkcyv1.Step:
		x.concern = v.GetConcern()
	}
	out := map[string]any{}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := string(fd.Name())
		switch {
		case fd.IsMap():
			entries := map[string]any{}
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				entries[k.String()] = x.value(m, fd.MapValue(), v)
				return true
			})
			out[name] = entries
		case fd.IsList():
			list := make([]any, v.List().Len())
			for i := range list {
				own := x
				if name == "results" && i < len(x.steps) {
					own.steps = x.steps[i : i+1]
				} else if name == "results" {
					own.steps = nil
				}
				list[i] = own.value(m, fd, v.List().Get(i))
			}
			out[name] = list
		default:
			out[name] = x.value(m, fd, v)
		}
		return true
	})
	return out
}

func (x expander) value(of protoreflect.Message, fd protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return x.message(v.Message())
	case protoreflect.EnumKind:
		if e := fd.Enum().Values().ByNumber(v.Enum()); e != nil {
			return string(e.Name())
		}
		return v.Enum()
	case protoreflect.BytesKind:
		return x.field(of, string(fd.Name()), v.Bytes())
	case protoreflect.Int64Kind:
		if name := string(fd.Name()); len(name) > 3 && name[len(name)-3:] == "_ms" && v.Int() > 0 && !isRetention(name) {
			return time.UnixMilli(v.Int()).UTC().Format("2006-01-02T15:04:05.000Z07:00")
		}
		return v.Int()
	default:
		return v.Interface()
	}
}

// isRetention tells lengths of time from points in time.
func isRetention(name string) bool {
	return name == "process_retention_ms" || name == "storage_retention_ms" || name == "error_retention_ms"
}

// field returns bytes as what they are.
func (x expander) field(of protoreflect.Message, name string, value []byte) any {
	if name == "id" || name == "txn_id" || name == "original_txn_id" {
		if id, err := txn.IDFromBytes(value); err == nil {
			return id.String()
		}
		return raw(value)
	}
	switch m := of.Interface().(type) {
	case *rkcyv1.Step:
		return x.bytes(value, x.types.payload(m.GetConcern(), m.GetCommand()))
	case *rkcyv1.StepResult:
		if len(x.steps) == 1 {
			x.concern = x.steps[0].GetConcern()
			return x.bytes(value, x.types.result(x.concern, x.steps[0].GetCommand()))
		}
	case *rkcyv1.Instance, *rkcyv1.RelatedInstance, *rkcyv1.ConfigInstance:
		return x.bytes(value, x.types.instance(x.concern))
	case *rkcyv1.Quarantined:
		if name == "key" {
			return text(value)
		}
		return x.quarantined(m)
	}
	return raw(value)
}

// quarantined returns the record, or the step whose handler failed, that is kept.
func (x expander) quarantined(q *rkcyv1.Quarantined) any {
	if len(q.GetTxnId()) > 0 {
		step := &rkcyv1.Step{}
		if err := proto.Unmarshal(q.GetValue(), step); err == nil && step.GetCommand() != "" {
			return x.message(step.ProtoReflect())
		}
	}
	record := &rkcyv1.ProcessRecord{}
	if err := proto.Unmarshal(q.GetValue(), record); err == nil && record.GetKind() != nil {
		return x.message(record.ProtoReflect())
	}
	return raw(q.GetValue())
}
