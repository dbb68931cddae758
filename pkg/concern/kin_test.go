package concern

import (
	"bytes"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// kin is a log on which parents and children are driven by hand. Every Concern
// has one partition.
type kin struct {
	t          *testing.T
	served     map[string]*servedConcern
	log        map[stream.TopicPartition][]stream.Record
	committed  map[stream.TopicPartition]int64
	database   map[string]*rkcyv1.Instance // concern/key
	watermarks map[stream.TopicPartition]int64
	engines    map[string]*engine // by Concern
	answers    map[txn.ID][]*rkcyv1.Response
	now        time.Time
	clock      int
	// away: the database cannot be asked.
	away bool
	// together: one engine has all Concerns, so that visits do not hop.
	together bool
	// config is what handlers see.
	config *ConfigSet
}

// person is the instance of both Concerns. Step happens to have the fields we
// need: a key, two texts, and bytes.
type person = rkcyv1.Step

func newPerson() proto.Message { return &person{} }

// Texts of a person: the name of both, the parent of a child.
func nameOf(m proto.Message) string   { return m.(*person).GetCommand() }
func parentOf(m proto.Message) string { return m.(*person).GetConcern() }

const mostChildren = 2

var kinConcerns = []string{"child", "parent", "parent_name"}

func kinDefinitions() []Definition {
	key := func(m proto.Message) string { return m.(*person).GetKey() }
	own := func(name string, readOnly bool, run func(ctx Context, p, in *person) (*person, error)) Command {
		return Command{Name: name, ReadOnly: readOnly, NewPayload: newPerson, NewResult: newPerson,
			Run: func(ctx Context, instance, payload proto.Message) (proto.Message, error) {
				return run(ctx, instance.(*person), payload.(*person))
			}}
	}
	children := func(ctx Context) ([]*person, error) {
		return Related(ctx, "child", func() *person { return &person{} })
	}
	unique := Unique{Field: "name", Index: "parent_name", Value: nameOf}
	return []Definition{{
		Name: "parent", New: newPerson, KeyOf: key, Unique: []Unique{unique},
		Commands: []Command{
			own("Show", true, func(ctx Context, p, _ *person) (*person, error) {
				all, err := children(ctx)
				var text []string
				for _, c := range all {
					text = append(text, c.GetKey()+":"+c.GetCommand()+string(c.GetPayload()))
				}
				return &person{Key: p.GetKey(), Command: strings.Join(text, " ")}, err
			}),
			own("Add", false, func(ctx Context, p, in *person) (*person, error) {
				all, err := children(ctx)
				if len(all) >= mostChildren {
					return nil, txn.Errorf(txn.CodeFailedPrecondition, "%d children", len(all))
				}
				return p, err
			}),
			own("Rename", false, func(_ Context, p, in *person) (*person, error) { p.Command = in.GetCommand(); return p, nil }),
			own("Touch", false, func(_ Context, p, in *person) (*person, error) { p.Payload = in.GetPayload(); return p, nil }),
		},
		ValidateDelete: func(ctx Context, _ proto.Message) error {
			if all, err := children(ctx); err != nil || len(all) > 0 {
				return txn.Errorf(txn.CodeFailedPrecondition, "%d children: %v", len(all), err)
			}
			return nil
		},
	}, {
		Name: "child", New: newPerson, KeyOf: key,
		Relations: []Relation{{Field: "concern", Parent: "parent", ParentKey: parentOf, Copy: func(m proto.Message) proto.Message {
			return &person{Key: m.(*person).GetKey(), Command: m.(*person).GetCommand()}
		}}},
		Commands: []Command{
			own("Rename", false, func(_ Context, p, in *person) (*person, error) { p.Command = in.GetCommand(); return p, nil }),
			own("Move", false, func(_ Context, p, in *person) (*person, error) { p.Concern = in.GetConcern(); return p, nil }),
			own("Touch", false, func(_ Context, p, in *person) (*person, error) { p.Payload = in.GetPayload(); return p, nil }),
		},
	}, unique.Definition()}
}

// inBothLayouts runs a test with an engine for each Concern, so that every visit
// hops, and with one for all.
func inBothLayouts(t *testing.T, test func(k *kin)) {
	for _, together := range []bool{false, true} {
		name := "apart"
		if together {
			name = "together"
		}
		t.Run(name, func(t *testing.T) { test(newKin(t, together)) })
	}
}

func newKin(t *testing.T, together bool) *kin {
	k := &kin{
		t: t, served: map[string]*servedConcern{}, log: map[stream.TopicPartition][]stream.Record{},
		committed: map[stream.TopicPartition]int64{}, database: map[string]*rkcyv1.Instance{},
		watermarks: map[stream.TopicPartition]int64{}, engines: map[string]*engine{},
		answers: map[txn.ID][]*rkcyv1.Response{}, now: time.UnixMilli(1_000_000), together: together,
	}
	for _, d := range kinDefinitions() {
		set, err := newCommandSet(d)
		if err != nil {
			t.Fatal(err)
		}
		k.served["process."+d.Name] = &servedConcern{commands: set, topics: Topics{
			Process: "process." + d.Name, State: "state." + d.Name, Storage: "storage." + d.Name, Error: "error." + d.Name,
		}}
	}
	k.takeOver(kinConcerns...)
	return k
}

// Route implements txn.Router.
func (k *kin) Route(concern, _ string) (string, int32, error) {
	if k.served["process."+concern] == nil {
		return "", 0, txn.Errorf(txn.CodeUnimplemented, "there is no Concern %s", concern)
	}
	return "process." + concern, 0, nil
}

// IdempotencyHome implements txn.Router.
func (k *kin) IdempotencyHome() string { return kinConcerns[0] }

func tpOfTopic(topic string) stream.TopicPartition { return stream.TopicPartition{Topic: topic} }

// takeOver throws engines away and makes them anew from the log.
func (k *kin) takeOver(concerns ...string) {
	k.t.Helper()
	if k.together {
		concerns = kinConcerns
	}
	fresh := map[string]*engine{}
	for _, c := range concerns {
		shared := c
		if k.together {
			shared = "all"
		}
		if fresh[shared] == nil {
			// Nothing stays in a cache of no size, but what must.
			fresh[shared] = newEngine(engineConfig{
				served: k.served, responseTopic: "response", router: k, overlayBytes: 1 << 30, stateRecords: 1 << 30,
				logger: slog.New(slog.DiscardHandler),
			})
		}
		k.engines[c] = fresh[shared]
		s := k.served["process."+c]
		r := newRestorer(newPartition(tpOfTopic(s.topics.Process), s, windowOffsets), k.watermarks[tpOfTopic(s.topics.Storage)])
		for _, rec := range k.log[tpOfTopic(s.topics.State)] {
			k.must(r.stateRecord(rec))
		}
		storage := k.log[tpOfTopic(s.topics.Storage)]
		for _, rec := range storage[r.watermark:] { // no further, so that the database is asked
			k.must(r.change(rec))
		}
		r.finish(k.engines[c], k.committed[tpOfTopic(s.topics.Process)])
	}
}

func (k *kin) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *kin) part(concern string) *partition {
	return k.engines[concern].parts[tpOfTopic("process."+concern)]
}

