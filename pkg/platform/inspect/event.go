package inspect

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Event is a record of any of the platform's topics, decoded.
type Event struct {
	Time      time.Time `json:"time"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	// Kind of the topic, and its Concern, "" for those of the whole platform.
	Kind    platform.Kind `json:"kind"`
	Concern string        `json:"concern,omitempty"`
	// What the record is: visit, commit, abort, outcome, cancel, retry, related,
	// hold, parked, restarts, timed, stuck, entry, done, snapshot, change,
	// deleted, answer, refusal, quarantined, version, undecodable.
	What  string `json:"what"`
	TxnID string `json:"txn_id,omitempty"`
	// Key of the instance, or of what the record is about.
	Key string `json:"key,omitempty"`
	// Text says in some words what happens.
	Text string `json:"text,omitempty"`
	// Record is all that is in it, with payloads and instances.
	Record any `json:"record,omitempty"`
	// touches has the instances of the transaction, as far as the record tells.
	touches []instance
}

type instance struct{ concern, key string }

// Touches says whether the record is about an instance: its own, or one that its
// transaction visits. An empty Concern stands for any.
func (e *Event) Touches(concern, key string) bool {
	if e.Key == key && (concern == "" || concern == e.Concern) {
		return true
	}
	return slices.ContainsFunc(e.touches, func(i instance) bool { return i.key == key && (concern == "" || concern == i.concern) })
}

// Place returns topic, partition and offset in short.
func (e *Event) Place() string {
	return fmt.Sprintf("%s[%d]@%d", firstOf(e.Concern, "platform"), e.Partition, e.Offset)
}

// Line returns the event as one line, safe for a terminal.
func (e *Event) Line() string {
	id := firstOf(e.TxnID, "-")
	line := fmt.Sprintf("%s %-8s %-24s %-11s %s", e.Time.Format("15:04:05.000"), e.Kind, e.Place(), e.What, id)
	if e.Key != "" {
		line += fmt.Sprintf(" %q", e.Key)
	}
	if e.Text != "" {
		line += " " + e.Text
	}
	return Printable(strings.ReplaceAll(line, "\n", "; "))
}

// Details returns the record as lines, safe for a terminal.
func (e *Event) Details(indent string) string {
	raw, err := json.MarshalIndent(e.Record, indent, "  ")
	if err != nil {
		return indent + err.Error()
	}
	return indent + Printable(string(raw))
}

// Printable replaces what would control a terminal; lines stay.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// remembered is how many transactions a Decoder knows the steps of.
const remembered = 10_000

// Decoder makes records into events. It remembers the steps of the transactions
// that it has seen, to tell what the results in a response are. It is used by
// one goroutine.
type Decoder struct {
	types Types
	steps map[txn.ID][]*rkcyv1.Step
	order []txn.ID
}

// NewDecoder returns a decoder for an application.
func NewDecoder(types Types) *Decoder {
	return &Decoder{types: types, steps: map[txn.ID][]*rkcyv1.Step{}}
}

func (d *Decoder) remember(t *rkcyv1.Transaction) {
	id, err := txn.IDFromBytes(t.GetId())
	if err != nil {
		return
	}
	if _, known := d.steps[id]; !known {
		if len(d.order) == remembered {
			delete(d.steps, d.order[0])
			d.order = d.order[1:]
		}
		d.order = append(d.order, id)
	}
	d.steps[id] = t.GetSteps()
}

// Decode returns what a record says. It never fails: a record that cannot be
// decoded is an event, too.
func (d *Decoder) Decode(r stream.Record) *Event {
	e := &Event{Time: r.Time, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}
	_, _, concern, kind, _, ok := platform.ParseTopic(r.Topic)
	if !ok {
		e.What, e.Text = "undecodable", "the topic is not one of a platform"
		return e
	}
	e.Kind = kind
	if kind != platform.KindResponse && kind != platform.KindPlatform && kind != platform.KindConfig {
		e.Concern = concern
	}
	switch kind {
	case platform.KindProcess:
		m := &rkcyv1.ProcessRecord{}
		if d.unmarshal(e, r.Value, m) {
			d.process(e, m)
		}
	case platform.KindState:
		d.state(e, r)
	case platform.KindStorage:
		m := &rkcyv1.Change{}
		if d.unmarshal(e, r.Value, m) {
			e.What, e.TxnID, e.Key = "change", idText(m.GetTxnId()), m.GetKey()
			e.Text = fmt.Sprintf("version %d", m.GetAfter().GetVersion())
			if m.GetAfter().GetVersion() == 0 {
				e.What, e.Text = "deleted", ""
			}
			d.expand(e, m, nil)
		}
	case platform.KindError:
		m := &rkcyv1.Quarantined{}
		if d.unmarshal(e, r.Value, m) {
			e.What, e.TxnID, e.Key = "quarantined", idText(m.GetTxnId()), text(m.GetKey())
			e.Text = fmt.Sprintf("%s[%d]@%d: %s", m.GetTopic(), m.GetPartition(), m.GetOffset(), m.GetReason())
			d.expand(e, m, nil)
		}
	case platform.KindResponse:
		m := &rkcyv1.Response{}
		if d.unmarshal(e, r.Value, m) {
			d.response(e, m)
		}
	case platform.KindPlatform:
		if string(r.Key) != "config" {
			d.platformRecord(e, r)
			break
		}
		m := &rkcyv1.PlatformVersion{}
		if d.unmarshal(e, r.Value, m) {
			e.What, e.Text = "version", fmt.Sprintf("%d, by %s", m.GetVersion(), m.GetAuthor())
			d.expand(e, m, nil)
		}
	case platform.KindConfig:
		m := &rkcyv1.ConfigVersion{}
		if d.unmarshal(e, r.Value, m) {
			e.What, e.Text = "version", fmt.Sprintf("%d: %d instances of %s, by %s", m.GetVersion(), len(m.GetInstances()), m.GetConcern(), m.GetAuthor())
			d.expand(e, m, nil)
		}
	default:
		e.What, e.Text = "undecodable", fmt.Sprintf("there is no kind of topic %q", kind)
	}
	return e
}

// platformRecord reads what is on the platform topic besides versions.
func (d *Decoder) platformRecord(e *Event, r stream.Record) {
	m := &rkcyv1.PlatformRecord{}
	if !d.unmarshal(e, r.Value, m) {
		return
	}
	switch k := m.GetKind().(type) {
	case *rkcyv1.PlatformRecord_Member:
		e.What, e.Key, e.Text = "member", k.Member.GetId(), strings.Join(k.Member.GetRoles(), ", ")
		if k.Member.GetGone() {
			e.Text = "has stopped"
		}
	case *rkcyv1.PlatformRecord_Acknowledgement:
		e.What, e.Key, e.Text = "acknowledgement", k.Acknowledgement.GetMember(), fmt.Sprintf("version %d", k.Acknowledgement.GetVersion())
	case *rkcyv1.PlatformRecord_Operation:
		e.What, e.Key = "operation", k.Operation.GetId()
		if e.Text = fmt.Sprintf("%s %s, by %s: %s", k.Operation.GetAction(), k.Operation.GetSubject(), k.Operation.GetAuthor(), k.Operation.GetReason()); k.Operation.GetAction() == "" {
			e.Text = "outcome: " + k.Operation.GetOutcome()
		}
	case *rkcyv1.PlatformRecord_Fence:
		e.What, e.Text = "fence", fmt.Sprintf("%d edges, by %s", len(k.Fence.GetEdges()), k.Fence.GetAuthor())
	case *rkcyv1.PlatformRecord_Snapshot:
		e.What, e.Text = "snapshot", "all that counts is repeated"
	default:
		e.What, e.Text = "undecodable", "a platform record of a kind that is not known here"
	}
	d.expand(e, m, nil)
}

func (d *Decoder) unmarshal(e *Event, value []byte, m proto.Message) bool {
	err := proto.Unmarshal(value, m)
	if err == nil && len(value) > 0 {
		return true
	}
	e.What = "undecodable"
	e.Text = fmt.Sprintf("not a %s, %d bytes", m.ProtoReflect().Descriptor().Name(), len(value))
	if err != nil {
		e.Text += ": " + err.Error()
	}
	e.Record = raw(value)
	return false
}

func (d *Decoder) expand(e *Event, m proto.Message, steps []*rkcyv1.Step) {
	e.Record = expander{types: d.types, concern: e.Concern, steps: steps}.message(m.ProtoReflect())
}

func (d *Decoder) process(e *Event, m *rkcyv1.ProcessRecord) {
	switch k := m.GetKind().(type) {
	case *rkcyv1.ProcessRecord_Visit:
		d.visit(e, k.Visit)
		e.What = "visit"
		if k.Visit.GetClaim() {
			e.What = "claim"
		}
	case *rkcyv1.ProcessRecord_Marker:
		e.What, e.TxnID = "abort", idText(k.Marker.GetTxnId())
		if k.Marker.GetCommit() {
			e.What = "commit"
		}
		e.Text = fmt.Sprintf("attempt %d", k.Marker.GetAttempt())
	case *rkcyv1.ProcessRecord_Outcome:
		e.What, e.TxnID, e.Key = "outcome", idText(k.Outcome.GetResponse().GetTxnId()), k.Outcome.GetKey()
		e.Text = outcomeText(k.Outcome.GetResponse())
	case *rkcyv1.ProcessRecord_Cancel:
		e.What, e.TxnID = "cancel", idText(k.Cancel.GetTxnId())
	case *rkcyv1.ProcessRecord_Retry:
		e.What, e.TxnID = "retry", idText(k.Retry.GetTxnId())
	case *rkcyv1.ProcessRecord_Related:
		e.What, e.Key = "related", k.Related.GetParent()
		e.Text = relatedText(k.Related)
	default:
		e.What, e.Text = "undecodable", "a process record of a kind that is not known here"
	}
	var steps []*rkcyv1.Step
	if id, err := txn.ParseID(e.TxnID); err == nil {
		steps = d.steps[id]
	}
	d.expand(e, m, steps)
}

func relatedText(r *rkcyv1.Related) string {
	t := fmt.Sprintf("%s %q", r.GetChild().GetConcern(), r.GetChild().GetKey())
	if r.GetRemoved() {
		return t + " no longer refers to it"
	}
	return t + " refers to it"
}

// visit notes what a visit is about: its instance, and the commands that run.
func (d *Decoder) visit(e *Event, v *rkcyv1.Visit) {
	d.remember(v.GetTxn())
	e.TxnID = idText(v.GetTxn().GetId())
	for _, s := range v.GetTxn().GetSteps() {
		e.touches = append(e.touches, instance{s.GetConcern(), s.GetKey()})
	}
	visits := v.GetTxn().GetVisits()
	var commands []string
	number := int(v.GetVisit())
	undo := number >= len(visits) && len(visits) > 0
	if undo {
		number = 2*len(visits) - 1 - number
	}
	if number >= 0 && number < len(visits) {
		for _, i := range visits[number].GetSteps() {
			if int(i) < len(v.GetTxn().GetSteps()) {
				s := v.GetTxn().GetSteps()[i]
				e.Key = s.GetKey()
				commands = append(commands, s.GetCommand())
			}
		}
	}
	if v.GetClaim() {
		e.Key = v.GetTxn().GetIdempotency().GetKey()
	}
	e.Text = fmt.Sprintf("%s, visit %d of %d, attempt %d", strings.Join(commands, "+"), number+1, len(visits), v.GetAttempt())
	if undo {
		e.Text = fmt.Sprintf("undo of %s, visit %d of %d, tried %d times: %s", strings.Join(commands, "+"), number+1, len(visits), v.GetTries(), v.GetUndo().GetMessage())
	}
}

func (d *Decoder) response(e *Event, m *rkcyv1.Response) {
	e.What, e.TxnID = "answer", idText(m.GetTxnId())
	if m.GetError() != nil {
		e.What = "refusal"
	}
	e.Text = outcomeText(m)
	id, _ := txn.IDFromBytes(m.GetTxnId())
	if original, err := txn.IDFromBytes(m.GetOriginalTxnId()); err == nil {
		e.Text += ", as " + original.String()
		id = original
	}
	d.expand(e, m, d.steps[id])
	for _, s := range d.steps[id] {
		e.touches = append(e.touches, instance{s.GetConcern(), s.GetKey()})
	}
}

func outcomeText(m *rkcyv1.Response) string {
	if err := m.GetError(); err != nil {
		return fmt.Sprintf("%s: %s", strings.TrimPrefix(err.GetCode().String(), "CODE_"), err.GetMessage())
	}
	if n := m.GetAttempts(); n > 1 {
		return fmt.Sprintf("committed in attempt %d", n)
	}
	return "committed"
}

// state reads a record of a state topic. What has ended has a key only.
func (d *Decoder) state(e *Event, r stream.Record) {
	if string(r.Key) == snapshotKey {
		e.What, e.Text = "snapshot", "all that is live follows"
		return
	}
	if len(r.Value) == 0 {
		e.What = "done"
		e.Text, e.TxnID = stateKeyText(r.Key)
		return
	}
	m := &rkcyv1.StateRecord{}
	if !d.unmarshal(e, r.Value, m) {
		return
	}
	switch k := m.GetKind().(type) {
	case *rkcyv1.StateRecord_Hold:
		e.What, e.TxnID, e.Key = "hold", idText(k.Hold.GetTxnId()), k.Hold.GetKey()
		e.Text = fmt.Sprintf("%s, attempt %d", accessText(k.Hold.GetAccess()), k.Hold.GetAttempt())
	case *rkcyv1.StateRecord_Parked:
		d.visit(e, k.Parked.GetVisit())
		e.Key, e.What = k.Parked.GetKey(), parkedState(k.Parked)
		if due := k.Parked.GetDueMs(); due > 0 {
			e.Text += ", due " + time.UnixMilli(due).UTC().Format(time.RFC3339Nano)
		}
	case *rkcyv1.StateRecord_Entry:
		e.What, e.TxnID, e.Key = "entry", idText(k.Entry.GetTxnId()), k.Entry.GetKey()
		if e.Text = "running"; k.Entry.GetOutcome() != nil {
			e.Text = outcomeText(k.Entry.GetOutcome())
		}
	case *rkcyv1.StateRecord_Cancel:
		e.What, e.TxnID = "cancel", idText(k.Cancel.GetTxnId())
	case *rkcyv1.StateRecord_Related:
		e.What, e.Key, e.Text = "related", k.Related.GetParent(), relatedText(k.Related)
	default:
		e.What, e.Text = "undecodable", "a state record of a kind that is not known here"
	}
	d.expand(e, m, nil)
}

// States of a transaction that holds or waits for something.
const (
	StateHolds  = "holds"
	StateParked = "parked"
	// StateRestarts is of one that has died and begins again when it can.
	StateRestarts = "restarts"
	StateTimed    = "timed"
	StateStuck    = "stuck"
)

// WaitingStates returns the states.
func WaitingStates() []string {
	return []string{StateHolds, StateParked, StateRestarts, StateTimed, StateStuck}
}

func parkedState(p *rkcyv1.Parked) string {
	switch {
	case p.GetStuck():
		return StateStuck
	case p.GetDueMs() > 0:
		return StateTimed
	case p.GetRestart():
		return StateRestarts
	}
	return StateParked
}

func accessText(a rkcyv1.Access) string {
	if a == rkcyv1.Access_ACCESS_READ {
		return "shared"
	}
	return "exclusive"
}

// stateKeyText takes the key of a state record apart: a kind, and, of holds and
// visits, id, attempt and visit.
func stateKeyText(key []byte) (text, id string) {
	if len(key) == 0 {
		return "", ""
	}
	kinds := map[byte]string{'h': "hold", 'p': StateParked, 'g': StateRestarts, 't': StateTimed, 'i': "entry", 'c': "cancel", 'r': "related"}
	kind, ok := kinds[key[0]]
	if !ok {
		return fmt.Sprintf("key %q", key), ""
	}
	switch {
	case len(key) == 1+16+8 && strings.IndexByte("hpgt", key[0]) >= 0:
		return fmt.Sprintf("%s, attempt %d, visit %d", kind, binary.BigEndian.Uint32(key[17:21]), binary.BigEndian.Uint32(key[21:25])+1), idText(key[1:17])
	case len(key) == 1+16 && key[0] == 'c':
		return kind, idText(key[1:])
	}
	return fmt.Sprintf("%s %q", kind, key[1:]), ""
}

func idText(b []byte) string {
	id, err := txn.IDFromBytes(b)
	if err != nil {
		return ""
	}
	return id.String()
}

// text returns bytes that are usually text.
func text(b []byte) string {
	if id, err := txn.IDFromBytes(b); err == nil && !utf8.Valid(b) {
		return id.String()
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
