package edge

import (
	"context"
	"mime"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/edge/frame"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// BatchPath is where batches are posted over HTTP.
const BatchPath = "/v1/batch"

// ReasonNotRun is the reason in the google.rpc.ErrorInfo of an item that was
// not begun. Nothing was done for it.
const ReasonNotRun = "NOT_RUN"

// defaultParallel is how many items of a PARALLEL batch run at once, unless it
// says.
const defaultParallel = 16

// runBatch runs the items of a batch and returns one answer for each. The
// caller holds one slot, which is that of the item that runs; items that run
// beside it need slots of their own, and wait for each other where there are
// none. So no item is refused because the edge is busy. A batch that does not
// say how long it may take has timeout; 0: as long as ctx.
func (s *Server) runBatch(ctx context.Context, o origin, b *edgev1.BatchRequest, timeout time.Duration) (*edgev1.BatchResponse, *status.Status) {
	parallel, st := s.checkBatch(b)
	if st != nil {
		return nil, st
	}
	if timeout, st = timeoutOf(b.GetTimeout(), timeout); st != nil {
		return nil, st
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	run := &batchRun{server: s, origin: o, items: b.GetItems(), stop: b.GetMode() == edgev1.BatchRequest_ORDERED_STOP_ON_ERROR}
	run.answers = make([]*edgev1.Answer, len(run.items))
	var helpers sync.WaitGroup
	for range parallel - 1 {
		if !s.limit.take() {
			break
		}
		helpers.Go(func() {
			defer s.limit.give()
			run.work(ctx)
		})
	}
	run.work(ctx)
	helpers.Wait()
	return &edgev1.BatchResponse{RequestId: b.GetRequestId(), Results: run.answers}, nil
}

// checkBatch returns how many items may run at once.
func (s *Server) checkBatch(b *edgev1.BatchRequest) (int, *status.Status) {
	if st := checkRequestID(b.GetRequestId()); st != nil {
		return 0, st
	}
	n := len(b.GetItems())
	switch limit := s.cfg.MaxBatchItems; {
	case n == 0:
		return 0, newStatus(codes.InvalidArgument, "", nil, "the batch has no items")
	case n > limit:
		return 0, newStatus(codes.ResourceExhausted, ReasonTooLarge, map[string]string{"limit_items": strconv.Itoa(limit)},
			"the batch has %d items; the limit of this edge is %d", n, limit)
	}
	most := uint64(b.GetMaxParallel())
	switch b.GetMode() {
	case edgev1.BatchRequest_PARALLEL:
		if most == 0 {
			most = defaultParallel
		}
		return int(min(most, uint64(n))), nil //nolint:gosec // at most n
	case edgev1.BatchRequest_ORDERED, edgev1.BatchRequest_ORDERED_STOP_ON_ERROR:
		if most > 1 {
			return 0, newStatus(codes.InvalidArgument, "", nil, "max_parallel is %d, but the items of an %s batch run one after the other", most, b.GetMode())
		}
		return 1, nil
	case edgev1.BatchRequest_MODE_UNSPECIFIED:
		return 0, newStatus(codes.InvalidArgument, "", nil, "mode is missing; it is PARALLEL, ORDERED or ORDERED_STOP_ON_ERROR")
	default:
		return 0, newStatus(codes.InvalidArgument, "", nil, "mode %d does not exist", b.GetMode())
	}
}

// batchRun is a batch that runs. Its items are taken in their order by one or
// more workers.
type batchRun struct {
	server  *Server
	origin  origin
	items   []*edgev1.Envelope
	answers []*edgev1.Answer
	stop    bool // after the first failure; one worker then

	next  atomic.Int64
	bytes atomic.Int64 // of the answers
}

func (r *batchRun) work(ctx context.Context) {
	var failure *status.Status
	for {
		i := int(r.next.Add(1)) - 1
		if i >= len(r.items) {
			return
		}
		item := r.items[i]
		st := r.hindrance(ctx)
		if st == nil {
			st = failure
		}
		if st != nil {
			r.answers[i] = failed(item.GetRequestId(), st)
			continue
		}
		answer := r.server.dispatch(ctx, r.origin, item)
		r.answers[i] = answer
		r.bytes.Add(int64(proto.Size(answer)))
		if r.stop && answer.GetError() != nil {
			failure = newStatus(codes.Aborted, ReasonNotRun, nil, "not begun, since item %d of the batch failed; nothing was done", i)
		}
	}
}

// hindrance says why no item is begun any more, if so.
func (r *batchRun) hindrance(ctx context.Context) *status.Status {
	switch {
	case ctx.Err() == nil:
	case context.Cause(ctx) == context.DeadlineExceeded: //nolint:errorlint // as it is set
		return newStatus(codes.DeadlineExceeded, ReasonNotRun, nil, "not begun before the deadline of the batch; nothing was done")
	default:
		return newStatus(codes.Canceled, ReasonNotRun, nil, "not begun before the caller stopped waiting; nothing was done")
	}
	if limit := r.server.cfg.MaxBatchAnswerBytes; r.bytes.Load() > int64(limit) {
		return newStatus(codes.ResourceExhausted, ReasonNotRun, nil,
			"not begun, since the answers to the batch are longer than %d bytes, the limit of this edge; nothing was done", limit)
	}
	return nil
}

// batchKeyStatus refuses an idempotency key of a batch, which would have to mean
// that the batch has an effect as a whole.
func batchKeyStatus() *status.Status {
	return newStatus(codes.InvalidArgument, "", nil, "a batch has no idempotency key; give each item its own, in idempotency_key")
}

// batchService takes batches over gRPC.
type batchService struct {
	edgev1.UnimplementedBatchServiceServer
	server *Server
}

// Batch implements edgev1.BatchServiceServer.
func (b batchService) Batch(ctx context.Context, in *edgev1.BatchRequest) (*edgev1.BatchResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if len(md.Get(IdempotencyKey)) > 0 {
		return nil, batchKeyStatus().Err()
	}
	o := origin{protocol: "grpc batch", codec: frame.Proto, header: metadata.MD{}}
	if auth := md.Get("authorization"); len(auth) > 0 {
		o.header.Set("authorization", auth...)
	}
	for _, key := range forwarded {
		if v := md.Get(key); len(v) > 0 {
			o.header.Set(key, v...)
		}
	}
	out, st := b.server.runBatch(ctx, o, in, 0)
	if st != nil {
		return nil, st.Err()
	}
	return out, nil
}

// serveBatch answers a batch that was posted, in the encoding that it came in.
func (s *Server) serveBatch(w http.ResponseWriter, r *http.Request, body []byte, timeout time.Duration) {
	if r.Method != http.MethodPost {
		s.notAllowed(w, r, []string{http.MethodPost})
		return
	}
	codec, contentType := frame.JSON, "application/json"
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && (t == "application/x-protobuf" || t == "application/protobuf") {
		codec, contentType = frame.Proto, t
	}
	if r.Header.Get("Idempotency-Key") != "" {
		s.fail(w, batchKeyStatus())
		return
	}
	batch, err := codec.Batch(body)
	if err != nil {
		s.fail(w, newStatus(codes.InvalidArgument, "", nil, "%s", err))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	out, st := s.runBatch(ctx, httpOrigin("http batch", codec, r), batch, 0)
	if st != nil {
		s.fail(w, st)
		return
	}
	answer, err := codec.Marshal(out)
	if err != nil {
		s.cfg.Logger.ErrorContext(ctx, "the answer to a batch cannot be encoded", "error", err)
		s.fail(w, newStatus(codes.Internal, "", nil, "internal error"))
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(answer) //nolint:gosec // JSON or protobuf, and typed as such
}
