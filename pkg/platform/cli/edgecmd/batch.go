package edgecmd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/edge/frame"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// A file of requests is sent in batches of at most so many items and, about,
// bytes: what edges take unless they are told otherwise.
const (
	batchItems = 500
	batchBytes = 512 << 10
)

// longestLine is how long a request in a file may be.
const longestLine = 16 << 20

func newBatch(cfg Config, opts *options) *cobra.Command {
	var file, mode string
	var parallel uint32
	cmd := &cobra.Command{
		Use:   "batch -f FILE --mode ordered|parallel|stop",
		Short: "Send the requests of a file",
		Long: fmt.Sprintf(`Send the requests of a file, one in JSON on each line:

  {"method": "CreatePlayer", "body": {"player": {"username": "brock01"}}, "request_id": "1", "idempotency_key": "k1"}

The method is one of %s, the body its request. Whatever else is given is
optional. One line of JSON comes back for each, in the order of the file: with a
body, or an error.

A batch is not a transaction: each request has an effect, or none, by itself.

The exit code is that of the first request that failed.`, cfg.Service.FullName()),
		Example: fmt.Sprintf("  %s %s batch -f requests.jsonl --mode ordered", cfg.App, cfg.Use),
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			b := &batch{cfg: cfg, opts: opts, parallel: parallel, out: cmd.OutOrStdout()}
			switch mode {
			case "ordered":
				b.mode = edgev1.BatchRequest_ORDERED
			case "parallel":
				b.mode = edgev1.BatchRequest_PARALLEL
			case "stop":
				b.mode = edgev1.BatchRequest_ORDERED_STOP_ON_ERROR
			default:
				return usagef("--mode: %q is not ordered, parallel or stop", mode)
			}
			switch {
			case len(args) > 0:
				return usagef("%s takes no argument, but got %q", cmd.CommandPath(), args[0])
			case file == "":
				return usagef("-f is missing: which file has the requests? - is the standard input")
			case parallel > 1 && b.mode != edgev1.BatchRequest_PARALLEL:
				return usagef("--max-parallel is for --mode parallel")
			case cmd.Flags().Changed("idempotency-key"):
				return usagef("--idempotency-key: each request of a batch has its own, as idempotency_key in the file")
			case opts.timeout <= 0:
				return usagef("--timeout: %v is not allowed; it is more than 0", opts.timeout)
			}
			if err := b.read(file, cmd.InOrStdin()); err != nil {
				return &ExitError{Code: ExitUsage, Err: err}
			}
			ctx := cmd.Context()
			if ctx == nil {
				ctx = context.Background()
			}
			return b.run(ctx)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "file with one request on each line; - is the standard input")
	cmd.Flags().StringVar(&mode, "mode", "ordered", "ordered: one after the other; parallel; stop: ordered, until one fails")
	cmd.Flags().Uint32Var(&parallel, "max-parallel", 0, "how many run at once, with --mode parallel (default: what the edge is set to)")
	return cmd
}

// batch is a file of requests on its way.
type batch struct {
	cfg      Config
	opts     *options
	mode     edgev1.BatchRequest_Mode
	parallel uint32
	out      io.Writer

	items   []*edgev1.Envelope
	methods []protoreflect.MethodDescriptor // of the items
	failed  int
	first   *status.Status // that failed
}

// read reads the whole file before anything is sent. The error has every fault.
func (b *batch) read(file string, stdin io.Reader) error {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	var faults []error
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longestLine)
	n := 0
	for lines.Scan() {
		n++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if err := b.add(line); err != nil {
			faults = append(faults, fmt.Errorf("line %d: %s", n, visible(err.Error())))
		}
	}
	if err := lines.Err(); err != nil {
		faults = append(faults, fmt.Errorf("line %d: %w", n+1, err))
	}
	if len(faults) == 0 && len(b.items) == 0 {
		faults = append(faults, errors.New("there are no requests in the file"))
	}
	return errors.Join(faults...)
}