// work lets the engine of a Concern work on one batch, and reports whether there
// was anything to do. Where crash, the batch does not commit.
func (k *kin) work(concern string, crash bool) bool {
	k.t.Helper()
	e := k.engines[concern]
	var inputs []*input
	for _, p := range e.order {
		for _, r := range k.log[p.tp][p.next:] {
			inputs = append(inputs, e.decode(r))
		}
	}
	load := func(p *partition, key string) {
		if k.away {
			e.unavailable(p, key, txn.Errorf(txn.CodeUnavailable, "the database is away"))
			return
		}
		e.loaded(p, key, k.database[p.concern.commands.def.Name+"/"+key])
	}
	for _, in := range inputs {
		if key, ok := e.missing(in); ok {
			load(in.part, key)
		}
	}
	for _, ref := range e.wants() {
		load(ref.part, ref.key)
	}
	e.begin(k.now, k.config)
	for _, in := range inputs {
		e.process(in)
	}
	e.expire()
	records, offsets := e.finish()
	if len(records) == 0 && len(inputs) == 0 {
		e.committed(nil)
		return false
	}
	if crash {
		k.takeOver(concern)
		return true
	}
	last := map[stream.TopicPartition]int64{}
	for _, r := range records {
		tp := stream.TopicPartition{Topic: r.Topic, Partition: r.Partition}
		k.append(r)
		last[tp] = int64(len(k.log[tp]) - 1)
	}
	maps.Copy(k.committed, offsets)
	e.committed(last)
	return true
}

