package control

import (
	"context"
	"fmt"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	adminv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/admin/v1"
)

// Bulk is something that is done with every transaction that a filter names.
type Bulk struct {
	Filter inspect.WaitingFilter
	DryRun bool
	// Limit is how many at most. Default DefaultBulk.
	Limit int
}

// DefaultBulk and MaxBulk bound how many transactions one operation touches.
const (
	DefaultBulk = 1000
	MaxBulk     = 10_000
)

// itemTimeout is how long one transaction may take to end.
const itemTimeout = 10 * time.Second

// Item is what has become of a transaction; with a dry run, what it is.
type Item struct {
	TxnID string `json:"txn_id"`
	State string `json:"state"`
	Error string `json:"error,omitempty"`
}

// BulkResult is what a bulk operation did.
type BulkResult struct {
	Items []Item `json:"items"`
	// More transactions match than the limit.
	More bool `json:"more"`
	// AuditID is that of the entry, "" after a dry run.
	AuditID string `json:"audit_id,omitempty"`
}

// Cancel asks for every transaction that matches to be refused. Sagas that are being
// undone, or are stuck, are not among them: that cannot be cancelled.
func (c *Control) Cancel(ctx context.Context, who Who, b Bulk) (*BulkResult, error) {
	return c.bulk(ctx, who, "cancel", b, func(w *inspect.Waiting) bool { return w.State != inspect.StateStuck && w.Reason == "" }, (*inspect.Inspector).Cancel)
}

// Retry goes on with every stuck saga that matches.
func (c *Control) Retry(ctx context.Context, who Who, b Bulk) (*BulkResult, error) {
	b.Filter.States = []string{inspect.StateStuck}
	return c.bulk(ctx, who, "retry", b, func(*inspect.Waiting) bool { return true }, (*inspect.Inspector).Retry)
}

type act = func(*inspect.Inspector, context.Context, txn.ID) (*adminv1.TransactionStatus, error)

func (c *Control) bulk(ctx context.Context, who Who, action string, b Bulk, may func(*inspect.Waiting) bool, do act) (*BulkResult, error) {
	if b.Limit == 0 {
		b.Limit = DefaultBulk
	}
	if b.Limit < 0 || b.Limit > MaxBulk {
		return nil, txn.Errorf(txn.CodeInvalidArgument, "the limit is %d; allowed are 1 to %d", b.Limit, MaxBulk)
	}
	if name := b.Filter.Concern; name != "" {
		if _, err := c.concern(name); err != nil {
			return nil, err
		}
	}
	if !b.DryRun {
		if err := who.check(); err != nil {
			return nil, err
		}
	}
	found, err := c.inspector.Waiting(ctx, c.types, b.Filter)
	if err != nil {
		return nil, err
	}
	out := &BulkResult{Items: []Item{}}
	seen := map[string]bool{}
	for _, w := range found {
		if seen[w.TxnID] || !may(w) {
			continue
		}
		seen[w.TxnID] = true
		if out.More = len(out.Items) == b.Limit; out.More {
			break
		}
		out.Items = append(out.Items, Item{TxnID: w.TxnID, State: w.State})
	}
	if b.DryRun || len(out.Items) == 0 {
		return out, nil
	}
	op, err := c.Begin(ctx, who, action, fmt.Sprintf("%d transactions: %s", len(out.Items), filterText(b.Filter)), nil)
	if err != nil {
		return nil, err
	}
	out.AuditID = op.GetId()
	failed := 0
	for i := range out.Items {
		item := &out.Items[i]
		if item.State, err = c.one(ctx, item.TxnID, do); err != nil {
			failed++
			item.Error = err.Error()
		}
	}
	return out, c.End(ctx, op, fmt.Sprintf("%d done, %d failed", len(out.Items)-failed, failed))
}

func (c *Control) one(ctx context.Context, id string, do act) (string, error) {
	parsed, err := txn.ParseID(id)
	if err != nil {
		return "", err
	}
	// One that does not end, in a partition that is paused say, does not hold up
	// the others: it was asked, and is told as what it is then.
	ctx, cancel := context.WithTimeout(ctx, itemTimeout)
	defer cancel()
	status, err := do(c.inspector, ctx, parsed)
	if err != nil {
		return "", err
	}
	return inspect.StateText(status.GetState()), nil
}

func filterText(f inspect.WaitingFilter) string {
	text := ""
	add := func(name string, value any) { text += fmt.Sprintf(" %s=%v", name, value) }
	if len(f.States) > 0 {
		add("state", f.States)
	}
	if f.Concern != "" {
		add("concern", f.Concern)
	}
	if f.Key != "" {
		add("key", f.Key)
	}
	if !f.SubmittedBefore.IsZero() {
		add("submitted before", f.SubmittedBefore.UTC().Format("2006-01-02T15:04:05Z"))
	}
	if f.Reason != "" {
		add("error", f.Reason)
	}
	if text == "" {
		return "all"
	}
	return text[1:]
}
