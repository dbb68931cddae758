package edge_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/edge/frame"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

const readPlayer = rpgv1.RpgService_ReadPlayer_FullMethodName

// post sends a batch in JSON, and reads the results.
func (r *running) post(b *edgev1.BatchRequest, headers ...string) (answer, []*edgev1.Answer) {
	r.t.Helper()
	body, err := frame.JSON.Marshal(b)
	if err != nil {
		r.t.Fatal(err)
	}
	a := r.do(http.MethodPost, edge.BatchPath, string(body), headers...)
	if a.Code != http.StatusOK {
		return a, nil
	}
	out, err := frame.JSON.Response([]byte(a.Body))
	if err != nil {
		r.t.Fatal(err)
	}
	return a, out.GetResults()
}

func reads(t testing.TB, codec frame.Codec, mode edgev1.BatchRequest_Mode, players ...string) *edgev1.BatchRequest {
	b := &edgev1.BatchRequest{Mode: mode}
	for i, p := range players {
		b.Items = append(b.Items, envelope(t, codec, strconv.Itoa(i), readPlayer, &rpgv1.ReadPlayerRequest{Id: p}))
	}
	return b
}

func numbers(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = "p" + strconv.Itoa(i)
	}
	return out
}

// A batch of N has N results, in the order of the items, whatever becomes of
// them.
func TestBatchHasAResultForEach(t *testing.T) {
	f := &fake{read: func(_ context.Context, in *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
		n, _ := strconv.Atoi(in.GetId()[1:])
		switch n % 4 {
		case 1:
			return nil, txn.Errorf(txn.CodeNotFound, "no %s", in.GetId())
		case 2:
			panic("on purpose")
		}
		return &rpgv1.Player{Id: in.GetId()}, nil
	}}
	s := start(t, edge.Config{}, f)
	for _, mode := range []edgev1.BatchRequest_Mode{edgev1.BatchRequest_PARALLEL, edgev1.BatchRequest_ORDERED} {
		for _, n := range []int{1, 2, 15, 16, 17, 100, 1000} {
			_, results := s.post(reads(t, frame.JSON, mode, numbers(n)...))
			if len(results) != n {
				t.Fatalf("%v: %d results of %d items", mode, len(results), n)
			}
			for i, r := range results {
				want := []codes.Code{codes.OK, codes.NotFound, codes.Internal, codes.OK}[i%4]
				p, err := playerOf(frame.JSON, r.GetBody())
				if r.GetRequestId() != strconv.Itoa(i) || codes.Code(r.GetError().GetCode()) != want || //nolint:gosec // small
					want == codes.OK && (err != nil || p.GetId() != "p"+strconv.Itoa(i)) {
					t.Fatalf("%v: result %d: %v", mode, i, r)
				}
			}
		}
	}
}

func TestBatchModes(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	var running, most atomic.Int64
	together := make(chan struct{})
	f := &fake{
		read: func(_ context.Context, in *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
			mu.Lock()
			seen = append(seen, in.GetId())
			mu.Unlock()
			if in.GetId() == "bad" {
				return nil, txn.Errorf(txn.CodeFailedPrecondition, "no")
			}
			return &rpgv1.Player{Id: in.GetId()}, nil
		},
		create: func(_ context.Context, in *rpgv1.CreatePlayerRequest) (*rpgv1.Player, error) {
			now := running.Add(1)
			for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
			}
			if now == 3 {
				close(together) // the items wait for each other, so three have to run at once
			}
			<-together
			running.Add(-1)
			return in.GetPlayer(), nil
		},
	}
	s := start(t, edge.Config{}, f)
	if _, results := s.post(reads(t, frame.JSON, edgev1.BatchRequest_ORDERED, "a", "bad", "c")); results[2].GetError() != nil || strings.Join(seen, " ") != "a bad c" {
		t.Errorf("ORDERED: %v %v", seen, results)
	}
	seen = nil
	_, results := s.post(reads(t, frame.JSON, edgev1.BatchRequest_ORDERED_STOP_ON_ERROR, "a", "bad", "c", "d"))
	if strings.Join(seen, " ") != "a bad" || len(results) != 4 || results[1].GetError().GetCode() != int32(codes.FailedPrecondition) {
		t.Errorf("ORDERED_STOP_ON_ERROR: %v %v", seen, results)
	}
	for _, r := range results[2:] {
		if info := (told{status: status.FromProto(r.GetError())}).info(); info.GetReason() != edge.ReasonNotRun || r.GetError().GetCode() != int32(codes.Aborted) {
			t.Errorf("after the failure: %v", r)
		}
	}
	b := &edgev1.BatchRequest{Mode: edgev1.BatchRequest_PARALLEL, MaxParallel: 3}
	for range 3 {
		b.Items = append(b.Items, envelope(t, frame.JSON, "", rpgv1.RpgService_CreatePlayer_FullMethodName, &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{}}))
	}
	if _, results := s.post(b); len(results) != 3 || results[0].GetError() != nil {
		t.Errorf("PARALLEL: %v", results)
	}
	most.Store(0)
	for range 40 {
		b.Items = append(b.Items, b.GetItems()[0])
	}
	if _, results := s.post(b); len(results) != 43 || most.Load() > 3 {
		t.Errorf("PARALLEL by 3: %d at once", most.Load())
	}
}

