package edge_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

func codeOf(err error) codes.Code { return status.Code(err) }

// playerOfSize makes a request that is n bytes long when serialized.
func playerOfSize(t *testing.T, n int) *rpgv1.CreatePlayerRequest {
	t.Helper()
	for _, active := range []bool{false, true} { // some sizes need the odd bytes
		for length := n; length > n-20; length-- {
			in := &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Username: strings.Repeat("x", length), Active: active}}
			if proto.Size(in) == n {
				return in
			}
		}
	}
	t.Fatalf("no message of %d bytes", n)
	return nil
}

func TestSizeLimit(t *testing.T) {
	for _, limit := range []int{4096, 1 << 20} {
		cfg := edge.Config{MaxRequestBytes: limit}
		if limit == 1<<20 {
			cfg.MaxRequestBytes = 0 // the default
		}
		s := start(t, cfg, &fake{})
		client := s.client()
		for _, n := range []int{limit - 1, limit, limit + 1, 2 * limit, 16 * limit} {
			_, err := client.CreatePlayer(t.Context(), playerOfSize(t, n))
			if fits := n <= limit; fits != (err == nil) || !fits && codeOf(err) != codes.ResourceExhausted {
				t.Errorf("gRPC, limit %d, %d bytes: %v", limit, n, err)
			}
			body := `{"username":"` + strings.Repeat("x", n-len(`{"username":""}`)) + `"}`
			for name, reader := range map[string]io.Reader{"length told": strings.NewReader(body), "chunked": io.MultiReader(strings.NewReader(body))} {
				a, err := s.try(http.MethodPost, "/v1/players", reader)
				if err != nil {
					t.Errorf("HTTP, limit %d, %d bytes, %s: %v", limit, n, name, err)
					continue
				}
				if fits := n <= limit; fits != (a.Code == 200) ||
					!fits && (a.Code != 413 || a.Status.Code != int(codes.ResourceExhausted) || a.reason() != edge.ReasonTooLarge || a.Header.Get("Retry-After") != "") {
					t.Errorf("HTTP, limit %d, %d bytes, %s: %d %.200s", limit, n, name, a.Code, a.Body)
				}
			}
		}
		// The connection pool is still usable.
		if a := s.do(http.MethodGet, "/v1/players/1", ""); a.Code != 200 {
			t.Errorf("afterwards: %d", a.Code)
		}
	}
}

// JSON within the limit may be longer in protobuf, and answers may be longer
// than gRPC's usual 4 MiB.
func TestSizesInside(t *testing.T) {
	f := &fake{read: func(context.Context, *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
		return &rpgv1.Player{Username: strings.Repeat("y", 6<<20)}, nil
	}}
	s := start(t, edge.Config{MaxRequestBytes: 100}, f)
	small := `{"items":[` + strings.TrimSuffix(strings.Repeat("{},", 28), ",") + `]}`
	if a := s.do(http.MethodPost, "/v1/characters", small); a.Code != 200 {
		t.Errorf("small JSON: %d %s", a.Code, a.Body)
	}
	if a := s.do(http.MethodGet, "/v1/players/1", ""); a.Code != 200 || len(a.Body) < 6<<20 {
		t.Errorf("big answer: %d, %d bytes", a.Code, len(a.Body))
	}
}

func TestInvalidUTF8OverGRPC(t *testing.T) {
	s := start(t, edge.Config{}, &fake{})
	conn := s.dial()
	call := func(raw []byte) error {
		return conn.Invoke(t.Context(), rpgv1.RpgService_CreatePlayer_FullMethodName, &raw, &emptypb.Empty{}, grpc.ForceCodec(rawCodec{}))
	}
	valid, err := proto.Marshal(&rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Username: "abc"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := call(valid); err != nil {
		t.Fatalf("valid bytes: %v", err)
	}
	err = call(bytes.ReplaceAll(valid, []byte("abc"), []byte("a\xffc")))
	if codeOf(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "rpg.v1.Player.username") || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("invalid UTF-8: %v", err)
	}
	if err := call(valid[:len(valid)-1]); codeOf(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "rpg.v1.CreatePlayerRequest") {
		t.Errorf("truncated: %v", err)
	}
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Name() string                  { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal([]byte, any) error   { return nil }

// blocker is a handler that tells when it was entered and waits to be let go.
type blocker struct {
	entered chan struct{}
	release chan struct{}
}

func newBlocker() *blocker {
	return &blocker{entered: make(chan struct{}, 100), release: make(chan struct{})}
}

func (b *blocker) read(ctx context.Context, in *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
	b.entered <- struct{}{}
	select {
	case <-b.release:
		return &rpgv1.Player{Id: in.GetId()}, nil
	case <-ctx.Done():
		return nil, txn.Errorf(txn.CodeDeadlineExceeded, "too late").With(txn.DetailTxnID, "the-id")
	}
}

func TestInFlightLimit(t *testing.T) {
	b := newBlocker()
	s := start(t, edge.Config{MaxInFlight: 2}, &fake{read: b.read})
	client := s.client()
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if _, err := client.ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{Id: "1"}); err != nil {
			t.Errorf("first: %v", err)
		}
	})
	waiting.Go(func() {
		if a, err := s.try(http.MethodGet, "/v1/players/2", nil); err != nil || a.Code != 200 {
			t.Errorf("second: %v %v", a, err)
		}
	})
	<-b.entered
	<-b.entered
	// Both protocols share the limit.
	a := s.do(http.MethodGet, "/v1/players/3", "")
	if a.Code != 429 || a.Status.Code != int(codes.ResourceExhausted) || a.Header.Get("Retry-After") != "1" || a.reason() != edge.ReasonOverloaded {
		t.Errorf("HTTP: %d %v %s", a.Code, a.Header, a.Body)
	}
	_, err := client.CreatePlayer(t.Context(), &rpgv1.CreatePlayerRequest{})
	var retry *errdetails.RetryInfo
	for _, d := range status.Convert(err).Details() {
		if i, ok := d.(*errdetails.RetryInfo); ok {
			retry = i
		}
	}
	if codeOf(err) != codes.ResourceExhausted || retry.GetRetryDelay().AsDuration() != time.Second {
		t.Errorf("gRPC: %v", err)
	}
	// Health is not a request.
	if a := s.do(http.MethodGet, "/readyz", ""); a.Code != 200 {
		t.Errorf("readyz: %d", a.Code)
	}
	close(b.release)
	waiting.Wait()
	// Every slot has come back.
	for range 10 {
		if a := s.do(http.MethodGet, "/v1/players/4", ""); a.Code != 200 {
			t.Fatalf("afterwards: %d %s", a.Code, a.Body)
		}
		if _, err := client.ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{}); err != nil {
			t.Fatalf("afterwards: %v", err)
		}
	}
}

