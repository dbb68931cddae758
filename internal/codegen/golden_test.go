package codegen_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rocketcycle/rocketcycle/internal/codegen/testdata/golden/foreign"
	"github.com/rocketcycle/rocketcycle/internal/codegen/testdata/golden/foreign/payload"
	"github.com/rocketcycle/rocketcycle/internal/codegen/testdata/golden/kinds"
	"github.com/rocketcycle/rocketcycle/internal/codegen/testdata/golden/nested"
	"github.com/rocketcycle/rocketcycle/internal/codegen/testdata/golden/plain"
	"github.com/rocketcycle/rocketcycle/internal/codegen/testdata/golden/readonly"
	"github.com/rocketcycle/rocketcycle/internal/codegen/testdata/golden/relation"
	renamedpb "github.com/rocketcycle/rocketcycle/internal/codegen/testdata/golden/renamed"
	"github.com/rocketcycle/rocketcycle/internal/codegen/testdata/golden/saga"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

type wallets struct{ rules []string }

func (*wallets) Deposit(_ concern.Context, w *plain.Wallet, in *plain.Amount) (*plain.Wallet, error) {
	w.Cents += in.GetCents()
	return w, nil
}

func (*wallets) TakeOut(_ concern.Context, w *plain.Wallet, in *plain.Amount) (*plain.Amount, error) {
	if in.GetCents() > w.GetCents() {
		return nil, txn.Errorf(txn.CodeFailedPrecondition, "too little")
	}
	w.Cents -= in.GetCents()
	return in, nil
}

func (*wallets) Close(_ concern.Context, w *plain.Wallet, _ *plain.Amount) (*plain.Wallet, error) {
	return w, nil
}

func (h *wallets) ValidateCreate(ctx concern.Context, in *plain.Wallet) error {
	h.rules = append(h.rules, "create "+ctx.Key()+" "+in.GetOwner())
	return nil
}

func (h *wallets) ValidateUpdate(_ concern.Context, before, after *plain.Wallet) error {
	h.rules = append(h.rules, "update "+before.GetOwner()+" "+after.GetOwner())
	return nil
}

func (h *wallets) ValidateDelete(_ concern.Context, before *plain.Wallet) error {
	return fmt.Errorf("delete %s", before.GetOwner())
}

type shelves struct{}

func (shelves) Has(_ concern.Context, s *readonly.Shelf, in *readonly.Question) (*readonly.Answer, error) {
	return &readonly.Answer{Yes: strings.Contains(strings.Join(s.GetBooks(), ","), in.GetText())}, nil
}
func (shelves) IsEmpty(concern.Context, *readonly.Shelf, *readonly.Question) (*readonly.Answer, error) {
	return &readonly.Answer{}, nil
}
func (shelves) Put(_ concern.Context, s *readonly.Shelf, _ *readonly.Question) (*readonly.Shelf, error) {
	return s, nil
}

type counters struct{}

func (counters) Add(_ concern.Context, c *foreign.Counter, in *payload.In) (*payload.Out, error) {
	c.Value += in.GetAmount()
	return &payload.Out{Amount: c.Value}, nil
}
func (counters) Reset(_ concern.Context, c *foreign.Counter, _ *emptypb.Empty) (*wrapperspb.Int64Value, error) {
	return wrapperspb.Int64(c.GetValue()), nil
}

type stocks struct{}

func (stocks) Take(_ concern.Context, s *saga.Stock, _ *saga.Order) (*saga.Stock, error) {
	return s, nil
}
func (stocks) Return(_ concern.Context, s *saga.Stock, _ *saga.Order) (*saga.Stock, error) {
	return s, nil
}
func (stocks) Reserve(concern.Context, *saga.Stock, *saga.Order) (*saga.Reservation, error) {
	return &saga.Reservation{}, nil
}
func (stocks) Cancel(_ concern.Context, s *saga.Stock, _ *saga.Reservation) (*saga.Stock, error) {
	return s, nil
}
func (stocks) Count(_ concern.Context, s *saga.Stock, _ *saga.Order) (*saga.Stock, error) {
	return s, nil
}

func definitions() []concern.Definition {
	return []concern.Definition{
		plain.NewWallet(&wallets{}), plain.NewHTTPLog2Entry(nil), kinds.NewEverything(nil), kinds.NewIndexed(nil),
		nested.NewTree(struct{}{}), foreign.NewCounter(counters{}), readonly.NewShelf(shelves{}),
		renamedpb.NewUser(nil), renamedpb.NewThing(nil), saga.NewStock(stocks{}),
		relation.NewCompany(nil), relation.NewEmployee(nil), relation.NewSubsidiary(nil),
		relation.NewCompany(nil).Unique[0].Definition(), relation.NewCompany(nil).Unique[1].Definition(),
	}
}

