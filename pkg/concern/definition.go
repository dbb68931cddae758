package concern

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Context is what a handler may know besides its instance and payload. All of
// it is fixed when the transaction is submitted, so running a step again gives
// the same result.
type Context struct {
	txnID     txn.ID
	concern   string
	key       string
	effective time.Time
	related   []*rkcyv1.RelatedInstance
	config    *ConfigSet
}

// NewContext makes a Context, for tests of handlers.
func NewContext(id txn.ID, concern, key string, effective time.Time) Context {
	return Context{txnID: id, concern: concern, key: key, effective: effective}
}

// TxnID returns the id of the transaction.
func (c Context) TxnID() txn.ID { return c.txnID }

// Concern returns the name of the Concern.
func (c Context) Concern() string { return c.concern }

// Key returns the key of the instance.
func (c Context) Key() string { return c.key }

// EffectiveTime returns the time of submission, with a resolution of ms.
// Handlers use it instead of the clock.
func (c Context) EffectiveTime() time.Time { return c.effective }

// Related returns the children of the instance that are of a Concern, in order
// of key, as the parent knows them: their key and the fields that the relation
// copies, in a message of the child's type, which newChild makes.
func Related[M proto.Message](c Context, concern string, newChild func() M) ([]M, error) {
	var out []M
	for _, r := range c.related {
		if r.GetConcern() != concern {
			continue
		}
		m := newChild()
		if err := proto.Unmarshal(r.GetValue(), m); err != nil {
			return nil, txn.Errorf(txn.CodeDataLoss, "related %s %q cannot be decoded: %w", concern, r.GetKey(), err)
		}
		out = append(out, m)
	}
	return out, nil
}

// Definition describes a Concern. The generator writes one.
type Definition struct {
	// Name is used in topics and tables: [a-z][a-z0-9_]*, at most 64 bytes.
	Name string
	// New returns an empty instance.
	New func() proto.Message
	// KeyOf returns the key field of an instance.
	KeyOf func(proto.Message) string
	// Commands are the Concern's own commands. create, read, update and delete
	// are provided.
	Commands []Command
	// ValidateCreate, ValidateUpdate and ValidateDelete, where set, may refuse
	// the provided commands. ValidateCreate and ValidateUpdate may also change
	// the instance that is to be stored.
	ValidateCreate func(ctx Context, in proto.Message) error
	ValidateUpdate func(ctx Context, before, after proto.Message) error
	ValidateDelete func(ctx Context, before proto.Message) error
	// Relations and Unique say what follows from a change of an instance.
	Relations []Relation
	Unique    []Unique

	// taken, where set, is what create says of an instance that exists.
	taken func(ctx Context) error
}

// Command is one of a Concern's own commands.
type Command struct {
	// Name is the rpc name.
	Name string
	// ReadOnly commands do not change the instance; they take a shared hold.
	ReadOnly bool
	// NewPayload and NewResult return empty messages.
	NewPayload func() proto.Message
	NewResult  func() proto.Message
	// Run is the handler. instance is a private copy that it may change;
	// changes made by a ReadOnly command are dropped.
	Run func(ctx Context, instance, payload proto.Message) (result proto.Message, err error)
}

var validName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// Validate reports every fault of the definition.
func (d Definition) Validate() error {
	var faults []error
	if !validName.MatchString(d.Name) {
		faults = append(faults, fmt.Errorf("name %q does not match %s", d.Name, validName))
	}
	if d.New == nil || d.KeyOf == nil {
		faults = append(faults, errors.New("constructor or key function is missing"))
	}
	seen := map[string]bool{
		txn.CommandCreate: true, txn.CommandRead: true, txn.CommandUpdate: true, txn.CommandDelete: true,
	}
	for _, c := range d.Commands {
		if seen[c.Name] || c.Name == "" {
			faults = append(faults, fmt.Errorf("command %q is there twice, provided already, or has no name", c.Name))
		}
		seen[c.Name] = true
		if c.Run == nil || c.NewPayload == nil || c.NewResult == nil {
			faults = append(faults, fmt.Errorf("command %q has no handler or no constructors", c.Name))
		}
	}
	for _, r := range d.Relations {
		if r.Field == "" || !validName.MatchString(r.Parent) || r.ParentKey == nil || r.Copy == nil {
			faults = append(faults, fmt.Errorf("relation of field %q: the parent's name or a function is missing", r.Field))
		}
	}
	for _, u := range d.Unique {
		if u.Field == "" || !validName.MatchString(u.Index) || u.Value == nil {
			faults = append(faults, fmt.Errorf("unique field %q: the name of its index or a function is missing", u.Field))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("concern %q: %w", d.Name, err)
	}
	return nil
}