func (k *kin) append(r stream.Record) {
	k.t.Helper()
	tp := stream.TopicPartition{Topic: r.Topic, Partition: r.Partition}
	r.Offset = int64(len(k.log[tp]))
	k.log[tp] = append(k.log[tp], r)
	if r.Topic == "response" {
		a := &rkcyv1.Response{}
		k.must(proto.Unmarshal(r.Value, a))
		k.answers[txn.ID(a.GetTxnId())] = append(k.answers[txn.ID(a.GetTxnId())], a)
	}
}

// rest works until there is nothing left to do.
func (k *kin) rest() {
	k.t.Helper()
	for busy, n := true, 0; busy; n++ {
		busy = false
		for _, c := range kinConcerns {
			busy = k.work(c, false) || busy
		}
		if n > 1000 {
			k.t.Fatal("it does not come to rest")
		}
	}
}

// persist brings all changes into the database. Caches of no size are empty
// after that and a batch.
func (k *kin) persist() {
	k.t.Helper()
	for topic, s := range k.served {
		storage := tpOfTopic(s.topics.Storage)
		for _, r := range k.log[storage][k.watermarks[storage]:] {
			c := &rkcyv1.Change{}
			k.must(proto.Unmarshal(r.Value, c))
			at := s.commands.def.Name + "/" + c.GetKey()
			if delete(k.database, at); c.GetAfter().GetVersion() > 0 {
				k.database[at] = c.GetAfter()
			}
			k.watermarks[storage] = r.Offset + 1
		}
		e := k.engines[s.commands.def.Name]
		e.advance(tpOfTopic(topic), k.watermarks[storage])
		e.cache.evict()
	}
}

// do is one command.
func do(concern, key, command string, payload *person) txn.TypedStep[*person] {
	access := rkcyv1.Access_ACCESS_WRITE
	if command == "Show" || command == txn.CommandRead {
		access = rkcyv1.Access_ACCESS_READ
	}
	return txn.NewStep(concern, key, command, access, payload, func() *person { return &person{} })
}

func create(concern, key, name, parent string) txn.TypedStep[*person] {
	return do(concern, key, txn.CommandCreate, &person{Key: key, Command: name, Concern: parent})
}

func remove(concern, key string) txn.TypedStep[*person] {
	return do(concern, key, txn.CommandDelete, &person{})
}

func rename(concern, key, name string) txn.TypedStep[*person] {
	return do(concern, key, "Rename", &person{Command: name})
}

// addTo is the transaction that makes a child of a parent, which is visited
// first.
func addTo(parent, key, name string) func(b *txn.Builder) {
	return func(b *txn.Builder) {
		p := txn.Add(b, do("parent", parent, "Add", &person{}))
		txn.Bind(b, p, "key", txn.Add(b, create("child", key, name, parent)), "concern")
	}
}

// tied makes the steps run in the order given.
func tied(steps ...txn.TypedStep[*person]) func(b *txn.Builder) {
	return func(b *txn.Builder) {
		var before *txn.Handle[*person]
		for _, s := range steps {
			h := txn.Add(b, s)
			if before != nil {
				txn.SkipWhen(b, h, before, "key", txn.Equal, "no key")
			}
			before = h
		}
	}
}

// submit puts a transaction into the log. Later ones are younger.
func (k *kin) submit(fill func(b *txn.Builder)) txn.ID {
	k.t.Helper()
	return k.submitTo(txn.New(), fill)
}

func (k *kin) submitTo(b *txn.Builder, fill func(b *txn.Builder)) txn.ID {
	k.t.Helper()
	fill(b)
	k.clock++
	id := txn.ID{14: byte(k.clock >> 8), 15: byte(k.clock)}
	t, err := b.Build(id, k.now, k.now.Add(time.Hour), &rkcyv1.ReplyTo{})
	k.must(err)
	v := &rkcyv1.Visit{Txn: t, Attempt: 1}
	concern, key := txn.Instance(v)
	raw, err := proto.Marshal(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Visit{Visit: v}})
	k.must(err)
	k.append(stream.Record{Topic: "process." + concern, Key: []byte(key), Value: raw})
	return id
}

