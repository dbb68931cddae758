package edgecmd

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// readFlags are those of "read CONCERN", with which the instance may be read
// without the service's own rpc, and without a step through the log.
type readFlags struct {
	consistency string
	after       []string
}

var consistencies = map[string]edgev1.Consistency{
	"linearizable": edgev1.Consistency_CONSISTENCY_LINEARIZABLE,
	"session":      edgev1.Consistency_CONSISTENCY_SESSION,
	"eventual":     edgev1.Consistency_CONSISTENCY_EVENTUAL,
}

func (f *readFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.consistency, "consistency", "",
		"read the instance itself: linearizable, through the log; session, with what --after names; eventual, as of a moment ago")
	cmd.Flags().StringSliceVar(&f.after, "after", nil, "with --consistency session: id of a transaction that must be seen; may be repeated")
	_ = cmd.RegisterFlagCompletionFunc("consistency",
		cobra.FixedCompletions([]string{"linearizable", "session", "eventual"}, cobra.ShellCompDirectiveNoFileComp))
}

// wanted reports whether the flags ask for such a read.
func (f *readFlags) wanted() (bool, error) {
	_, known := consistencies[f.consistency]
	switch {
	case f.consistency == "" && len(f.after) > 0:
		return false, usagef("--after is for --consistency session")
	case f.consistency == "":
		return false, nil
	case !known:
		names := []string{"linearizable", "session", "eventual"}
		return false, usagef("--consistency: %q is not one of %s%s", f.consistency, strings.Join(names, ", "), suggest.Hint(f.consistency, names))
	case len(f.after) > 0 && f.consistency != "session":
		return false, usagef("--after is for --consistency session")
	}
	return true, nil
}

// read reads the instance that a request of the rpc Read<Concern> names.
func (f *readFlags) read(ctx context.Context, addr, object string, request proto.Message, opts *options, cfg Config) (proto.Message, error) {
	key := ""
	request.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Kind() == protoreflect.StringKind && !fd.IsList() && !fd.IsMap() {
			key = v.String()
		}
		return key == ""
	})
	if opts.timeout <= 0 {
		return nil, usagef("--timeout: %v is not allowed; it is more than 0", opts.timeout)
	}
	conn, err := dial(addr, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, opts.timeout)
	defer cancel()
	name := strings.ReplaceAll(object, "-", "_")
	out, err := edgev1.NewReadServiceClient(conn).Read(ctx, &edgev1.ReadRequest{
		Concern: name, Keys: []string{key}, Consistency: consistencies[f.consistency], After: f.after,
	})
	if err != nil {
		return nil, callError(err, addr, opts, cfg)
	}
	if len(out.GetAnswers()) != 1 {
		return nil, &ExitError{Code: ExitOther, Err: errAnswers(len(out.GetAnswers()))}
	}
	a := out.GetAnswers()[0]
	switch {
	case a.GetError() != nil:
		return nil, callError(edge.StatusOf(txn.FromProto(a.GetError())).Err(), addr, opts, cfg)
	case a.GetInstance() == nil:
		return nil, &ExitError{Code: ExitRefused, Err: errMissing(name, key)}
	}
	instance, err := a.GetInstance().UnmarshalNew()
	if err != nil {
		return nil, &ExitError{Code: ExitOther, Err: err}
	}
	return instance, nil
}

func errAnswers(n int) error { return fmt.Errorf("one instance was asked for, and %d answers came", n) }

func errMissing(concern, key string) error { return fmt.Errorf("%s %q does not exist", concern, key) }
