package frame

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// member is a member of a JSON object, as it was written.
type member struct {
	name  string
	value json.RawMessage
}

// object takes a JSON object apart.
func object(data []byte) ([]member, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8")
	}
	if !json.Valid(data) { // looks at all of it before anything is kept
		var value any
		return nil, fmt.Errorf("not valid JSON: %w", json.Unmarshal(data, &value))
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	var out []member
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		m := member{name: name.(string)} //nolint:forcetypeassert // a key
		if seen[m.name] {
			return nil, fmt.Errorf("field %q is given twice", m.name)
		}
		seen[m.name] = true
		if err := d.Decode(&m.value); err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// without returns the object less some members, and those.
func without(data []byte, names ...string) (rest []byte, taken map[string]json.RawMessage, err error) {
	members, err := object(data)
	if err != nil {
		return nil, nil, err
	}
	var b bytes.Buffer
	b.WriteByte('{')
	taken = map[string]json.RawMessage{}
next:
	for _, m := range members {
		for _, name := range names {
			if m.name == name {
				taken[name] = m.value
				continue next
			}
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes(), taken, nil
}

func isNull(raw json.RawMessage) bool { return raw == nil || string(raw) == "null" }

// elements takes a JSON array apart.
func elements(raw json.RawMessage) (out []json.RawMessage, err error) {
	if isNull(raw) {
		return nil, nil
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, errors.New("not a list")
	}
	return out, nil
}

func envelopeFromJSON(data []byte, out *edgev1.Envelope) error {
	rest, taken, err := without(data, "body")
	if err != nil {
		return err
	}
	if err := plain(rest, out); err != nil {
		return err
	}
	if body := taken["body"]; body != nil {
		out.Body = body
	}
	return nil
}

func batchFromJSON(data []byte, out *edgev1.BatchRequest) error {
	rest, taken, err := without(data, "items")
	if err != nil {
		return err
	}
	if err := plain(rest, out); err != nil {
		return err
	}
	items, err := elements(taken["items"])
	if err != nil {
		return fmt.Errorf("items: %w", err)
	}
	for i, raw := range items {
		item := &edgev1.Envelope{}
		if err := envelopeFromJSON(raw, item); err != nil {
			return fmt.Errorf("items[%d]: %w", i, err)
		}
		out.Items = append(out.Items, item)
	}
	return nil
}

func clientFromJSON(data []byte, out *edgev1.ClientFrame) error {
	members, err := object(data)
	if err != nil {
		return err
	}
	if len(members) != 1 {
		return errors.New("a frame has exactly one of request, batch, cancel")
	}
	switch m := members[0]; m.name {
	case "request":
		kind := &edgev1.ClientFrame_Request{Request: &edgev1.Envelope{}}
		out.Kind, err = kind, envelopeFromJSON(m.value, kind.Request)
	case "batch":
		kind := &edgev1.ClientFrame_Batch{Batch: &edgev1.BatchRequest{}}
		out.Kind, err = kind, batchFromJSON(m.value, kind.Batch)
	case "cancel":
		kind := &edgev1.ClientFrame_Cancel{Cancel: &edgev1.Cancel{}}
		out.Kind, err = kind, plain(m.value, kind.Cancel)
	default:
		return fmt.Errorf("a frame has exactly one of request, batch, cancel; not %q", m.name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", members[0].name, err)
	}
	return nil
}

// idInJSON looks for the request id in a frame that could not be read.
func idInJSON(data []byte) string {
	var found map[string]struct {
		ID any `json:"request_id"`
	}
	if !utf8.Valid(data) || json.Unmarshal(data, &found) != nil || len(found) != 1 {
		return ""
	}
	for _, in := range found {
		id, _ := in.ID.(string)
		return id
	}
	return ""
}

func answerFromJSON(data []byte, out *edgev1.Answer) error {
	rest, taken, err := without(data, "body")
	if err != nil {
		return err
	}
	if err := lenient(rest, out); err != nil {
		return err
	}
	if body := taken["body"]; body != nil {
		if out.GetError() != nil {
			return errors.New("both a body and an error")
		}
		out.Outcome = &edgev1.Answer_Body{Body: body}
	}
	return nil
}

func serverFromJSON(data []byte, out *edgev1.ServerFrame) error {
	rest, taken, err := without(data, "answer", "batch")
	if err != nil {
		return err
	}
	if err := lenient(rest, out); err != nil {
		return err
	}
	switch {
	case taken["answer"] != nil:
		a := &edgev1.Answer{}
		out.Kind = &edgev1.ServerFrame_Answer{Answer: a}
		return answerFromJSON(taken["answer"], a)
	case taken["batch"] != nil:
		b := &edgev1.BatchResponse{}
		out.Kind = &edgev1.ServerFrame_Batch{Batch: b}
		return responseFromJSON(taken["batch"], b)
	}
	return nil
}

func responseFromJSON(data []byte, out *edgev1.BatchResponse) error {
	rest, taken, err := without(data, "results")
	if err != nil {
		return err
	}
	if err := lenient(rest, out); err != nil {
		return err
	}
	results, err := elements(taken["results"])
	if err != nil {
		return fmt.Errorf("results: %w", err)
	}
	for i, raw := range results {
		a := &edgev1.Answer{}
		if err := answerFromJSON(raw, a); err != nil {
			return fmt.Errorf("results[%d]: %w", i, err)
		}
		out.Results = append(out.Results, a)
	}
	return nil
}

// Envelope reads a single envelope in JSON.
func (c Codec) Envelope(data []byte) (*edgev1.Envelope, error) {
	out := &edgev1.Envelope{}
	if c == JSON {
		return out, envelopeFromJSON(data, out)
	}
	return out, fromProto(data, out)
}

// Response reads the results of a batch, as clients get them.
func (c Codec) Response(data []byte) (*edgev1.BatchResponse, error) {
	out := &edgev1.BatchResponse{}
	if c == JSON {
		return out, responseFromJSON(data, out)
	}
	return out, proto.Unmarshal(data, out)
}

var protoPrefix = regexp.MustCompile(`^proto:[\s\x{a0}]*(syntax error )?(\(line \d+:\d+\): )?`)

// plain reads a message that has no body. Positions would be those in what is
// left of the frame, so they are not told.
func plain(data []byte, m proto.Message) error {
	if err := protojson.Unmarshal(data, m); err != nil {
		return errors.New(strings.ReplaceAll(protoPrefix.ReplaceAllString(err.Error(), ""), "\u00a0", " "))
	}
	return nil
}

func lenient(data []byte, m proto.Message) error {
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, m)
}

// toJSON writes a message whose bodies are JSON.
func toJSON(m proto.Message) ([]byte, error) {
	var b bytes.Buffer
	if err := writeJSON(&b, m); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func writeJSON(b *bytes.Buffer, m proto.Message) error {
	switch m := m.(type) {
	case *edgev1.Envelope:
		rest := &edgev1.Envelope{
			Method: m.GetMethod(), RequestId: m.GetRequestId(), IdempotencyKey: m.GetIdempotencyKey(), Headers: m.GetHeaders(), Timeout: m.GetTimeout(),
		}
		return with(b, rest, "body", m.GetBody())
	case *edgev1.Answer:
		rest := &edgev1.Answer{RequestId: m.GetRequestId(), Headers: m.GetHeaders()}
		if m.GetError() != nil {
			rest.Outcome = &edgev1.Answer_Error{Error: m.GetError()}
		}
		return with(b, rest, "body", m.GetBody())
	case *edgev1.BatchRequest:
		rest := &edgev1.BatchRequest{RequestId: m.GetRequestId(), Mode: m.GetMode(), MaxParallel: m.GetMaxParallel(), Timeout: m.GetTimeout()}
		items, err := list(m.GetItems())
		if err != nil {
			return err
		}
		return with(b, rest, "items", items)
	case *edgev1.BatchResponse:
		results, err := list(m.GetResults())
		if err != nil {
			return err
		}
		return with(b, &edgev1.BatchResponse{RequestId: m.GetRequestId()}, "results", results)
	case *edgev1.ClientFrame:
		switch kind := m.GetKind().(type) {
		case *edgev1.ClientFrame_Request:
			return wrap(b, "request", kind.Request)
		case *edgev1.ClientFrame_Batch:
			return wrap(b, "batch", kind.Batch)
		}
	case *edgev1.ServerFrame:
		switch kind := m.GetKind().(type) {
		case *edgev1.ServerFrame_Answer:
			return wrap(b, "answer", kind.Answer)
		case *edgev1.ServerFrame_Batch:
			return wrap(b, "batch", kind.Batch)
		}
	}
	return with(b, m, "", nil)
}

func list[M proto.Message](items []M) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, m := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := writeJSON(&b, m); err != nil {
			return nil, err
		}
	}
	b.WriteByte(']')
	return b.Bytes(), nil
}

func wrap(b *bytes.Buffer, name string, m proto.Message) error {
	fmt.Fprintf(b, "{%q:", name)
	err := writeJSON(b, m)
	b.WriteByte('}')
	return err
}

// with writes a message with one more member.
func with(b *bytes.Buffer, m proto.Message, name string, raw []byte) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return err
	}
	if err := json.Compact(b, text); err != nil { // its white space is random
		return err
	}
	if len(raw) == 0 {
		return nil
	}
	b.Truncate(b.Len() - 1) // the brace
	if !bytes.HasSuffix(b.Bytes(), []byte("{")) {
		b.WriteByte(',')
	}
	fmt.Fprintf(b, "%q:", name)
	if err := json.Compact(b, raw); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	b.WriteByte('}')
	return nil
}