// Without the limit, whatever comes is worked on at once.
func TestInFlightWithoutLimit(t *testing.T) {
	b := newBlocker()
	s := start(t, edge.Config{MaxInFlight: 1 << 20}, &fake{read: b.read})
	client := s.client()
	var waiting sync.WaitGroup
	const requests = 50
	for range requests {
		waiting.Go(func() {
			if _, err := client.ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{Id: "1"}); err != nil {
				t.Error(err)
			}
		})
	}
	for range requests {
		<-b.entered
	}
	close(b.release)
	waiting.Wait()
}

func TestDeadlines(t *testing.T) {
	left := make(chan time.Duration, 1)
	b := newBlocker()
	f := &fake{
		create: func(ctx context.Context, in *rpgv1.CreatePlayerRequest) (*rpgv1.Player, error) {
			at, ok := ctx.Deadline()
			if !ok {
				t.Error("no deadline")
			}
			left <- time.Until(at)
			return in.GetPlayer(), nil
		},
		read: b.read,
	}
	s := start(t, edge.Config{DefaultTimeout: 20 * time.Second}, f)
	client := s.client()
	within := func(what string, least, most time.Duration) {
		t.Helper()
		if d := <-left; d < least || d > most {
			t.Errorf("%s: %v left", what, d)
		}
	}
	create := func(ctx context.Context) {
		t.Helper()
		if _, err := client.CreatePlayer(ctx, &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{}}); err != nil {
			t.Fatal(err)
		}
	}
	create(t.Context())
	within("gRPC, default", 15*time.Second, 20*time.Second)
	// Metadata from outside does not set what only the gateway may set.
	create(metadata.AppendToOutgoingContext(t.Context(), "rkcy-edge-timeout", "1h"))
	within("gRPC, forged", 15*time.Second, 20*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	create(ctx)
	within("gRPC, own", 50*time.Minute, time.Hour)
	for header, most := range map[string]time.Duration{"": 20 * time.Second, "1H": time.Hour, "90M": 90 * time.Minute, "99999999H": 24 * time.Hour} {
		if a := s.do(http.MethodPost, "/v1/players", "{}", "Grpc-Timeout", header, "Grpc-Metadata-Rkcy-Edge-Timeout", "1ms"); a.Code != 200 {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
		within("HTTP "+header, most-most/4, most)
	}

	// A deadline that passes ends the handler, and its answer, which has the
	// transaction's id, still reaches the client.
	a := s.do(http.MethodGet, "/v1/players/1", "", "Grpc-Timeout", "100m")
	if a.Code != 504 || a.Status.Code != int(codes.DeadlineExceeded) || !strings.Contains(a.Body, "the-id") {
		t.Errorf("HTTP: %d %s", a.Code, a.Body)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := client.ReadPlayer(short, &rpgv1.ReadPlayerRequest{})
	if codeOf(err) != codes.DeadlineExceeded || len(status.Convert(err).Details()) == 0 {
		t.Errorf("gRPC: %v", err)
	}
}

// A client that goes away ends its request.
func TestClientGoes(t *testing.T) {
	ended := make(chan struct{}, 2)
	entered := make(chan struct{}, 2)
	f := &fake{read: func(ctx context.Context, _ *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
		entered <- struct{}{}
		<-ctx.Done()
		ended <- struct{}{}
		return nil, ctx.Err()
	}}
	s := start(t, edge.Config{}, f)
	ctx, cancel := context.WithCancel(t.Context())
	client := s.client()
	var calls sync.WaitGroup
	calls.Go(func() { _, _ = client.ReadPlayer(ctx, &rpgv1.ReadPlayerRequest{}) })
	calls.Go(func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.HTTPAddr()+"/v1/players/1", nil)
		if err != nil {
			t.Error(err)
			return
		}
		if res, err := s.web.Do(req); err == nil {
			_ = res.Body.Close()
		}
	})
	<-entered
	<-entered
	cancel()
	<-ended
	<-ended
	calls.Wait()
}

// A body that never arrives does not hold a slot for ever.
func TestSlowBody(t *testing.T) {
	s := start(t, edge.Config{DefaultTimeout: 200 * time.Millisecond}, &fake{})
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	a, err := s.try(http.MethodPost, "/v1/players", r)
	if err == nil && a.Code != 400 {
		t.Errorf("%d %s", a.Code, a.Body)
	}
}