// Items take no more slots than there are, and are not refused for it.
func TestBatchOfABusyEdge(t *testing.T) {
	b := newBlocker()
	f := &fake{read: b.read}
	s := start(t, edge.Config{MaxInFlight: 2}, f)
	var other sync.WaitGroup
	other.Go(func() {
		if _, err := s.client().ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{}); err != nil {
			t.Error(err)
		}
	})
	<-b.entered
	other.Go(func() {
		_, results := s.post(reads(t, frame.JSON, edgev1.BatchRequest_PARALLEL, numbers(50)...))
		for _, r := range results {
			if r.GetError() != nil {
				t.Errorf("%v", r)
			}
		}
		if len(results) != 50 {
			t.Errorf("%d results", len(results))
		}
	})
	<-b.entered
	close(b.release)
	other.Wait()
}

// What cannot be a batch is refused as a whole, before an item runs.
func TestBatchesThatAreRefused(t *testing.T) {
	s := start(t, edge.Config{MaxBatchItems: 3, MaxRequestBytes: 4096}, &fake{read: func(context.Context, *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
		t.Error("an item ran")
		return nil, txn.Errorf(txn.CodeInternal, "no")
	}})
	item := `{"method":"rpg.v1.RpgService/ReadPlayer"}`
	for name, c := range map[string]struct {
		body string
		code int
		text string
	}{
		"too many items": {`{"mode":"ORDERED","items":[` + strings.Join([]string{item, item, item, item}, ",") + `]}`, 413, "4 items; the limit of this edge is 3"},
		"too many bytes": {`{"mode":"ORDERED","items":[{"body":"` + strings.Repeat("x", 5000) + `"}]}`, 413, "4096 bytes"},
		"no items":       {`{"mode":"ORDERED"}`, 400, "no items"},
		"no mode":        {`{"items":[` + item + `]}`, 400, "mode is missing"},
		"no such mode":   {`{"mode":"ATOMIC","items":[` + item + `]}`, 400, "mode"},
		"mode 7":         {`{"mode":7,"items":[` + item + `]}`, 400, "mode 7"},
		"parallel order": {`{"mode":"ORDERED","max_parallel":2,"items":[` + item + `]}`, 400, "max_parallel"},
		"nested":         {`{"mode":"ORDERED","items":[{"mode":"ORDERED","items":[` + item + `]}]}`, 400, "items[0]: unknown field"},
		"not a list":     {`{"mode":"ORDERED","items":{}}`, 400, "not a list"},
		"null item":      {`{"mode":"ORDERED","items":[null]}`, 400, "items[0]"},
		"timeout":        {`{"mode":"ORDERED","timeout":"0s","items":[` + item + `]}`, 400, "timeout"},
		"empty":          {``, 400, "JSON"},
	} {
		if a := s.do(http.MethodPost, edge.BatchPath, c.body); a.Code != c.code || !strings.Contains(a.Status.Message, c.text) {
			t.Errorf("%s: %d %s", name, a.Code, a.Body)
		}
	}
	// An idempotency key would mean that the batch is one thing.
	if a := s.do(http.MethodPost, edge.BatchPath, `{"mode":"ORDERED","items":[`+item+`]}`, "Idempotency-Key", "k"); a.Code != 400 {
		t.Errorf("key: %d %s", a.Code, a.Body)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), edge.IdempotencyKey, "k")
	if _, err := edgev1.NewBatchServiceClient(s.conn()).Batch(ctx, reads(t, frame.Proto, edgev1.BatchRequest_ORDERED, "p")); codeOf(err) != codes.InvalidArgument {
		t.Errorf("key on gRPC: %v", err)
	}
	if a := s.do(http.MethodGet, edge.BatchPath, ""); a.Code != 405 || a.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %d %s", a.Code, a.Body)
	}
}

// A batch that is named by an item is refused where the item is.
func TestNestedBatch(t *testing.T) {
	s := start(t, edge.Config{}, &fake{})
	inner := reads(t, frame.Proto, edgev1.BatchRequest_ORDERED, "p")
	out, err := edgev1.NewBatchServiceClient(s.conn()).Batch(t.Context(), &edgev1.BatchRequest{Mode: edgev1.BatchRequest_ORDERED, Items: []*edgev1.Envelope{
		envelope(t, frame.Proto, "1", edgev1.BatchService_Batch_FullMethodName, inner), inner.GetItems()[0],
	}})
	if err != nil || out.GetResults()[0].GetError().GetCode() != int32(codes.InvalidArgument) || out.GetResults()[1].GetError() != nil {
		t.Errorf("%v %v", out, err)
	}
}