func (k *kin) submitSteps(steps ...txn.TypedStep[*person]) txn.ID {
	k.t.Helper()
	return k.submit(tied(steps...))
}

// answer returns the answer to a transaction, which has one.
func (k *kin) answer(id txn.ID) *rkcyv1.Response {
	k.t.Helper()
	if n := len(k.answers[id]); n != 1 {
		k.t.Fatalf("transaction %v has %d answers", id, n)
	}
	return k.answers[id][0]
}

// run runs steps to their end, and checks how they ended: 0 is well.
func (k *kin) run(code txn.Code, steps ...txn.TypedStep[*person]) *rkcyv1.Response {
	k.t.Helper()
	id := k.submitSteps(steps...)
	k.rest()
	return k.ended(id, code)
}

func (k *kin) ended(id txn.ID, code txn.Code) *rkcyv1.Response {
	k.t.Helper()
	a := k.answer(id)
	if a.GetError().GetCode() != code {
		k.t.Fatalf("transaction %v ended in %v, want %v", id, a.GetError(), code)
	}
	return a
}

// knows checks what a parent knows of its children, in memory and, after all is
// persisted, in the database.
func (k *kin) knows(parent, want string) {
	k.t.Helper()
	a := k.run(0, do("parent", parent, "Show", &person{}))
	got := &person{}
	k.must(proto.Unmarshal(a.GetResults()[0].GetValue(), got))
	if got.GetCommand() != want {
		k.t.Errorf("parent %s knows %q, want %q", parent, got.GetCommand(), want)
	}
}

// taken checks which names are taken: "anna=p1 bert=p2".
func (k *kin) taken(want string) {
	k.t.Helper()
	k.rest()
	k.persist()
	var got []string
	for at, i := range k.database {
		if value, ok := strings.CutPrefix(at, "parent_name/"); ok {
			e := &rkcyv1.UniqueEntry{}
			k.must(proto.Unmarshal(i.GetValue(), e))
			if e.GetValue() != value {
				k.t.Errorf("the entry of %q says %v", value, e)
			}
			got = append(got, value+"="+e.GetOwner())
		}
	}
	slices.Sort(got)
	if text := strings.Join(got, " "); text != want {
		k.t.Errorf("taken are %q, want %q", text, want)
	}
}

// free checks that nothing is held or waits.
func (k *kin) free() {
	k.t.Helper()
	for _, c := range kinConcerns {
		if p := k.part(c); len(p.slots) != 0 || len(p.holds) != 0 || len(p.state.live) != 0 || len(p.untold) != 0 {
			k.t.Errorf("%s: %d slots, %d holds, %d state records, %d untold are left", c, len(p.slots), len(p.holds), len(p.state.live), len(p.untold))
		}
	}
}

// consistent checks that every parent that is persisted knows exactly the
// persisted children that refer to it.
func (k *kin) consistent() {
	k.t.Helper()
	k.rest()
	k.persist()
	def := kinDefinitions()[1]
	want := map[string][]*rkcyv1.RelatedInstance{}
	for _, at := range slices.Sorted(maps.Keys(k.database)) {
		key, ok := strings.CutPrefix(at, "child/")
		if !ok {
			continue
		}
		c := &person{}
		k.must(proto.Unmarshal(k.database[at].GetValue(), c))
		value, err := proto.MarshalOptions{Deterministic: true}.Marshal(def.Relations[0].Copy(c))
		k.must(err)
		want[c.GetConcern()] = append(want[c.GetConcern()], &rkcyv1.RelatedInstance{Concern: "child", Key: key, Value: value})
	}
	for at, i := range k.database {
		key, ok := strings.CutPrefix(at, "parent/")
		if !ok {
			continue
		}
		have, should := i.GetRelated(), want[key]
		if !slices.EqualFunc(have, should, func(a, b *rkcyv1.RelatedInstance) bool {
			return a.GetKey() == b.GetKey() && bytes.Equal(a.GetValue(), b.GetValue())
		}) {
			k.t.Errorf("parent %s knows %v, but its children are %v", key, have, should)
		}
	}
}

func recordTo(topic string, value []byte) stream.Record {
	return stream.Record{Topic: topic, Value: value}
}
