package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/control"
	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	adminv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/admin/v1"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// platformService implements adminv1.PlatformServiceServer, once the node has
// started. What it knows, the packages inspect and control find out.
type platformService struct {
	adminv1.UnimplementedPlatformServiceServer
	started atomic.Pointer[operator]
}

// operator is what the service works with.
type operator struct {
	app       Application
	cfg       platform.Config
	log       stream.Config
	router    *platform.Router
	types     inspect.Types
	inspector *inspect.Inspector
	control   *control.Control
	targets   map[string]*postgres.Target
}

func (n *Node) startPlatform(router *platform.Router) {
	types := n.cfg.Application.Types()
	n.platform.started.Store(&operator{
		app: n.cfg.Application, cfg: n.cfg.Platform.WithDefaults(), log: n.cfg.log(), router: router, types: types,
		inspector: inspect.New(n.cfg.log(), router), control: control.New(n.cfg.log(), router, types), targets: n.targets,
	})
}

func (p *platformService) service() edge.Service {
	return edge.Service{
		Register: func(r grpc.ServiceRegistrar) { adminv1.RegisterPlatformServiceServer(r, p) },
		Gateway:  adminv1.RegisterPlatformServiceHandler,
		OpenAPI:  adminv1.PlatformOpenAPI,
	}
}

func (p *platformService) operator() (*operator, error) {
	if o := p.started.Load(); o != nil {
		return o, nil
	}
	return nil, errStarting()
}

func (o *operator) names() platform.Names { return o.router.Names() }

func (o *operator) state(ctx context.Context) (*platform.State, error) {
	s, err := platform.Read(ctx, o.log, o.names())
	if err == nil && s.Current == nil {
		err = txn.Errorf(txn.CodeNotFound, "nothing is published")
	}
	return s, err
}

// concern refuses a Concern that there is not.
func (o *operator) concern(name string) error {
	_, err := platform.ConcernOf(o.router.Config(), name)
	return err
}

// who names the caller for the audit log: by its connection, never by what a request
// says.
func who(ctx context.Context, reason string) control.Who {
	author := "edge"
	if p, ok := peer.FromContext(ctx); ok {
		author += " client " + p.Addr.String()
	}
	return control.Who{Author: author, Reason: reason}
}

// pageLimit is how much one answer has at most.
const pageLimit = 1000

// page cuts a page out of a list. The token is where it begins.
func page[T any](list []T, size int32, token string) ([]T, string, error) {
	if size == 0 {
		size = 100
	}
	if size < 0 || size > pageLimit {
		return nil, "", txn.Errorf(txn.CodeInvalidArgument, "page_size is %d; allowed are 1 to %d", size, pageLimit)
	}
	from := 0
	if token != "" {
		var err error
		if from, err = strconv.Atoi(token); err != nil || from < 0 {
			return nil, "", txn.Errorf(txn.CodeInvalidArgument, "page_token is not one that was given out")
		}
	}
	from = min(from, len(list))
	to := min(from+int(size), len(list))
	next := ""
	if to < len(list) {
		next = strconv.Itoa(to)
	}
	return list[from:to], next, nil
}

// value returns a tree as protobuf can have it.
func value(v any) *structpb.Value {
	if v == nil {
		return nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return structpb.NewStringValue(err.Error())
	}
	out := &structpb.Value{}
	if err := out.UnmarshalJSON(raw); err != nil {
		return structpb.NewStringValue(err.Error())
	}
	return out
}

