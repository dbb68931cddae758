package txn

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Limits of a transaction. They keep a mistake from becoming a record that
// every hop has to carry.
const (
	// MaxSteps is the largest number of steps in a transaction.
	MaxSteps = 256
	// MaxKeyBytes is the longest key of an instance, in bytes.
	MaxKeyBytes = 512
	// MaxRecordBytes is the largest record that the platform writes: a
	// transaction together with the results of the steps that have run.
	MaxRecordBytes = 4 << 20
)

// Builder collects the steps of one transaction. It is used once and by one
// goroutine.
type Builder struct {
	mode       rkcyv1.Mode
	steps      []Step
	inputs     map[int][]*rkcyv1.Input
	conditions map[int][]*rkcyv1.Condition
	results    []protoreflect.MessageDescriptor
	notBefore  time.Time
	faults     []error
	used       bool
}

// New returns an empty builder of an isolated transaction.
func New() *Builder {
	return &Builder{inputs: map[int][]*rkcyv1.Input{}, conditions: map[int][]*rkcyv1.Condition{}}
}

func (b *Builder) fault(format string, args ...any) {
	b.faults = append(b.faults, fmt.Errorf(format, args...))
}

// NotBefore delays the start: no step runs before at, which has a resolution of
// ms and lies before the deadline.
func (b *Builder) NotBefore(at time.Time) { b.notBefore = at }

// Handle names a step that was added, to bind its result or to read it.
type Handle[R proto.Message] struct {
	of        *Builder
	index     int
	newResult func() R
}

// Add appends a step.
func Add[R proto.Message](b *Builder, s TypedStep[R]) *Handle[R] {
	b.steps = append(b.steps, s.Step)
	b.results = append(b.results, s.newResult().ProtoReflect().Descriptor())
	return &Handle[R]{of: b, index: len(b.steps) - 1, newResult: s.newResult}
}

// AddStep appends a step whose result nobody decodes by type.
func (b *Builder) AddStep(s Step) {
	b.steps = append(b.steps, s)
	b.results = append(b.results, nil)
}

// Bind feeds the field fromPath of an earlier step's result into the field
// toPath of a later step's payload. Paths are dotted field names; an empty
// path is the whole message. Types are checked here; a fault is returned by
// Build.
func Bind[A, B proto.Message](b *Builder, from *Handle[A], fromPath string, to *Handle[B], toPath string) {
	if from.of != b || to.of != b {
		b.faults = append(b.faults, errors.New("bind: a step belongs to another builder"))
		return
	}
	if err := b.bind(from.index, fromPath, to.index, toPath); err != nil {
		b.faults = append(b.faults, fmt.Errorf("bind step %d to step %d: %w", from.index, to.index, err))
	}
}

func (b *Builder) bind(from int, fromPath string, to int, toPath string) error {
	if from >= to {
		return errors.New("a step can use results of earlier steps only")
	}
	if b.steps[to].Payload == nil {
		return fmt.Errorf("step %d has no payload", to)
	}
	src, dst := b.results[from], b.steps[to].Payload.ProtoReflect().Descriptor()
	sf, err := fieldAt(src, fromPath)
	if err != nil {
		return fmt.Errorf("result of step %d: %w", from, err)
	}
	df, err := fieldAt(dst, toPath)
	if err != nil {
		return fmt.Errorf("payload of step %d: %w", to, err)
	}
	if !sameType(src, sf, dst, df) {
		return fmt.Errorf("%s and %s differ in type", describe(src, sf), describe(dst, df))
	}
	b.inputs[to] = append(b.inputs[to], &rkcyv1.Input{
		FromStep: uint32(from), FromType: string(src.FullName()), FromPath: fromPath, ToPath: toPath, //nolint:gosec // < MaxSteps
	})
	return nil
}

// Len returns the number of steps.
func (b *Builder) Len() int { return len(b.steps) }

