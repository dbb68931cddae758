package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Control acts on a platform. It is safe for concurrent use; every call opens
// connections of its own.
type Control struct {
	log       stream.Config
	router    *platform.Router
	types     inspect.Types
	inspector *inspect.Inspector
}

// New returns a control.
func New(log stream.Config, router *platform.Router, types inspect.Types) *Control {
	return &Control{log: log, router: router, types: types, inspector: inspect.New(log, router)}
}

// Who acts, and why.
type Who struct{ Author, Reason string }

// maxReason bounds the texts in the audit log.
const maxReason = 1000

func (w Who) check() error {
	switch {
	case strings.TrimSpace(w.Reason) == "":
		return txn.Errorf(txn.CodeInvalidArgument, "a reason is needed; it goes into the audit log")
	case len(w.Reason) > maxReason:
		return txn.Errorf(txn.CodeInvalidArgument, "the reason has %d bytes; at most %d are allowed", len(w.Reason), maxReason)
	}
	return nil
}

// Begin writes to the audit log what is about to be done, and returns the entry.
// Without it nothing must be done.
func (c *Control) Begin(ctx context.Context, who Who, action, subject string, scope *rkcyv1.PauseScope) (*rkcyv1.Operation, error) {
	if err := who.check(); err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	op := &rkcyv1.Operation{
		Id: id.String(), TimeMs: time.Now().UnixMilli(), Author: who.Author, Action: action, Subject: subject, Reason: who.Reason, Scope: scope,
	}
	return op, c.append(ctx, op)
}

// End writes to the audit log how an operation ended.
func (c *Control) End(ctx context.Context, op *rkcyv1.Operation, outcome string) error {
	return c.append(ctx, &rkcyv1.Operation{Id: op.GetId(), Outcome: outcome})
}

func (c *Control) append(ctx context.Context, op *rkcyv1.Operation) error {
	err := platform.Append(ctx, c.log, c.router.Names(), "operation", &rkcyv1.PlatformRecord{Kind: &rkcyv1.PlatformRecord_Operation{Operation: op}})
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// Entry is one of the audit log.
type Entry struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Author  string    `json:"author"`
	Action  string    `json:"action"`
	Subject string    `json:"subject"`
	Reason  string    `json:"reason,omitempty"`
	Outcome string    `json:"outcome,omitempty"`
}

// Audit returns what was done since a time, the newest first: operations, versions,
// fences. Errors have CodeUnavailable.
func (c *Control) Audit(ctx context.Context, since time.Time) ([]Entry, error) {
	s, err := platform.Read(ctx, c.log, c.router.Names())
	if err != nil {
		return nil, err
	}
	out := []Entry{}
	for _, op := range s.Operations {
		out = append(out, Entry{
			ID: op.GetId(), Time: at(op.GetTimeMs()), Author: op.GetAuthor(), Action: op.GetAction(), Subject: op.GetSubject(),
			Reason: op.GetReason(), Outcome: op.GetOutcome(),
		})
	}
	var before *rkcyv1.PlatformConfig
	for _, v := range s.Versions {
		e := Entry{ID: fmt.Sprintf("version-%d", v.GetVersion()), Time: at(v.GetTimeMs()), Author: v.GetAuthor(), Action: "update",
			Subject: fmt.Sprintf("version %d", v.GetVersion()), Reason: v.GetReason()}
		if v.GetRollbackTo() > 0 {
			e.Action, e.Subject = "rollback", fmt.Sprintf("version %d, back to %d", v.GetVersion(), v.GetRollbackTo())
		}
		if before != nil || v.GetVersion() == 1 {
			e.Outcome = strings.Join(platform.Changes(before, v.GetConfig()), "; ")
		}
		before = v.GetConfig()
		out = append(out, e)
	}
	for i, f := range s.Fences {
		out = append(out, Entry{ID: fmt.Sprintf("fence-%d-%d", f.GetTimeMs(), i), Time: at(f.GetTimeMs()), Author: f.GetAuthor(), Action: "fence",
			Subject: strings.Join(f.GetMembers(), ", "), Reason: fmt.Sprintf("version %d was not acknowledged", f.GetVersion())})
	}
	out = slices.DeleteFunc(out, func(e Entry) bool { return e.Time.Before(since) })
	slices.SortStableFunc(out, func(a, b Entry) int { return b.Time.Compare(a.Time) })
	return out, nil
}

func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// Pause stops the work on a Concern, a partition or a storage target, and returns
// what is paused then. It holds over restarts. Pausing twice is no error.
func (c *Control) Pause(ctx context.Context, who Who, scope *rkcyv1.PauseScope) ([]*rkcyv1.Operation, error) {
	return c.pause(ctx, who, platform.ActionPause, scope)
}

// Resume goes on with what was paused by the same scope.
func (c *Control) Resume(ctx context.Context, who Who, scope *rkcyv1.PauseScope) ([]*rkcyv1.Operation, error) {
	s, err := platform.Read(ctx, c.log, c.router.Names())
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(s.Pauses, func(op *rkcyv1.Operation) bool { return platform.ScopeText(op.GetScope()) == platform.ScopeText(scope) }) {
		var paused []string
		for _, op := range s.Pauses {
			paused = append(paused, platform.ScopeText(op.GetScope()))
		}
		if len(paused) == 0 {
			paused = []string{"nothing"}
		}
		return nil, txn.Errorf(txn.CodeFailedPrecondition, "%s is not paused; paused is %s", platform.ScopeText(scope), strings.Join(paused, ", "))
	}
	return c.pause(ctx, who, platform.ActionResume, scope)
}

func (c *Control) pause(ctx context.Context, who Who, action string, scope *rkcyv1.PauseScope) ([]*rkcyv1.Operation, error) {
	if err := c.checkScope(scope); err != nil {
		return nil, err
	}
	if _, err := c.Begin(ctx, who, action, platform.ScopeText(scope), scope); err != nil {
		return nil, err
	}
	s, err := platform.Read(ctx, c.log, c.router.Names())
	if err != nil {
		return nil, err
	}
	return s.Pauses, nil
}

func (c *Control) checkScope(s *rkcyv1.PauseScope) error {
	p := c.router.Config()
	if t := s.GetTarget(); t != "" {
		if !slices.Contains(p.GetStorageTargets(), t) {
			return txn.Errorf(txn.CodeInvalidArgument, "platform %s has no storage target %q%s; it has %s", p.GetName(), t,
				suggest.Hint(t, p.GetStorageTargets()), strings.Join(p.GetStorageTargets(), ", "))
		}
		return nil
	}
	k, err := c.concern(s.GetConcern())
	if err != nil {
		return err
	}
	if n := s.GetPartition(); n >= k.GetPartitions() || n < -1 {
		return txn.Errorf(txn.CodeInvalidArgument, "Concern %s has no partition %d; it has 0 to %d", k.GetName(), n, k.GetPartitions()-1)
	}
	return nil
}

func (c *Control) concern(name string) (*rkcyv1.ConcernConfig, error) {
	p := c.router.Config()
	var known []string
	for _, k := range p.GetConcerns() {
		if k.GetName() == name {
			return k, nil
		}
		known = append(known, k.GetName())
	}
	return nil, txn.Errorf(txn.CodeInvalidArgument, "platform %s has no Concern %q%s; it has %s", p.GetName(), name, suggest.Hint(name, known), strings.Join(known, ", ")).
		With(txn.DetailConcern, name)
}