func mappings() map[string][]storage.Mapping {
	return map[string][]storage.Mapping{
		"plain":    {plain.WalletMapping(), plain.HTTPLog2EntryMapping()},
		"kinds":    {kinds.EverythingMapping(), kinds.IndexedMapping()},
		"nested":   {nested.TreeMapping()},
		"foreign":  {foreign.CounterMapping()},
		"readonly": {readonly.ShelfMapping()},
		"saga":     {saga.StockMapping()},
		"relation": {
			relation.CompanyMapping(), storage.UniqueMapping("firm_name"), storage.UniqueMapping("firm_tax_number"),
			relation.EmployeeMapping(), relation.SubsidiaryMapping(),
		},
		"renamed": {renamedpb.UserMapping(), renamedpb.ThingMapping()},
	}
}

func TestDefinitionsAndMappingsAreValid(t *testing.T) {
	tables := map[string]storage.Mapping{}
	for _, list := range mappings() {
		for _, m := range list {
			if err := m.Validate(); err != nil {
				t.Error(err)
			}
			tables[m.Concern] = m
		}
	}
	for _, d := range definitions() {
		if err := d.Validate(); err != nil {
			t.Error(err)
		}
		m, ok := tables[d.Name]
		if !ok {
			t.Errorf("Concern %s has no mapping", d.Name)
			continue
		}
		delete(tables, d.Name)
		if a, b := d.New().ProtoReflect().Descriptor(), m.New().ProtoReflect().Descriptor(); a != b {
			t.Errorf("Concern %s is made of %s, and its rows of %s", d.Name, a.FullName(), b.FullName())
		}
	}
	if len(tables) > 0 {
		t.Errorf("mappings without Concern: %v", tables)
	}
}

// The generated schema is the one that the runtime makes of the mapping.
func TestSchemaIsThatOfTheMapping(t *testing.T) {
	for name, list := range mappings() {
		raw, err := os.ReadFile(filepath.Join(golden, name, name+".rkcy.sql"))
		if err != nil {
			t.Fatal(err)
		}
		var have, want string
		for line := range strings.Lines(string(raw)) {
			if line != "\n" && !strings.HasPrefix(line, "--") {
				have += line
			}
		}
		for _, m := range list {
			want += postgres.Schema(m)
		}
		if have != want {
			t.Errorf("%s: the generated schema is\n%s\nthat of the mappings\n%s", name, have, want)
		}
	}
}

func TestSteps(t *testing.T) {
	wallet := &plain.Wallet{WalletId: "w1", Owner: "ann"}
	amount := &plain.Amount{Cents: 5}
	question := &readonly.Question{Text: "x"}
	order := &saga.Order{Pieces: 2}
	const (
		write = rkcyv1.Access_ACCESS_WRITE
		read  = rkcyv1.Access_ACCESS_READ
	)
	for name, c := range map[string]struct {
		got  txn.Step
		want txn.Step
	}{
		"create":     {plain.WalletCreate(wallet).Step, txn.Step{Concern: "wallet", Key: "w1", Command: "create", Access: write, Payload: wallet, Compensation: "delete"}},
		"read":       {plain.WalletRead("w2").Step, txn.Step{Concern: "wallet", Key: "w2", Command: "read", Access: read, Payload: &rkcyv1.Empty{}}},
		"update":     {plain.WalletUpdate(wallet, "owner").Step, txn.Step{Concern: "wallet", Key: "w1", Command: "update", Access: write, Payload: txn.UpdatePayload(wallet, "owner")}},
		"delete":     {plain.WalletDelete("w3").Step, txn.Step{Concern: "wallet", Key: "w3", Command: "delete", Access: write, Payload: &rkcyv1.Empty{}, Compensation: "create", CompensateWithResult: true}},
		"own":        {plain.WalletDeposit("w4", amount).Step, txn.Step{Concern: "wallet", Key: "w4", Command: "Deposit", Access: write, Payload: amount}},
		"rpc name":   {plain.WalletTakeOut("w5", amount).Step, txn.Step{Concern: "wallet", Key: "w5", Command: "take_out", Access: write, Payload: amount}},
		"read-only":  {readonly.ShelfHas("s", question).Step, txn.Step{Concern: "shelf", Key: "s", Command: "Has", Access: read, Payload: question}},
		"not so":     {readonly.ShelfPut("s", question).Step, txn.Step{Concern: "shelf", Key: "s", Command: "Put", Access: write, Payload: question}},
		"undone":     {saga.StockTake("s", order).Step, txn.Step{Concern: "stock", Key: "s", Command: "Take", Access: write, Payload: order, Compensation: "Return"}},
		"by result":  {saga.StockReserve("s", order).Step, txn.Step{Concern: "stock", Key: "s", Command: "Reserve", Access: write, Payload: order, Compensation: "Cancel", CompensateWithResult: true}},
		"not undone": {saga.StockCount("s", order).Step, txn.Step{Concern: "stock", Key: "s", Command: "Count", Access: write, Payload: order, NoCompensation: true}},
		"renamed":    {renamedpb.ThingRead("t").Step, txn.Step{Concern: "object", Key: "t", Command: "read", Access: read, Payload: &rkcyv1.Empty{}}},
	} {
		if !proto.Equal(c.got.Payload, c.want.Payload) {
			t.Errorf("%s: payload %v, want %v", name, c.got.Payload, c.want.Payload)
		}
		c.got.Payload, c.want.Payload = nil, nil
		if c.got != c.want {
			t.Errorf("%s: step %+v, want %+v", name, c.got, c.want)
		}
	}
	// The compiler checks the types of results.
	_ = []txn.TypedStep[*payload.Out]{foreign.CounterAdd("c", &payload.In{})}
	_ = []txn.TypedStep[*wrapperspb.Int64Value]{foreign.CounterReset("c", &emptypb.Empty{})}
}