// Build validates the steps, plans the visits and returns the transaction as
// it will travel. Every fault is reported, as one Error with
// CodeInvalidArgument. now and deadline have a resolution of ms.
func (b *Builder) Build(id ID, now, deadline time.Time, replyTo *rkcyv1.ReplyTo) (*rkcyv1.Transaction, error) {
	faults := b.faults
	if b.used {
		faults = append(faults, errors.New("the builder was used before; a builder makes one transaction"))
	}
	b.used = true
	if len(b.steps) == 0 {
		faults = append(faults, errors.New("no step was added"))
	}
	if len(b.steps) > MaxSteps {
		return nil, Errorf(CodeInvalidArgument, "%d steps; a transaction has at most %d", len(b.steps), MaxSteps)
	}
	t := &rkcyv1.Transaction{
		Id:              id[:],
		SubmitTimeMs:    now.UnixMilli(),
		DeadlineMs:      deadline.UnixMilli(),
		EffectiveTimeMs: now.UnixMilli(),
		ReplyTo:         replyTo,
		Mode:            b.mode,
		Steps:           make([]*rkcyv1.Step, len(b.steps)),
	}
	if !b.notBefore.IsZero() {
		t.NotBeforeMs = b.notBefore.UnixMilli()
		if !b.notBefore.Before(deadline) {
			faults = append(faults, fmt.Errorf("the transaction may not start before %v, but its deadline is %v", b.notBefore, deadline))
		}
	}
	for i, s := range b.steps {
		if IsSaga(t) {
			if err := checkCompensation(s); err != nil {
				faults = append(faults, fmt.Errorf("step %d (%s %s): %w", i, s.Concern, s.Command, err))
			}
		}
		payload, err := encodePayload(s)
		if err != nil {
			faults = append(faults, fmt.Errorf("step %d (%s %s): %w", i, s.Concern, s.Command, err))
			continue
		}
		t.Steps[i] = &rkcyv1.Step{
			Concern: s.Concern, Key: s.Key, Command: s.Command, Payload: payload, Access: s.Access, Inputs: b.inputs[i],
			SkipWhen: b.conditions[i],
		}
		if IsSaga(t) && !s.NoCompensation {
			t.Steps[i].Compensation, t.Steps[i].CompensateWithResult = s.Compensation, s.CompensateWithResult
		}
	}
	if len(faults) > 0 {
		return nil, Errorf(CodeInvalidArgument, "%w", errors.Join(faults...))
	}
	t.Visits = Plan(t.GetSteps())
	return t, nil
}

func encodePayload(s Step) ([]byte, error) {
	if s.Concern == "" || s.Command == "" {
		return nil, errors.New("a step names a Concern and a command")
	}
	if !utf8.ValidString(s.Concern) || !utf8.ValidString(s.Command) {
		return nil, errors.New("the name of the Concern or of the command is not valid UTF-8")
	}
	if err := CheckKey(s.Key); err != nil {
		return nil, err
	}
	switch p := s.Payload.(type) {
	case nil:
		return nil, nil
	case unserializable:
		return nil, p.err
	}
	raw, err := proto.Marshal(s.Payload)
	if err != nil {
		return nil, err
	}
	return raw, CheckText(s.Payload, raw)
}

// CheckKey returns an error unless key can be the key of an instance: valid
// UTF-8 without NUL, 1 to MaxKeyBytes bytes.
func CheckKey(key string) error {
	switch {
	case key == "":
		return errors.New("the key is empty")
	case len(key) > MaxKeyBytes:
		return fmt.Errorf("the key has %d bytes; at most %d are allowed", len(key), MaxKeyBytes)
	case !utf8.ValidString(key):
		return errors.New("the key is not valid UTF-8")
	case strings.IndexByte(key, 0) >= 0:
		return errors.New("the key contains a NUL character")
	}
	return nil
}

// CheckText returns an error if a text field of m contains a NUL character,
// which PostgreSQL cannot store in text or jsonb. raw is m serialized: where it
// has no zero byte the fields need not be looked at.
func CheckText(m proto.Message, raw []byte) error {
	if bytes.IndexByte(raw, 0) < 0 {
		return nil
	}
	return checkText(m.ProtoReflect())
}

func checkText(m protoreflect.Message) (err error) {
	check := func(fd protoreflect.FieldDescriptor, v protoreflect.Value) {
		switch {
		case err != nil:
		case fd.Kind() == protoreflect.StringKind && strings.IndexByte(v.String(), 0) >= 0:
			err = fmt.Errorf("field %s contains a NUL character", fd.Name())
		case fd.Kind() == protoreflect.MessageKind:
			err = checkText(v.Message())
		}
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, mv protoreflect.Value) bool {
				check(fd.MapKey(), k.Value())
				check(fd.MapValue(), mv)
				return err == nil
			})
		case fd.IsList():
			for i := range v.List().Len() {
				check(fd, v.List().Get(i))
			}
		default:
			check(fd, v)
		}
		return err == nil
	})
	return err
}