func ms(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func msOf(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return t.UnixMilli()
}

// GetPlatform implements adminv1.PlatformServiceServer.
func (p *platformService) GetPlatform(ctx context.Context, in *adminv1.GetPlatformRequest) (*rkcyv1.PlatformVersion, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	s, err := o.state(ctx)
	if err != nil {
		return nil, err
	}
	if in.GetVersion() == 0 {
		return s.Current, nil
	}
	return versionOf(s, in.GetVersion())
}

func versionOf(s *platform.State, number uint64) (*rkcyv1.PlatformVersion, error) {
	if v := s.Version(number); v != nil {
		return v, nil
	}
	return nil, txn.Errorf(txn.CodeNotFound, "there is no version %d; there are %d to %d", number, s.Versions[0].GetVersion(), s.Current.GetVersion())
}

// ListVersions implements adminv1.PlatformServiceServer.
func (p *platformService) ListVersions(ctx context.Context, in *adminv1.ListVersionsRequest) (*adminv1.ListVersionsResponse, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	s, err := o.state(ctx)
	if err != nil {
		return nil, err
	}
	var all []*adminv1.VersionEntry
	var before *rkcyv1.PlatformConfig
	for _, v := range s.Versions {
		e := &adminv1.VersionEntry{Version: v}
		if before != nil || v.GetVersion() == 1 {
			e.Changes = platform.Changes(before, v.GetConfig())
		}
		before = v.GetConfig()
		all = append(all, e)
	}
	slices.Reverse(all)
	out := &adminv1.ListVersionsResponse{}
	out.Versions, out.NextPageToken, err = page(all, in.GetPageSize(), in.GetPageToken())
	return out, err
}

// DiffVersions implements adminv1.PlatformServiceServer.
func (p *platformService) DiffVersions(ctx context.Context, in *adminv1.DiffVersionsRequest) (*adminv1.DiffVersionsResponse, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	s, err := o.state(ctx)
	if err != nil {
		return nil, err
	}
	out := &adminv1.DiffVersionsResponse{From: in.GetFrom(), To: in.GetTo()}
	if out.To == 0 {
		out.To = s.Current.GetVersion()
	}
	if out.From == 0 {
		out.From = out.To - 1
	}
	to, err := versionOf(s, out.GetTo())
	if err != nil {
		return nil, err
	}
	var from *rkcyv1.PlatformVersion
	if out.From > 0 {
		if from, err = versionOf(s, out.GetFrom()); err != nil {
			return nil, err
		}
	}
	out.Changes = platform.Changes(from.GetConfig(), to.GetConfig())
	return out, nil
}

// UpdatePlatform implements adminv1.PlatformServiceServer.
func (p *platformService) UpdatePlatform(ctx context.Context, in *adminv1.UpdatePlatformRequest) (*adminv1.UpdatePlatformResponse, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	cfg, err := platform.Parse([]byte(in.GetFile()), "platform file")
	if err != nil {
		return nil, txn.Errorf(txn.CodeInvalidArgument, "%w", err)
	}
	if cfg.Name != o.cfg.Name || cfg.Environment != o.cfg.Environment {
		return nil, txn.Errorf(txn.CodeInvalidArgument, "this edge belongs to platform %s in %s, and the file is one of %s in %s", o.cfg.Name, o.cfg.Environment, cfg.Name, cfg.Environment)
	}
	cfg = o.app.Complete(cfg)
	if err := Fits(o.app, cfg.Proto()); err != nil {
		return nil, err
	}
	u, err := platform.PrepareUpdate(ctx, o.log, cfg)
	if err != nil {
		return nil, err
	}
	return o.update(ctx, u, in.GetExpectedVersion(), in.GetDryRun(), in.GetReason(), in.GetAckTimeoutMs())
}

// RollbackPlatform implements adminv1.PlatformServiceServer.
func (p *platformService) RollbackPlatform(ctx context.Context, in *adminv1.RollbackPlatformRequest) (*adminv1.UpdatePlatformResponse, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	u, err := platform.PrepareRollback(ctx, o.log, o.names(), in.GetVersion())
	if err != nil {
		return nil, err
	}
	return o.update(ctx, u, in.GetExpectedVersion(), in.GetDryRun(), in.GetReason(), in.GetAckTimeoutMs())
}

func (o *operator) update(ctx context.Context, u *platform.Update, expected uint64, dryRun bool, reason string, ackMs int64) (*adminv1.UpdatePlatformResponse, error) {
	if expected != 0 {
		if err := u.Expect(expected); err != nil {
			return nil, err
		}
	}
	out := &adminv1.UpdatePlatformResponse{Version: u.Current.GetVersion()}
	for _, a := range u.Actions {
		out.Actions = append(out.Actions, a.String())
	}
	if dryRun || len(u.Actions) == 0 {
		return out, nil
	}
	u.Reason = reason
	author := who(ctx, reason).Author
	v, err := u.Apply(ctx, author)
	if err != nil {
		return nil, err
	}
	out.Version = v.GetVersion()
	if ackMs <= 0 {
		return out, nil
	}
	report, err := platform.AwaitAcks(ctx, o.log, o.names(), platform.AckQuery{Version: v.GetVersion(), Timeout: time.Duration(ackMs) * time.Millisecond, Author: author})
	if err != nil {
		return nil, err
	}
	out.Missing, out.Fenced = members(report.Missing, nil, nil), members(report.Fenced, nil, nil)
	return out, nil
}

func members(list []*rkcyv1.Member, s *platform.State, alive map[string]bool) []*adminv1.Member {
	var out []*adminv1.Member
	for _, m := range list {
		a := &adminv1.Member{
			Id: m.GetId(), Roles: m.GetRoles(), Host: m.GetHost(), Client: m.GetClient(), WireVersion: m.GetWireVersion(), StartedMs: m.GetStartedMs(),
			Alive: alive[m.GetId()],
		}
		if s != nil {
			a.Version, _ = s.Acknowledged(m.GetId(), "")
		}
		out = append(out, a)
	}
	return out
}

// GetStatus implements adminv1.PlatformServiceServer.
func (p *platformService) GetStatus(ctx context.Context, _ *adminv1.GetStatusRequest) (*adminv1.PlatformStatus, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	s, err := o.state(ctx)
	if err != nil {
		return nil, err
	}
	seen, err := o.inspector.Platform(ctx, s.Current.GetConfig().GetStorageTargets())
	if err != nil {
		return nil, err
	}
	out := &adminv1.PlatformStatus{
		Platform: seen.Platform, Environment: seen.Environment, Version: s.Current.GetVersion(), PublishedMs: s.Current.GetTimeMs(),
		Author: s.Current.GetAuthor(), Brokers: int32(seen.Brokers), Problems: seen.Problems, Waiting: map[string]int64{}, //nolint:gosec // few
		Pauses: pauses(s.Pauses),
	}
	for _, m := range seen.Members {
		out.Workers = append(out.Workers, &adminv1.Worker{Client: m.Client, Host: m.Host, Partitions: int32(m.Partitions)}) //nolint:gosec // few
	}
	for _, c := range seen.Concerns {
		k := &adminv1.ConcernStatus{Name: c.Name, Generation: c.Generation}
		for _, q := range c.Partitions {
			k.Partitions = append(k.Partitions, &adminv1.PartitionStatus{
				Partition: q.Partition, Owner: q.Owner, Committed: q.Committed, Stable: q.Stable, End: q.End, Behind: q.Behind, Exact: q.Exact,
				Open: q.Open, Paused: s.Paused(c.Name, q.Partition) != nil,
			})
		}
		out.Concerns = append(out.Concerns, k)
	}
	for _, t := range seen.Storage {
		out.Storage = append(out.Storage, &adminv1.StorageStatus{
			Concern: t.Concern, Target: t.Target, Members: t.Members, Behind: t.Behind, Exact: t.Exact, Paused: s.TargetPaused(t.Target) != nil,
		})
	}
	waiting, err := o.inspector.Waiting(ctx, o.types, inspect.WaitingFilter{})
	if err != nil {
		return nil, err
	}
	for _, w := range waiting {
		if out.OldestOpen == nil && w.State != inspect.StateTimed {
			out.OldestOpen = waitingOf(w)
		}
		out.Waiting[w.State]++
	}
	admin, err := stream.NewAdmin(o.log)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	alive, err := platform.Alive(ctx, admin, o.names())
	if err != nil {
		return nil, err
	}
	out.Members = members(s.Members(), s, alive)
	return out, nil
}

func pauses(list []*rkcyv1.Operation) []*adminv1.PauseState {
	var out []*adminv1.PauseState
	for _, op := range list {
		scope := &adminv1.Scope{}
		switch from := op.GetScope(); {
		case from.GetTarget() != "":
			scope.Scope = &adminv1.Scope_Target{Target: from.GetTarget()}
		case from.GetPartition() >= 0:
			scope.Scope = &adminv1.Scope_Partition{Partition: &adminv1.PartitionScope{Concern: from.GetConcern(), Partition: from.GetPartition()}}
		default:
			scope.Scope = &adminv1.Scope_Concern{Concern: from.GetConcern()}
		}
		out = append(out, &adminv1.PauseState{Scope: scope, Author: op.GetAuthor(), SinceMs: op.GetTimeMs(), Reason: op.GetReason()})
	}
	return out
}

func waitingOf(w *inspect.Waiting) *adminv1.WaitingTransaction {
	return &adminv1.WaitingTransaction{
		TxnId: w.TxnID, State: w.State, Concern: w.Concern, Partition: w.Partition, Key: w.Key, Access: w.Access, SubmittedMs: ms(w.Submitted),
		DeadlineMs: msOf(w.Deadline), DueMs: msOf(w.Due), Attempt: w.Attempt, Commands: w.Commands, Reason: w.Reason, Pending: value(w.Pending),
	}
}

func waitingList(list []*inspect.Waiting) []*adminv1.WaitingTransaction {
	out := make([]*adminv1.WaitingTransaction, len(list))
	for i, w := range list {
		out[i] = waitingOf(w)
	}
	return out
}

func (o *operator) filter(in *adminv1.ListTransactionsRequest) (inspect.WaitingFilter, error) {
	f := inspect.WaitingFilter{States: in.GetStates(), Concern: in.GetConcern(), Key: in.GetKey(), Reason: in.GetError()}
	for _, s := range f.States {
		if !slices.Contains(inspect.WaitingStates(), s) {
			return f, txn.Errorf(txn.CodeInvalidArgument, "states: %q is not allowed; allowed are %s", s, strings.Join(inspect.WaitingStates(), ", "))
		}
	}
	if age := in.GetOlderThanMs(); age < 0 {
		return f, txn.Errorf(txn.CodeInvalidArgument, "older_than_ms is negative")
	} else if age > 0 {
		f.SubmittedBefore = time.Now().Add(-time.Duration(age) * time.Millisecond)
	}
	if f.Concern != "" {
		return f, o.concern(f.Concern)
	}
	return f, nil
}

// ListTransactions implements adminv1.PlatformServiceServer.
func (p *platformService) ListTransactions(ctx context.Context, in *adminv1.ListTransactionsRequest) (*adminv1.ListTransactionsResponse, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	f, err := o.filter(in)
	if err != nil {
		return nil, err
	}
	found, err := o.inspector.Waiting(ctx, o.types, f)
	if err != nil {
		return nil, err
	}
	out := &adminv1.ListTransactionsResponse{Total: int64(len(found))}
	cut, next, err := page(found, in.GetPageSize(), in.GetPageToken())
	out.Transactions, out.NextPageToken = waitingList(cut), next
	return out, err
}

func (o *operator) bulk(ctx context.Context, in *adminv1.BulkRequest, do func(context.Context, control.Who, control.Bulk) (*control.BulkResult, error)) (*adminv1.BulkResponse, error) {
	f, err := o.filter(in.GetFilter())
	if err != nil {
		return nil, err
	}
	done, err := do(ctx, who(ctx, in.GetReason()), control.Bulk{Filter: f, DryRun: in.GetDryRun(), Limit: int(in.GetLimit())})
	if err != nil {
		return nil, err
	}
	out := &adminv1.BulkResponse{More: done.More, AuditId: done.AuditID}
	for _, i := range done.Items {
		item := &adminv1.BulkItem{TxnId: i.TxnID, State: adminv1.TransactionStatus_State(adminv1.TransactionStatus_State_value["STATE_"+strings.ToUpper(i.State)])}
		if item.State == adminv1.TransactionStatus_STATE_UNSPECIFIED && i.State != "" {
			item.State = adminv1.TransactionStatus_STATE_RUNNING // holds, parked, restarts
		}
		if i.State == inspect.StateTimed {
			item.State = adminv1.TransactionStatus_STATE_DELAYED
		}
		if i.Error != "" {
			item.Error = txn.Errorf(txn.CodeInternal, "%s", i.Error).ToProto()
		}
		out.Items = append(out.Items, item)
	}
	return out, nil
}

// CancelTransactions implements adminv1.PlatformServiceServer.
func (p *platformService) CancelTransactions(ctx context.Context, in *adminv1.BulkRequest) (*adminv1.BulkResponse, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	return o.bulk(ctx, in, o.control.Cancel)
}

// RetryTransactions implements adminv1.PlatformServiceServer.
func (p *platformService) RetryTransactions(ctx context.Context, in *adminv1.BulkRequest) (*adminv1.BulkResponse, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	return o.bulk(ctx, in, o.control.Retry)
}

// Pause implements adminv1.PlatformServiceServer.
func (p *platformService) Pause(ctx context.Context, in *adminv1.PauseRequest) (*adminv1.PauseResponse, error) {
	return p.pause(ctx, in, (*control.Control).Pause)
}

// Resume implements adminv1.PlatformServiceServer.
func (p *platformService) Resume(ctx context.Context, in *adminv1.PauseRequest) (*adminv1.PauseResponse, error) {
	return p.pause(ctx, in, (*control.Control).Resume)
}

func (p *platformService) pause(ctx context.Context, in *adminv1.PauseRequest,
	do func(*control.Control, context.Context, control.Who, *rkcyv1.PauseScope) ([]*rkcyv1.Operation, error),
) (*adminv1.PauseResponse, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	scope := &rkcyv1.PauseScope{Partition: -1}
	switch s := in.GetScope().GetScope().(type) {
	case *adminv1.Scope_Concern:
		scope.Concern = s.Concern
	case *adminv1.Scope_Partition:
		scope.Concern, scope.Partition = s.Partition.GetConcern(), s.Partition.GetPartition()
	case *adminv1.Scope_Target:
		scope.Target = s.Target
	default:
		return nil, txn.Errorf(txn.CodeInvalidArgument, "scope is missing: a Concern, a partition or a storage target")
	}
	list, err := do(o.control, ctx, who(ctx, in.GetReason()), scope)
	if err != nil {
		return nil, err
	}
	return &adminv1.PauseResponse{Pauses: pauses(list)}, nil
}

// Purge implements adminv1.PlatformServiceServer.
func (p *platformService) Purge(ctx context.Context, in *adminv1.PurgeRequest) (*adminv1.PurgeResponse, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	done, err := o.control.Purge(ctx, who(ctx, in.GetReason()), control.Purge{
		Concern: in.GetConcern(), Kinds: in.GetKinds(), OlderThan: time.Duration(in.GetOlderThanMs()) * time.Millisecond, DryRun: in.GetDryRun(),
	})
	if err != nil {
		return nil, err
	}
	out := &adminv1.PurgeResponse{AuditId: done.AuditID}
	for _, d := range done.Partitions {
		out.Partitions = append(out.Partitions, &adminv1.Purged{Topic: d.Topic, Partition: d.Partition, From: d.From, To: d.To, Kept: d.Kept})
	}
	return out, nil
}

// ListAudit implements adminv1.PlatformServiceServer.
func (p *platformService) ListAudit(ctx context.Context, in *adminv1.ListAuditRequest) (*adminv1.ListAuditResponse, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	all, err := o.control.Audit(ctx, time.UnixMilli(in.GetSinceMs()))
	if err != nil {
		return nil, err
	}
	out := &adminv1.ListAuditResponse{}
	cut, next, err := page(all, in.GetPageSize(), in.GetPageToken())
	out.NextPageToken = next
	for _, e := range cut {
		out.Entries = append(out.Entries, &adminv1.AuditEntry{
			Id: e.ID, TimeMs: ms(e.Time), Author: e.Author, Action: e.Action, Subject: e.Subject, Reason: e.Reason, Outcome: e.Outcome,
		})
	}
	return out, err
}

// databases returns the targets that this node talks to; the others are said to be
// unknown here.
func (o *operator) databases() []inspect.Database {
	var out []inspect.Database
	primary, has := o.cfg.Primary()
	for _, t := range o.cfg.Storage.Targets {
		db := o.targets[t.Name]
		out = append(out, inspect.Database{Target: t.Name, Primary: has && t.Name == primary.Name, Load: func(ctx context.Context, concern, key string) (*rkcyv1.Instance, error) {
			if db == nil {
				return nil, errors.New("this edge has no connection to it")
			}
			found, err := db.Load(ctx, concern, []string{key})
			if err != nil {
				return nil, errors.New(postgres.Redact(err.Error()))
			}
			return found[key], nil
		}})
	}
	return out
}

// ShowInstance implements adminv1.PlatformServiceServer.
func (p *platformService) ShowInstance(ctx context.Context, in *adminv1.ShowInstanceRequest) (*adminv1.InstanceView, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(o.concern(in.GetConcern()), txn.CheckKey(in.GetKey())); err != nil {
		return nil, err
	}
	s, known, err := o.inspector.Instance(ctx, o.types, o.databases(), in.GetConcern(), in.GetKey())
	if err != nil {
		return nil, err
	}
	if s.Committed == nil && len(s.Holders)+len(s.Queue) == 0 && s.Offset < 0 {
		if !known {
			return nil, txn.Errorf(txn.CodeUnavailable, "the change feed has nothing of %s %q, and the primary database cannot be asked here", in.GetConcern(), in.GetKey())
		}
		return nil, txn.Errorf(txn.CodeNotFound, "%s %q does not exist", in.GetConcern(), in.GetKey())
	}
	out := &adminv1.InstanceView{
		Concern: s.Concern, Key: s.Key, Partition: s.Partition, Committed: value(s.Committed), Version: s.Version, TxnId: s.TxnID, Offset: s.Offset,
		Source: s.Source, Holders: waitingList(s.Holders), Queue: waitingList(s.Queue),
	}
	for _, d := range s.Databases {
		out.Databases = append(out.Databases, &adminv1.DatabaseRow{Target: d.Target, Row: value(d.Row), Version: d.Version, Differs: d.Differs, Error: d.Error})
	}
	return out, nil
}

// historyLimit is how many changes of an instance are looked at.
const historyLimit = 10_000

// InstanceHistory implements adminv1.PlatformServiceServer.
func (p *platformService) InstanceHistory(ctx context.Context, in *adminv1.InstanceHistoryRequest) (*adminv1.InstanceHistoryResponse, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(o.concern(in.GetConcern()), txn.CheckKey(in.GetKey())); err != nil {
		return nil, err
	}
	h, err := o.inspector.History(ctx, o.types, in.GetConcern(), in.GetKey(), historyLimit)
	if err != nil {
		return nil, err
	}
	out := &adminv1.InstanceHistoryResponse{Incomplete: h.Incomplete}
	cut, next, err := page(h.Changes, in.GetPageSize(), in.GetPageToken())
	out.NextPageToken = next
	for _, c := range cut {
		out.Changes = append(out.Changes, &adminv1.InstanceChange{
			Offset: c.Offset, TimeMs: ms(c.Time), TxnId: c.TxnID, Version: c.Version, Deleted: c.Deleted, Instance: value(c.Instance), Changes: c.Changes,
		})
	}
	return out, err
}

// ListErrors implements adminv1.PlatformServiceServer.
func (p *platformService) ListErrors(ctx context.Context, in *adminv1.ListErrorsRequest) (*adminv1.ListErrorsResponse, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	if in.GetConcern() != "" {
		if err := o.concern(in.GetConcern()); err != nil {
			return nil, err
		}
	}
	all := []*adminv1.QuarantinedRecord{}
	err = o.inspector.Watch(ctx, inspect.WatchConfig{
		Types: o.types, Since: time.UnixMilli(in.GetSinceMs()), Once: true,
		Filter: inspect.WatchFilter{Concern: in.GetConcern(), Kinds: []platform.Kind{platform.KindError}},
	}, func(e *inspect.Event) error {
		if q := quarantined(e); in.GetReason() == "" || strings.Contains(strings.ToLower(q.GetReason()), strings.ToLower(in.GetReason())) {
			q.Record = nil
			all = append(all, q)
		}
		return nil
	})
	if err = errors.Join(err, ctx.Err()); err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b *adminv1.QuarantinedRecord) int { return int(b.GetTimeMs() - a.GetTimeMs()) })
	out := &adminv1.ListErrorsResponse{}
	out.Errors, out.NextPageToken, err = page(all, in.GetPageSize(), in.GetPageToken())
	return out, err
}