// Items that have not begun when the batch has to end are told so.
func TestBatchDeadline(t *testing.T) {
	f := &fake{read: func(ctx context.Context, in *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
		if in.GetId() == "p1" {
			<-ctx.Done()
			return nil, txn.Errorf(txn.CodeDeadlineExceeded, "too late").With(txn.DetailTxnID, "t-1")
		}
		return &rpgv1.Player{Id: in.GetId()}, nil
	}}
	s := start(t, edge.Config{}, f)
	check := func(what string, results []*edgev1.Answer) {
		t.Helper()
		if len(results) != 4 || results[0].GetError() != nil || !strings.Contains(fmt.Sprint(results[1]), "t-1") {
			t.Fatalf("%s: %v", what, results)
		}
		for _, r := range results[2:] {
			if info := (told{status: status.FromProto(r.GetError())}).info(); info.GetReason() != edge.ReasonNotRun || r.GetError().GetCode() != int32(codes.DeadlineExceeded) {
				t.Errorf("%s: %v", what, r)
			}
		}
	}
	b := reads(t, frame.JSON, edgev1.BatchRequest_ORDERED, numbers(4)...)
	_, results := s.post(b, "Grpc-Timeout", "200m")
	check("header", results)
	b.Timeout = durationpb.New(200 * time.Millisecond)
	_, results = s.post(b)
	check("field", results)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	out, err := edgev1.NewBatchServiceClient(s.conn()).Batch(ctx, reads(t, frame.Proto, edgev1.BatchRequest_ORDERED, numbers(4)...))
	if err != nil {
		t.Fatal(err)
	}
	check("gRPC", out.GetResults())
}

// Answers are bounded, too: what has not begun by then does not.
func TestBatchAnswerBytes(t *testing.T) {
	f := &fake{read: func(context.Context, *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
		return &rpgv1.Player{Username: strings.Repeat("y", 1000)}, nil
	}}
	s := start(t, edge.Config{MaxBatchAnswerBytes: 2500}, f)
	_, results := s.post(reads(t, frame.JSON, edgev1.BatchRequest_ORDERED, numbers(5)...))
	var got []int32
	for _, r := range results {
		got = append(got, r.GetError().GetCode())
	}
	if fmt.Sprint(got) != "[0 0 0 8 8]" {
		t.Errorf("codes %v", got)
	}
}

// Ordered batches by the ten thousand: the items of each run in their order,
// and its results are its own, on many connections at once.
func TestOrderedBatches(t *testing.T) {
	connections, batches, items := 8, 1250, 3
	if testing.Short() {
		batches = 100
	}
	var mu sync.Mutex
	next := map[string]int{} // by batch, what item has to come
	f := &fake{read: func(_ context.Context, in *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
		batch, item, _ := strings.Cut(in.GetId(), "/")
		n, err := strconv.Atoi(item)
		mu.Lock()
		defer mu.Unlock()
		if err != nil || next[batch] != n {
			t.Errorf("batch %s: item %s, want %d", batch, item, next[batch])
		}
		next[batch]++
		return &rpgv1.Player{Id: in.GetId()}, nil
	}}
	s := start(t, edge.Config{}, f)
	var clients sync.WaitGroup
	for c := range connections {
		codec := frame.Codec(c % 2)
		ws := s.socket(codec)
		id := func(b int) string { return fmt.Sprintf("c%d-b%d", c, b) }
		clients.Go(func() {
			for b := range batches {
				var players []string
				for i := range items {
					players = append(players, id(b)+"/"+strconv.Itoa(i))
				}
				batch := reads(t, codec, edgev1.BatchRequest_ORDERED, players...)
				batch.RequestId = id(b)
				data, err := codec.Marshal(&edgev1.ClientFrame{Kind: &edgev1.ClientFrame_Batch{Batch: batch}})
				if err == nil {
					err = ws.Write(context.Background(), ws.kind(), data)
				}
				if err != nil {
					t.Errorf("send: %v", err)
					return
				}
			}
		})
		clients.Go(func() {
			seen := map[string]bool{}
			for range batches {
				got, err := ws.try()
				if err != nil {
					t.Errorf("receive: %v", err)
					return
				}
				batch := got.GetBatch()
				if len(batch.GetResults()) != items || seen[batch.GetRequestId()] {
					t.Errorf("%v", got)
					return
				}
				seen[batch.GetRequestId()] = true
				for i, r := range batch.GetResults() {
					p, err := playerOf(codec, r.GetBody())
					if err != nil || p.GetId() != batch.GetRequestId()+"/"+strconv.Itoa(i) {
						t.Errorf("batch %s: result %d: %v", batch.GetRequestId(), i, r)
						return
					}
				}
			}
		})
	}
	clients.Wait()
	if len(next) != connections*batches {
		t.Errorf("%d batches ran", len(next))
	}
}