func TestDefinitionCallsTheHandler(t *testing.T) {
	h := &wallets{}
	d := plain.NewWallet(h)
	ctx := concern.NewContext(txn.ID{}, "wallet", "w1", time.Time{})
	wallet := d.New().(*plain.Wallet)
	wallet.WalletId, wallet.Owner = "w1", "ann"
	if key := d.KeyOf(wallet); key != "w1" {
		t.Errorf("KeyOf: %q", key)
	}
	var names []string
	for _, c := range d.Commands {
		names = append(names, fmt.Sprintf("%s %T %T %v", c.Name, c.NewPayload(), c.NewResult(), c.ReadOnly))
	}
	if got, want := strings.Join(names, ", "),
		"Deposit *plain.Amount *plain.Wallet false, take_out *plain.Amount *plain.Amount false, Close *plain.Amount *plain.Wallet false"; got != want {
		t.Errorf("commands %s\nwant %s", got, want)
	}
	if result, err := d.Commands[0].Run(ctx, wallet, &plain.Amount{Cents: 7}); err != nil || result != proto.Message(wallet) || wallet.GetCents() != 7 {
		t.Errorf("Deposit: %v, %v", result, err)
	}
	if _, err := d.Commands[1].Run(ctx, wallet, &plain.Amount{Cents: 8}); txn.CodeOf(err) != txn.CodeFailedPrecondition {
		t.Errorf("take_out: %v", err)
	}
	if err := d.ValidateCreate(ctx, wallet); err != nil {
		t.Error(err)
	}
	if err := d.ValidateUpdate(ctx, wallet, &plain.Wallet{Owner: "bob"}); err != nil {
		t.Error(err)
	}
	if got := strings.Join(h.rules, ", "); got != "create w1 ann, update ann bob" {
		t.Errorf("rules: %s", got)
	}
	if err := d.ValidateDelete(ctx, wallet); err == nil || err.Error() != "delete ann" {
		t.Errorf("ValidateDelete: %v", err)
	}
	for _, c := range readonly.NewShelf(shelves{}).Commands {
		if c.ReadOnly != (c.Name != "Put") {
			t.Errorf("%s: ReadOnly is %v", c.Name, c.ReadOnly)
		}
	}
	without := readonly.NewShelf(shelves{})
	if without.ValidateCreate != nil || without.ValidateUpdate != nil || without.ValidateDelete != nil {
		t.Error("a handler without rules got some")
	}
}

// wrongRule has a rule that is not the one of a Tree.
type wrongRule struct{}

func (wrongRule) ValidateDelete(*nested.Tree) error { return nil }

func TestConstructorRefusesAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		call func()
		want string
	}{
		"nil handler": {func() { plain.NewWallet(nil) }, "NewWallet: the handler is nil"},
		"wrong rule":  {func() { nested.NewTree(wrongRule{}) }, "ValidateDelete"},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.Contains(p, c.want) {
					t.Errorf("panic %q, want one with %q", p, c.want)
				}
			}()
			c.call()
		})
	}
}

func TestMappingRoundTrip(t *testing.T) {
	m := plain.WalletMapping()
	row, err := m.Encode(&plain.Wallet{WalletId: "w1", Owner: "ann", Cents: 5, Note: "not stored"})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(row); got != "[ann w1 5]" {
		t.Errorf("row %s", got)
	}
	back, err := m.Decode(row)
	if want := (&plain.Wallet{WalletId: "w1", Owner: "ann", Cents: 5}); err != nil || !proto.Equal(back, want) {
		t.Errorf("decoded %v, %v; want %v", back, err, want)
	}
}
