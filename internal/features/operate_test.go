package features

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	adminv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/admin/v1"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func (p *peer) operator(t *testing.T) adminv1.PlatformServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(p.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return adminv1.NewPlatformServiceClient(conn)
}

func onConcern(name string) *adminv1.Scope {
	return &adminv1.Scope{Scope: &adminv1.Scope_Concern{Concern: name}}
}

// eventually looks again until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for !holds() {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A Concern that is paused is not worked on, also after a restart; others are. When
// it goes on, nothing is lost.
func TestPauseOfAConcern(t *testing.T) {
	w := newWorld(t)
	p := w.start(node.AllRoles())
	w.cast(p)
	o := p.operator(t)
	ctx := t.Context()
	_, err := o.Pause(ctx, &adminv1.PauseRequest{Scope: onConcern("charakter"), Reason: "test"})
	wantCode(t, err, codes.InvalidArgument)
	if err == nil || !strings.Contains(err.Error(), `did you mean "character"`) {
		t.Errorf("an unknown Concern: %v", err)
	}
	_, err = o.Pause(ctx, &adminv1.PauseRequest{Scope: onConcern("character")})
	wantCode(t, err, codes.InvalidArgument)
	_, err = o.Pause(ctx, &adminv1.PauseRequest{Reason: "test"})
	wantCode(t, err, codes.InvalidArgument)
	_, err = o.Resume(ctx, &adminv1.PauseRequest{Scope: onConcern("character"), Reason: "test"})
	wantCode(t, err, codes.FailedPrecondition)

	paused, err := o.Pause(ctx, &adminv1.PauseRequest{Scope: onConcern("character"), Reason: "bad release"})
	if err != nil || len(paused.GetPauses()) != 1 || paused.GetPauses()[0].GetReason() != "bad release" {
		t.Fatalf("pause: %v %v", paused, err)
	}
	refused := func(p *peer) bool {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		_, err := p.FundCharacter(short, fund(1))
		return err != nil
	}
	eventually(t, "paused", func() bool { return refused(p) })
	if _, err := p.ReadPlayer(ctx, &rpgv1.ReadPlayerRequest{Id: "p"}); err != nil {
		t.Errorf("another Concern: %v", err)
	}
	p.stop()
	p = w.start(node.AllRoles())
	o = p.operator(t)
	if !refused(p) {
		t.Error("it is worked on after a restart")
	}
	s, err := o.GetStatus(ctx, &adminv1.GetStatusRequest{})
	if err != nil || len(s.GetPauses()) != 1 || s.GetPauses()[0].GetScope().GetConcern() != "character" {
		t.Fatalf("status: %v %v", s.GetPauses(), err)
	}
	for _, c := range s.GetConcerns() {
		for _, part := range c.GetPartitions() {
			if part.GetPaused() != (c.GetName() == "character") {
				t.Errorf("%s[%d]: paused is %v", c.GetName(), part.GetPartition(), part.GetPaused())
			}
		}
	}
	before := s.GetProblems()
	if len(before) > 0 {
		t.Errorf("problems: %q", before)
	}
	// What is accepted meanwhile waits.
	done := make(chan error, 1)
	long, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	go func() { _, err := p.FundCharacter(long, fund(1000)); done <- err }()
	if _, err := o.Resume(ctx, &adminv1.PauseRequest{Scope: onConcern("character"), Reason: "mended"}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("what waited: %v", err)
	}
	c, err := p.ReadCharacter(ctx, &rpgv1.ReadCharacterRequest{Id: "c1"})
	if err != nil || c.GetCurrency().GetGold() < 1100 {
		t.Errorf("%v %v", c, err)
	}
	audit, err := o.ListAudit(ctx, &adminv1.ListAuditRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, e := range audit.GetEntries() {
		actions = append(actions, e.GetAction()+" "+e.GetSubject()+": "+e.GetReason())
	}
	want := []string{"resume Concern character: mended", "pause Concern character: bad release", "update version 1: "}
	if !slices.Equal(actions, want) {
		t.Errorf("audit %q", actions)
	}
}

// A storage target that is paused gets nothing until it goes on.
func TestPauseOfATarget(t *testing.T) {
	w := newWorld(t)
	p := w.start(node.AllRoles())
	o := p.operator(t)
	scope := &adminv1.Scope{Scope: &adminv1.Scope_Target{Target: "main"}}
	if _, err := o.Pause(t.Context(), &adminv1.PauseRequest{Scope: scope, Reason: "maintenance"}); err != nil {
		t.Fatal(err)
	}
	view := func() *adminv1.InstanceView {
		v, err := o.ShowInstance(t.Context(), &adminv1.ShowInstanceRequest{Concern: "character", Key: "c1"})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	eventually(t, "the workers have left", func() bool {
		s, err := o.GetStatus(t.Context(), &adminv1.GetStatusRequest{})
		return err == nil && !slices.ContainsFunc(s.GetStorage(), func(s *adminv1.StorageStatus) bool { return len(s.GetMembers()) > 0 || !s.GetPaused() })
	})
	w.cast(p)
	if v := view(); v.GetSource() != "feed" || len(v.GetDatabases()) != 1 || !slices.Equal(v.GetDatabases()[0].GetDiffers(), []string{"there is no row"}) {
		t.Errorf("paused: %v", v)
	}
	if _, err := o.Resume(t.Context(), &adminv1.PauseRequest{Scope: scope, Reason: "done"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the row is there", func() bool { return view().GetDatabases()[0].GetVersion() == view().GetVersion() })
	if _, err := p.FundCharacter(t.Context(), fund(5)); err != nil {
		t.Fatal(err)
	}
	h, err := o.InstanceHistory(t.Context(), &adminv1.InstanceHistoryRequest{Concern: "character", Key: "c1"})
	if err != nil || len(h.GetChanges()) != 2 || h.GetIncomplete() || h.GetChanges()[0].GetVersion() != 2 || len(h.GetChanges()[0].GetChanges()) == 0 {
		t.Errorf("history: %v %v", h, err)
	}
}

// Every process acknowledges a version. An edge that ended without a word, and might
// be asleep, is fenced: what it submits from then on is refused.
func TestAcknowledgementsAndFence(t *testing.T) {
	w := newWorld(t)
	p := w.start(node.AllRoles())
	w.start(node.Roles{Storage: true})
	w.cast(p)
	ctx := t.Context()
	names := w.cfg.Names()
	const asleep = uint64(77)
	submit := func() *adminv1.TransactionStatus {
		s, err := platform.Read(ctx, w.stream, names)
		if err != nil {
			t.Fatal(err)
		}
		producer, err := stream.NewProducer(w.stream)
		if err != nil {
			t.Fatal(err)
		}
		defer producer.Close()
		client, err := txn.NewClient(txn.ClientConfig{Router: platform.NewRouter(s.Current.GetConfig()), Sender: producer, EdgeID: asleep})
		if err != nil {
			t.Fatal(err)
		}
		b := txn.New()
		txn.Add(b, rpgv1.CharacterFund("c1", &rpgv1.Funds{Currency: &rpgv1.Currency{Gold: 7}}))
		id, err := client.Submit(ctx, b)
		if err != nil {
			t.Fatal(err)
		}
		out, err := p.txns.WaitTransaction(ctx, &adminv1.WaitTransactionRequest{Id: id.String()})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if s := submit(); s.GetState() != adminv1.TransactionStatus_STATE_COMMITTED {
		t.Fatalf("before: %v", s)
	}
	err := platform.Append(ctx, w.stream, names, "member", &rkcyv1.PlatformRecord{Kind: &rkcyv1.PlatformRecord_Member{
		Member: &rkcyv1.Member{Id: "sleeper", Roles: []string{"edge"}, Edge: asleep},
	}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := w.cfg
	cfg.Concerns = slices.Clone(cfg.Concerns)
	cfg.Concerns[0].Retention.Error = platform.Duration(48 * time.Hour)
	u, err := platform.PrepareUpdate(ctx, w.stream, cfg)
	if err != nil {
		t.Fatal(err)
	}
	v, err := u.Apply(ctx, "test")
	if err != nil {
		t.Fatal(err)
	}
	report, err := platform.AwaitAcks(ctx, w.stream, names, platform.AckQuery{Version: v.GetVersion(), Timeout: 30 * time.Second, Author: "test"})
	if err != nil || len(report.Acknowledged) != 2 || len(report.Missing) != 0 {
		t.Fatalf("%+v %v", report, err)
	}
	if len(report.Fenced) != 1 || report.Fenced[0].GetId() != "sleeper" {
		t.Fatalf("fenced: %v", report.Fenced)
	}
	eventually(t, "refused", func() bool {
		s := submit()
		return s.GetState() == adminv1.TransactionStatus_STATE_REFUSED && s.GetError().GetCode() == txn.CodeUnavailable
	})
	// Others are not refused.
	if _, err := p.FundCharacter(ctx, fund(1)); err != nil {
		t.Error(err)
	}
}

// Transactions are cancelled in bulk by a filter; what does not match goes on. A dry
// run changes nothing, and what was done is in the audit log.
func TestBulkCancel(t *testing.T) {
	w := newWorld(t)
	p := w.start(node.AllRoles())
	w.cast(p)
	o, ctx := p.operator(t), t.Context()
	later := func(id string) string {
		b := txn.New()
		txn.Add(b, rpgv1.CharacterFund(id, &rpgv1.Funds{Currency: &rpgv1.Currency{Gold: 50}}))
		b.NotBefore(time.Now().Add(2 * time.Minute))
		wait, cancel := context.WithTimeout(ctx, 5*time.Minute)
		defer cancel()
		id1, err := w.client.Submit(wait, b)
		if err != nil {
			t.Fatal(err)
		}
		return id1.String()
	}
	first, second := later("c1"), later("c1")
	other := later("c2")
	filter := &adminv1.ListTransactionsRequest{Concern: "character", Key: "c1", States: []string{"timed"}}
	eventually(t, "they wait", func() bool {
		all, err := o.ListTransactions(ctx, &adminv1.ListTransactionsRequest{PageSize: 2})
		return err == nil && all.GetTotal() == 3 && len(all.GetTransactions()) == 2 && all.GetNextPageToken() != ""
	})
	ids := func(r *adminv1.BulkResponse) []string {
		var out []string
		for _, i := range r.GetItems() {
			out = append(out, i.GetTxnId())
		}
		slices.Sort(out)
		return out
	}
	want := []string{first, second}
	slices.Sort(want)
	dry, err := o.CancelTransactions(ctx, &adminv1.BulkRequest{Filter: filter, DryRun: true})
	if err != nil || !slices.Equal(ids(dry), want) || dry.GetAuditId() != "" || dry.GetItems()[0].GetState() != adminv1.TransactionStatus_STATE_DELAYED {
		t.Fatalf("dry run: %v %v", dry, err)
	}
	_, err = o.CancelTransactions(ctx, &adminv1.BulkRequest{Filter: filter})
	wantCode(t, err, codes.InvalidArgument)
	_, err = o.CancelTransactions(ctx, &adminv1.BulkRequest{Filter: &adminv1.ListTransactionsRequest{States: []string{"lost"}}, Reason: "x"})
	wantCode(t, err, codes.InvalidArgument)
	if s, err := p.txns.GetTransaction(ctx, &adminv1.GetTransactionRequest{Id: first}); err != nil || s.GetState() != adminv1.TransactionStatus_STATE_DELAYED {
		t.Errorf("after a dry run and refusals: %v %v", s, err)
	}
	done, err := o.CancelTransactions(ctx, &adminv1.BulkRequest{Filter: filter, Reason: "wrong amount"})
	if err != nil || !slices.Equal(ids(done), want) || done.GetAuditId() == "" {
		t.Fatalf("%v %v", done, err)
	}
	for _, i := range done.GetItems() {
		if i.GetState() != adminv1.TransactionStatus_STATE_REFUSED || i.GetError() != nil {
			t.Errorf("%v", i)
		}
	}
	if s, err := p.txns.GetTransaction(ctx, &adminv1.GetTransactionRequest{Id: other}); err != nil || s.GetState() != adminv1.TransactionStatus_STATE_DELAYED {
		t.Errorf("the other: %v %v", s, err)
	}
	w.wantGold(p, 100, 100)
	audit, err := o.ListAudit(ctx, &adminv1.ListAuditRequest{PageSize: 1})
	if err != nil || len(audit.GetEntries()) != 1 || audit.GetNextPageToken() == "" {
		t.Fatalf("%v %v", audit, err)
	}
	if e := audit.GetEntries()[0]; e.GetId() != done.GetAuditId() || e.GetOutcome() != "2 done, 0 failed" || e.GetReason() != "wrong amount" || e.GetAuthor() == "" {
		t.Errorf("%v", e)
	}

	// The live view, over HTTP, too.
	records, err := o.WatchRecords(ctx, &adminv1.WatchRecordsRequest{TxnId: first, Once: true, Details: true})
	if err != nil {
		t.Fatal(err)
	}
	var what []string
	for {
		r, err := records.Recv()
		if err != nil {
			break
		}
		what = append(what, r.GetWhat())
	}
	for _, w := range []string{"visit", "timed", "cancel", "refusal"} {
		if !slices.Contains(what, w) {
			t.Errorf("no %s among %q", w, what)
		}
	}
	for path, want := range map[string]int{
		"/v1/platform": 200, "/v1/platform/status": 200, "/v1/platform/transactions?states=timed": 200, "/v1/platform/transactions?states=lost": 400,
		"/v1/platform/errors": 200, "/v1/platform/errors/character/7": 404, "/v1/platform/versions:diff": 200, "/v1/platform?version=9": 404,
		"/v1/platform/instances/character/c1": 200, "/v1/platform/instances/character/nobody": 404, "/v1/platform/audit?page_size=-1": 400,
		"/v1/platform/instances/character/c1/history": 200,
	} {
		if code, body := p.ask(t, "GET", path); code != want {
			t.Errorf("%s: %d, want %d: %v", path, code, want, body)
		}
	}
}

// An edge takes transactions on a paused Concern until half of what may be in flight
// is taken; then it says why it does not. The other half is left for others, and what
// was taken in is done later.
func TestPausedConcernAtTheEdge(t *testing.T) {
	w := newWorld(t)
	w.cfg.Edge.MaxInFlight = 8
	p := w.start(node.AllRoles())
	w.cast(p)
	o, ctx := p.operator(t), t.Context()
	if _, err := o.Pause(ctx, &adminv1.PauseRequest{Scope: onConcern("character"), Reason: "bad release"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "paused", func() bool {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		_, err := p.ReadCharacter(short, &rpgv1.ReadCharacterRequest{Id: "c1"})
		return err != nil
	})
	const waiting = 4
	long, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	done := make(chan error, waiting)
	for range waiting {
		go func() {
			for {
				// One that was refused, since a probe had taken its place, tries again.
				if _, err := p.FundCharacter(long, fund(10)); status.Code(err) != codes.Unavailable {
					done <- err
					return
				}
			}
		}()
	}
	eventually(t, "refused with the reason", func() bool {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		_, err := p.ReadCharacter(short, &rpgv1.ReadCharacterRequest{Id: "c1"})
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "bad release") && strings.Contains(err.Error(), "nothing was submitted")
	})
	if _, err := p.ReadPlayer(ctx, &rpgv1.ReadPlayerRequest{Id: "p"}); err != nil {
		t.Errorf("another Concern: %v", err)
	}
	if _, err := o.Resume(ctx, &adminv1.PauseRequest{Scope: onConcern("character"), Reason: "mended"}); err != nil {
		t.Fatal(err)
	}
	for range waiting {
		if err := <-done; err != nil {
			t.Errorf("what was taken in: %v", err)
		}
	}
	w.wantGold(p, 140, 100)
}

// Quarantined records can be listed, read, and deleted before their time; records of
// other topics cannot.
func TestPurgeOfErrors(t *testing.T) {
	w := newWorld(t)
	p := w.start(node.AllRoles())
	w.cast(p)
	o, ctx := p.operator(t), t.Context()
	producer, err := stream.NewProducer(w.stream)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if err := producer.Send(ctx, w.cfg.Names().ProcessTopic("player"), 0, []byte("k"), []byte("\xff\xffrubbish")); err != nil {
		t.Fatal(err)
	}
	var list *adminv1.ListErrorsResponse
	eventually(t, "quarantined", func() bool {
		var err error
		list, err = o.ListErrors(ctx, &adminv1.ListErrorsRequest{Concern: "player"})
		return err == nil && len(list.GetErrors()) == 1
	})
	e := list.GetErrors()[0]
	if e.GetSourceTopic() != w.cfg.Names().ProcessTopic("player") || e.GetReason() == "" || e.GetConcern() != "player" {
		t.Errorf("%v", e)
	}
	one, err := o.GetError(ctx, &adminv1.GetErrorRequest{Concern: "player", Offset: e.GetOffset()})
	if err != nil || one.GetRecord() == nil {
		t.Errorf("%v %v", one, err)
	}
	_, err = o.Purge(ctx, &adminv1.PurgeRequest{Kinds: []string{"process"}, OlderThanMs: 1, Reason: "x"})
	wantCode(t, err, codes.FailedPrecondition)
	_, err = o.Purge(ctx, &adminv1.PurgeRequest{Kinds: []string{"state"}, Reason: "x"})
	wantCode(t, err, codes.InvalidArgument)
	_, err = o.Purge(ctx, &adminv1.PurgeRequest{Kinds: []string{"error"}, OlderThanMs: 1})
	wantCode(t, err, codes.InvalidArgument)
	dry, err := o.Purge(ctx, &adminv1.PurgeRequest{Kinds: []string{"error"}, OlderThanMs: 1, DryRun: true})
	if err != nil || len(dry.GetPartitions()) != 1 {
		t.Fatalf("dry run: %v %v", dry, err)
	}
	if _, err := o.GetError(ctx, &adminv1.GetErrorRequest{Concern: "player", Offset: e.GetOffset()}); err != nil {
		t.Errorf("after a dry run: %v", err)
	}
	if _, err := o.Purge(ctx, &adminv1.PurgeRequest{Kinds: []string{"error"}, OlderThanMs: 1, Reason: "looked at"}); err != nil {
		t.Fatal(err)
	}
	_, err = o.GetError(ctx, &adminv1.GetErrorRequest{Concern: "player", Offset: e.GetOffset()})
	wantCode(t, err, codes.NotFound)
	w.wantGold(p, 100, 100)
}