// add makes an item of a line: its body in protobuf, the method by full name.
func (b *batch) add(line []byte) error {
	e, err := frame.JSON.Envelope(line)
	if err != nil {
		return err
	}
	service, name, full := strings.Cut(strings.TrimPrefix(e.GetMethod(), "/"), "/")
	if !full {
		service, name = string(b.cfg.Service.FullName()), service
	}
	m := b.cfg.Service.Methods().ByName(protoreflect.Name(name))
	if service != string(b.cfg.Service.FullName()) || m == nil || m.IsStreamingClient() || m.IsStreamingServer() {
		var names []string
		for i := range b.cfg.Service.Methods().Len() {
			names = append(names, string(b.cfg.Service.Methods().Get(i).Name()))
		}
		return fmt.Errorf("%q is not a method of %s%s", e.GetMethod(), b.cfg.Service.FullName(), suggest.Hint(name, names))
	}
	request := dynamicpb.NewMessage(m.Input())
	if len(e.GetBody()) > 0 {
		if err := protojson.Unmarshal(e.GetBody(), request); err != nil {
			// protobuf puts in a space that is not one, at random.
			return fmt.Errorf("body: %s", strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto: "))
		}
	}
	if e.Body, err = proto.Marshal(request); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	e.Method = service + "/" + name
	b.items, b.methods = append(b.items, e), append(b.methods, m)
	return nil
}

// run sends the items, a batch at a time, and shows each result.
func (b *batch) run(ctx context.Context) error {
	addr, err := address(b.cfg, b.opts)
	if err != nil {
		return err
	}
	conn, err := dial(addr, b.cfg)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	client := edgev1.NewBatchServiceClient(conn)
	for from := 0; from < len(b.items); {
		to := b.until(from)
		if b.first != nil && b.mode == edgev1.BatchRequest_ORDERED_STOP_ON_ERROR {
			if err := b.skip(from); err != nil {
				return &ExitError{Code: ExitOther, Err: err}
			}
			break
		}
		within, cancel := context.WithTimeout(ctx, b.opts.timeout)
		out, err := client.Batch(within, &edgev1.BatchRequest{Items: b.items[from:to], Mode: b.mode, MaxParallel: b.parallel})
		cancel()
		if err != nil {
			return callError(err, addr, b.opts, b.cfg)
		}
		if n := len(out.GetResults()); n != to-from {
			return &ExitError{Code: ExitOther, Err: fmt.Errorf("%d requests were sent, and %d results came", to-from, n)}
		}
		for i, a := range out.GetResults() {
			if err := b.show(from+i, a); err != nil {
				return &ExitError{Code: ExitOther, Err: err}
			}
		}
		from = to
	}
	if b.first != nil {
		return &ExitError{Code: exitCode(b.first), Err: fmt.Errorf("%d of %d requests failed", b.failed, len(b.items))}
	}
	return nil
}

// until returns where the batch ends that begins with an item.
func (b *batch) until(from int) int {
	to, size := from, 0
	for to < len(b.items) && to-from < batchItems {
		size += proto.Size(b.items[to])
		if size > batchBytes && to > from {
			break
		}
		to++
	}
	return to
}

// skip shows what becomes of the items that are not sent.
func (b *batch) skip(from int) error {
	st, err := status.New(codes.Aborted, "not sent, since a request before it failed; nothing was done").
		WithDetails(&errdetails.ErrorInfo{Reason: edge.ReasonNotRun, Domain: edge.ErrorDomain})
	if err != nil {
		return err
	}
	for i := from; i < len(b.items); i++ {
		if err := b.show(i, &edgev1.Answer{RequestId: b.items[i].GetRequestId(), Outcome: &edgev1.Answer_Error{Error: st.Proto()}}); err != nil {
			return err
		}
	}
	return nil
}

// show writes the result of an item as a line of JSON.
func (b *batch) show(i int, a *edgev1.Answer) error {
	if a.GetError() != nil {
		b.failed++
		if b.first == nil {
			b.first = status.FromProto(a.GetError())
		}
	} else {
		answer := dynamicpb.NewMessage(b.methods[i].Output())
		if err := proto.Unmarshal(a.GetBody(), answer); err != nil {
			return fmt.Errorf("result %d: %w", i+1, err)
		}
		body, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(answer)
		if err != nil {
			return fmt.Errorf("result %d: %w", i+1, err)
		}
		a.Outcome = &edgev1.Answer_Body{Body: body}
	}
	line, err := frame.JSON.Marshal(a)
	if err != nil {
		return fmt.Errorf("result %d: %w", i+1, err)
	}
	_, err = b.out.Write(append(escape(line), '\n'))
	return err
}