// quarantined reads an event of an error topic.
func quarantined(e *inspect.Event) *adminv1.QuarantinedRecord {
	q := &adminv1.QuarantinedRecord{Concern: e.Concern, Offset: e.Offset, TimeMs: ms(e.Time), TxnId: e.TxnID, Key: e.Key, Reason: e.Text, Record: value(e.Record)}
	if m, ok := e.Record.(map[string]any); ok {
		q.SourceTopic, _ = m["topic"].(string)
		if n, ok := m["partition"].(int32); ok {
			q.SourcePartition = n
		}
		q.SourceOffset, _ = m["offset"].(int64)
		if reason, ok := m["reason"].(string); ok {
			q.Reason = reason
		}
		if fate, ok := m["fate"].(string); ok {
			q.Fate = strings.ToLower(strings.TrimPrefix(fate, "FATE_"))
		}
	}
	return q
}

// errFound ends a watch that has found what it looked for.
var errFound = errors.New("found")

// GetError implements adminv1.PlatformServiceServer.
func (p *platformService) GetError(ctx context.Context, in *adminv1.GetErrorRequest) (*adminv1.QuarantinedRecord, error) {
	o, err := p.operator()
	if err != nil {
		return nil, err
	}
	if err := o.concern(in.GetConcern()); err != nil {
		return nil, err
	}
	var found *adminv1.QuarantinedRecord
	err = o.inspector.Watch(ctx, inspect.WatchConfig{
		Types: o.types, Since: time.UnixMilli(0), Once: true, Filter: inspect.WatchFilter{Concern: in.GetConcern(), Kinds: []platform.Kind{platform.KindError}},
	}, func(e *inspect.Event) error {
		if e.Offset != in.GetOffset() {
			return nil
		}
		found = quarantined(e)
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return nil, err
	}
	if err := ctx.Err(); err != nil && found == nil {
		return nil, err
	}
	if found == nil {
		return nil, txn.Errorf(txn.CodeNotFound, "the error topic of %s has no record at offset %d", in.GetConcern(), in.GetOffset())
	}
	return found, nil
}

// WatchRecords implements adminv1.PlatformServiceServer.
func (p *platformService) WatchRecords(in *adminv1.WatchRecordsRequest, out grpc.ServerStreamingServer[adminv1.WatchedRecord]) error {
	o, err := p.operator()
	if err != nil {
		return err
	}
	cfg := inspect.WatchConfig{Types: o.types, Once: in.GetOnce(), Filter: inspect.WatchFilter{Concern: in.GetConcern(), Key: in.GetKey()}}
	if in.GetConcern() != "" {
		if err := o.concern(in.GetConcern()); err != nil {
			return err
		}
	}
	if since := in.GetSinceMs(); since > 0 {
		cfg.Since = time.UnixMilli(since)
	} else if in.GetOnce() && in.GetTxnId() == "" {
		return txn.Errorf(txn.CodeInvalidArgument, "once ends at what is there now, so since_ms has to say where to begin")
	}
	if in.GetTxnId() != "" {
		id, err := txn.ParseID(in.GetTxnId())
		if err != nil {
			return err
		}
		if cfg.Filter.TxnID = id.String(); in.GetSinceMs() == 0 {
			cfg.Since = id.Time().Add(-time.Minute)
		}
	}
	for _, k := range in.GetKinds() {
		if !slices.Contains([]string{"process", "state", "storage", "error", "response"}, k) {
			return txn.Errorf(txn.CodeInvalidArgument, "kinds: %q is not allowed; allowed are process, state, storage, error, response", k)
		}
		cfg.Filter.Kinds = append(cfg.Filter.Kinds, platform.Kind(k))
	}
	err = o.inspector.Watch(out.Context(), cfg, func(e *inspect.Event) error {
		r := &adminv1.WatchedRecord{
			TimeMs: ms(e.Time), Topic: e.Topic, Partition: e.Partition, Offset: e.Offset, Kind: string(e.Kind), Concern: e.Concern, What: e.What,
			TxnId: e.TxnID, Key: e.Key, Text: e.Text,
		}
		if in.GetDetails() {
			r.Record = value(e.Record)
		}
		return out.Send(r)
	})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	return nil
}
