package edge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	spb "google.golang.org/genproto/googleapis/rpc/status"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/edge/frame"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// ask is a request as a client means it, whatever it travels on.
type ask struct {
	method  string
	player  string        // of ReadPlayer
	body    []byte        // in protobuf, instead
	bodyFor string        // or in JSON, instead, where it travels as JSON
	key     string        // idempotency
	timeout time.Duration // 0: none
	auth    string
	request string // x-request-id
}

// told is what a client learns.
type told struct {
	status *status.Status // nil: success
	player *rpgv1.PlayerView
	txnID  string
}

func (a told) code() codes.Code { return a.status.Code() }

func (a told) info() *errdetails.ErrorInfo {
	for _, d := range a.status.Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok {
			return i
		}
	}
	return nil
}

func (a told) retry() bool {
	for _, d := range a.status.Details() {
		if _, ok := d.(*errdetails.RetryInfo); ok {
			return true
		}
	}
	return false
}

// way is a way into an edge. An error is one of the connection.
type way struct {
	name string
	json bool
	ask  func(ctx context.Context, s *running, a ask) (told, error)
}

func ways() []way {
	return []way{
		{"gRPC", false, askGRPC},
		{"HTTP", true, askHTTP},
		{"WebSocket JSON", true, askSocket(frame.JSON, false)},
		{"WebSocket protobuf", false, askSocket(frame.Proto, false)},
		{"WebSocket batch", false, askSocket(frame.Proto, true)},
		{"HTTP batch", true, askBatch(frame.JSON)},
		{"HTTP batch protobuf", false, askBatch(frame.Proto)},
		{"gRPC batch", false, askGRPCBatch},
	}
}

func (a ask) proto() []byte {
	if a.body != nil {
		return a.body
	}
	raw, err := proto.Marshal(&rpgv1.ReadPlayerRequest{Id: a.player})
	if err != nil {
		panic(err)
	}
	return raw
}

func (a ask) envelope(codec frame.Codec) *edgev1.Envelope {
	e := &edgev1.Envelope{Method: a.method, RequestId: "the-id", IdempotencyKey: a.key, Body: a.proto()}
	if codec == frame.JSON {
		if e.Body = []byte(a.bodyFor); a.bodyFor == "" {
			raw, err := protojson.Marshal(&rpgv1.ReadPlayerRequest{Id: a.player})
			if err != nil {
				panic(err)
			}
			e.Body = raw
		}
	}
	if a.timeout != 0 {
		e.Timeout = durationpb.New(a.timeout)
	}
	if a.request != "" {
		e.Headers = map[string]string{"x-request-id": a.request}
	}
	return e
}

func playerOf(codec frame.Codec, raw []byte) (*rpgv1.PlayerView, error) {
	p := &rpgv1.PlayerView{}
	if codec == frame.JSON {
		return p, protojson.Unmarshal(raw, p)
	}
	return p, proto.Unmarshal(raw, p)
}

func toldOf(codec frame.Codec, a *edgev1.Answer) (told, error) {
	if a.GetRequestId() != "the-id" {
		return told{}, fmt.Errorf("request id %q", a.GetRequestId())
	}
	out := told{txnID: a.GetHeaders()["rkcy-txn-id"]}
	if a.GetError() != nil {
		out.status = status.FromProto(a.GetError())
		return out, nil
	}
	var err error
	out.player, err = playerOf(codec, a.GetBody())
	return out, err
}

func outgoing(ctx context.Context, a ask) context.Context {
	for k, v := range map[string]string{edge.IdempotencyKey: a.key, "authorization": a.auth, "x-request-id": a.request} {
		if v != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, k, v)
		}
	}
	return ctx
}

func askGRPC(ctx context.Context, s *running, a ask) (told, error) {
	if a.timeout != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.timeout)
		defer cancel()
	}
	raw, header := a.proto(), metadata.MD{}
	var back []byte
	err := s.conn().Invoke(outgoing(ctx, a), a.method, &raw, &back, grpc.ForceCodec(bytesCodec{}), grpc.Header(&header))
	out := told{}
	if id := header.Get(edge.TxnIDKey); len(id) == 1 {
		out.txnID = id[0]
	}
	if err != nil {
		out.status = status.Convert(err)
		return out, nil
	}
	out.player, err = playerOf(frame.Proto, back)
	return out, err
}

// bytesCodec sends and receives bytes as they are.
type bytesCodec struct{ rawCodec }

func (bytesCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data)
	return nil
}

func (r *running) send(ctx context.Context, method, path, body string, a ask, headers ...string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.HTTPAddr()+path, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	headers = append(headers, "Authorization", a.auth)
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] != "" {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	res, err := r.web.Do(req)
	if err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(res.Body)
	return res, text, errors.Join(err, res.Body.Close())
}

func statusIn(text []byte) (*status.Status, error) {
	st := &spb.Status{}
	if err := protojson.Unmarshal(text, st); err != nil {
		return nil, fmt.Errorf("no status: %w: %s", err, text)
	}
	return status.FromProto(st), nil
}

func askHTTP(ctx context.Context, s *running, a ask) (told, error) {
	method, path, body := http.MethodGet, "/v1/players/"+a.player, ""
	switch {
	case a.bodyFor != "":
		method, path, body = http.MethodPost, "/v1/players", a.bodyFor
	case strings.HasPrefix(a.method, "/lab."):
		method, path = http.MethodPost, "/v1/lab/"+a.method[strings.LastIndex(a.method, "/")+1:]
	case a.method != rpgv1.RpgService_ReadPlayer_FullMethodName:
		path = "/v1/" + a.method // there is none
	}
	timeout := ""
	if a.timeout != 0 {
		timeout = strconv.FormatInt(a.timeout.Milliseconds(), 10) + "m"
	}
	res, text, err := s.send(ctx, method, path, body, a, "Idempotency-Key", a.key, "X-Request-Id", a.request, "Grpc-Timeout", timeout) //nolint:bodyclose // send has closed it
	if err != nil {
		return told{}, err
	}
	out := told{txnID: res.Header.Get("Rkcy-Txn-Id")}
	if res.StatusCode != http.StatusOK {
		out.status, err = statusIn(text)
		return out, err
	}
	out.player, err = playerOf(frame.JSON, text)
	return out, err
}

func askBatch(codec frame.Codec) func(context.Context, *running, ask) (told, error) {
	return func(ctx context.Context, s *running, a ask) (told, error) {
		body, err := codec.Marshal(&edgev1.BatchRequest{Mode: edgev1.BatchRequest_ORDERED, Items: []*edgev1.Envelope{a.envelope(codec)}})
		if err != nil {
			return told{}, err
		}
		contentType := "application/json"
		if codec == frame.Proto {
			contentType = "application/x-protobuf"
		}
		res, text, err := s.send(ctx, http.MethodPost, edge.BatchPath, string(body), a, "Content-Type", contentType) //nolint:bodyclose // send has closed it
		if err != nil {
			return told{}, err
		}
		if res.StatusCode != http.StatusOK {
			st, err := statusIn(text)
			return told{status: st}, err
		}
		out, err := codec.Response(text)
		if err != nil {
			return told{}, fmt.Errorf("%w: %s", err, text)
		}
		if len(out.GetResults()) != 1 {
			return told{}, fmt.Errorf("want one result: %s", text)
		}
		return toldOf(codec, out.GetResults()[0])
	}
}

func askGRPCBatch(ctx context.Context, s *running, a ask) (told, error) {
	if a.auth != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", a.auth)
	}
	out, err := edgev1.NewBatchServiceClient(s.conn()).Batch(ctx,
		&edgev1.BatchRequest{Mode: edgev1.BatchRequest_PARALLEL, Items: []*edgev1.Envelope{a.envelope(frame.Proto)}})
	if err != nil {
		return told{status: status.Convert(err)}, nil
	}
	if len(out.GetResults()) != 1 {
		return told{}, fmt.Errorf("%v", out)
	}
	return toldOf(frame.Proto, out.GetResults()[0])
}

// askSocket opens a connection for one request. ctx ends with a Cancel.
func askSocket(codec frame.Codec, batch bool) func(context.Context, *running, ask) (told, error) {
	return func(ctx context.Context, s *running, a ask) (told, error) {
		ws, _, err := s.open(codec, "Authorization", a.auth) //nolint:bodyclose // by the library
		if err != nil {
			return told{}, err
		}
		defer func() { _ = ws.CloseNow() }()
		e := a.envelope(codec)
		f := request(e)
		if batch {
			f = &edgev1.ClientFrame{Kind: &edgev1.ClientFrame_Batch{Batch: &edgev1.BatchRequest{
				RequestId: "the-batch", Mode: edgev1.BatchRequest_ORDERED_STOP_ON_ERROR, Items: []*edgev1.Envelope{e},
			}}}
		}
		ws.send(f)
		done := make(chan struct{})
		defer close(done)
		go func() {
			select {
			case <-ctx.Done():
				id := "the-id"
				if batch {
					id = "the-batch"
				}
				data, err := codec.Marshal(cancelFrame(id))
				if err == nil {
					_ = ws.Write(context.Background(), ws.kind(), data)
				}
			case <-done:
			}
		}()
		back, err := ws.try()
		if err != nil {
			return told{}, err
		}
		if !batch {
			return toldOf(codec, back.GetAnswer())
		}
		if st := back.GetAnswer().GetError(); st != nil { // the batch was refused
			return told{status: status.FromProto(st)}, nil
		}
		if id := back.GetBatch().GetRequestId(); id != "the-batch" || len(back.GetBatch().GetResults()) != 1 {
			return told{}, fmt.Errorf("%v", back)
		}
		return toldOf(codec, back.GetBatch().GetResults()[0])
	}
}

// conn returns a gRPC connection that lasts as long as the test.
func (r *running) conn() *grpc.ClientConn {
	r.once.Do(func() { r.shared = r.dial() })
	return r.shared
}

// What a client learns does not depend on the way that it came.
func TestContract(t *testing.T) {
	const method = rpgv1.RpgService_ReadPlayer_FullMethodName
	id := txn.NewID()
	runner := edge.Runner{Runner: runnerFunc(func() (*txn.Result, error) { return &txn.Result{ID: id}, nil })}
	incoming := func(ctx context.Context, key string) string {
		md, _ := metadata.FromIncomingContext(ctx)
		return strings.Join(md.Get(key), ",")
	}
	f := &fake{read: func(ctx context.Context, in *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
		code, isCode := strings.CutPrefix(in.GetId(), "code-")
		switch {
		case isCode:
			n, err := strconv.Atoi(code)
			if err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("wrapped: %w", txn.Errorf(txn.Code(n), "no way").With(txn.DetailConcern, "Player")) //nolint:gosec // small
		case in.GetId() == "panic":
			panic("secret")
		case in.GetId() == "mistake":
			return nil, errors.New("secret")
		case in.GetId() == "nothing":
			return nil, nil //nolint:nilnil // on purpose
		case in.GetId() == "wait":
			<-ctx.Done()
			return nil, txn.Errorf(txn.CodeDeadlineExceeded, "too late").With(txn.DetailTxnID, "t-1")
		case in.GetId() == "run":
			if _, err := runner.Run(ctx, txn.New()); err != nil {
				return nil, err
			}
		case in.GetId() == "metadata":
			return &rpgv1.Player{Id: incoming(ctx, "authorization") + "|" + incoming(ctx, edge.IdempotencyKey) + "|" + incoming(ctx, "x-request-id")}, nil
		case in.GetId() == "deadline":
			at, ok := ctx.Deadline()
			return &rpgv1.Player{Id: fmt.Sprint(ok && time.Until(at) <= time.Minute)}, nil
		}
		return &rpgv1.Player{Id: in.GetId()}, nil
	}}
	calls := &labCalls{}
	s := startServices(t, edge.Config{DefaultTimeout: time.Minute}, f.service(t), calls.service(t))
	type want struct {
		code   codes.Code
		reason string // "": that of the code
		text   string
		player string
		txnID  string
		detail [2]string
		retry  bool
	}
	type check struct {
		ask  ask
		want want
	}
	cases := map[string]check{
		"success":         {ask{method: method, player: "p"}, want{player: "p"}},
		"transaction id":  {ask{method: method, player: "run"}, want{player: "run", txnID: id.String()}},
		"panic":           {ask{method: method, player: "panic"}, want{code: codes.Internal, text: "internal error"}},
		"mistake":         {ask{method: method, player: "mistake"}, want{code: codes.Internal, text: "internal error"}},
		"metadata":        {ask{method: method, player: "metadata", auth: "Bearer me", key: "k1", request: "r1"}, want{player: "Bearer me|k1|r1"}},
		"no metadata":     {ask{method: method, player: "metadata"}, want{player: "||"}},
		"long key":        {ask{method: method, player: "p", key: strings.Repeat("k", 300)}, want{code: codes.InvalidArgument, text: "300 bytes"}},
		"deadline passes": {ask{method: method, player: "wait", timeout: 300 * time.Millisecond}, want{code: codes.DeadlineExceeded, detail: [2]string{txn.DetailTxnID, "t-1"}}},
		"default":         {ask{method: method, player: "deadline"}, want{player: "true"}},
		"not decodable": {ask{method: rpgv1.RpgService_CreatePlayer_FullMethodName, body: []byte{0x0a, 0xff}, bodyFor: `{"player":`},
			want{code: codes.InvalidArgument}},
		"internal":       {ask{method: "/lab.edge.v1.Lab/Secret"}, want{code: codes.PermissionDenied, reason: edge.ReasonInternal}},
		"unknown method": {ask{method: "/rpg.v1.RpgService/ReadPlayers"}, want{code: codes.Unimplemented, text: "ReadPlayers"}},
		"unknown other":  {ask{method: "/nobody.v1.Service/Do"}, want{code: codes.Unimplemented}},
	}
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		own := edge.TxnCode(c)
		if edge.GRPCCode(own) != c {
			continue // has none of its own
		}
		cases["code "+c.String()] = check{ask{method: method, player: "code-" + strconv.Itoa(int(own))}, want{
			code: c, text: "no way", detail: [2]string{txn.DetailConcern, "Player"}, retry: c == codes.Unavailable || c == codes.ResourceExhausted,
		}}
	}
	if len(cases) < 25 {
		t.Fatalf("%d cases", len(cases))
	}
	for name, c := range cases {
		for _, w := range ways() {
			t.Run(name+"/"+w.name, func(t *testing.T) {
				a := c.ask
				if w.name == "WebSocket JSON" && strings.HasPrefix(a.bodyFor, "{") {
					a.bodyFor = `{"playr":{}}` // else the frame itself is broken
				} else if w.name == "HTTP batch" && a.bodyFor != "" {
					a.bodyFor = `{"playr":{}}`
				}
				got, err := w.ask(t.Context(), s, a)
				if err != nil {
					t.Fatal(err)
				}
				expected := c.want
				if w.name == "HTTP" && expected.code == codes.Unimplemented && strings.HasPrefix(name, "unknown") {
					expected.code, expected.text = codes.NotFound, "" // there are paths, not methods
				}
				if got.code() != expected.code || !strings.Contains(got.status.Message(), expected.text) || strings.Contains(got.status.Message(), "secret") {
					t.Fatalf("got %v, want %+v", got.status, expected)
				}
				if got.txnID != expected.txnID {
					t.Errorf("transaction %q", got.txnID)
				}
				if expected.code == codes.OK {
					if got.player.GetId() != expected.player {
						t.Errorf("player %v", got.player)
					}
					return
				}
				reason := expected.reason
				if reason == "" {
					reason = txn.CodeName(edge.TxnCode(expected.code))
				}
				if info := got.info(); info.GetReason() != reason || info.GetDomain() != edge.ErrorDomain || got.retry() != expected.retry ||
					expected.detail[0] != "" && info.GetMetadata()[expected.detail[0]] != expected.detail[1] {
					t.Errorf("details %v, want %+v", got.status.Details(), expected)
				}
			})
		}
	}
	if n := calls.count("Secret"); n != 0 {
		t.Errorf("the internal method was called %d times", n)
	}
}

// Internal streams, too; and what is not marked works, so the test can fail.
func TestInternalMethods(t *testing.T) {
	calls := &labCalls{}
	s := startServices(t, edge.Config{}, calls.service(t))
	stream := func(name string) error {
		st, err := s.conn().NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/lab.edge.v1.Lab/"+name)
		if err != nil {
			return err
		}
		if err := errors.Join(st.SendMsg(wrapperspb.String("x")), st.CloseSend()); err != nil {
			return err
		}
		return st.RecvMsg(&wrapperspb.StringValue{})
	}
	if err := stream("Watch"); err != nil {
		t.Errorf("Watch: %v", err)
	}
	if err := stream("SecretWatch"); codeOf(err) != codes.PermissionDenied {
		t.Errorf("SecretWatch: %v", err)
	}
	if err := s.conn().Invoke(t.Context(), "/lab.edge.v1.Lab/Echo", wrapperspb.String("x"), &wrapperspb.StringValue{}); err != nil {
		t.Errorf("Echo: %v", err)
	}
	if a := s.do(http.MethodPost, "/v1/lab/Echo", ""); a.Code != http.StatusOK {
		t.Errorf("Echo: %d %s", a.Code, a.Body)
	}
	if a := s.do(http.MethodPost, "/v1/lab/Secret", ""); a.Code != http.StatusForbidden || a.reason() != edge.ReasonInternal {
		t.Errorf("Secret: %d %s", a.Code, a.Body)
	}
	ws := s.socket(frame.Proto)
	for name, want := range map[string]codes.Code{
		"Echo": codes.OK, "Secret": codes.PermissionDenied, "SecretWatch": codes.PermissionDenied, "Watch": codes.Unimplemented,
	} {
		ws.send(request(envelope(t, ws.codec, name, "lab.edge.v1.Lab/"+name, wrapperspb.String("x"))))
		if a := ws.answer(); codes.Code(a.GetError().GetCode()) != want { //nolint:gosec // small
			t.Errorf("%s: %v", name, a)
		}
	}
	// A name that is nearly right does not give an internal one away.
	ws.send(request(envelope(t, ws.codec, "1", "lab.edge.v1.Lab/Secre", wrapperspb.String("x"))))
	if a := ws.answer(); strings.Contains(a.GetError().GetMessage(), "did you mean \"lab.edge.v1.Lab/Secret") {
		t.Errorf("hint: %v", a)
	}
	if calls.count("Secret")+calls.count("SecretWatch") != 0 || calls.count("Echo") != 3 || calls.count("Watch") != 1 {
		t.Errorf("calls %v", calls.calls)
	}
}

// A caller that stops waiting ends its request, on every way.
func TestContractCancel(t *testing.T) {
	entered, ended := make(chan struct{}, 1), make(chan error, 1)
	f := &fake{read: func(ctx context.Context, _ *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
		entered <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}}
	s := start(t, edge.Config{}, f)
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var calls sync.WaitGroup
			calls.Go(func() {
				a, err := w.ask(ctx, s, ask{method: rpgv1.RpgService_ReadPlayer_FullMethodName, player: "p"})
				if err == nil && a.code() != codes.Canceled {
					t.Errorf("told %v", a)
				}
			})
			<-entered
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the method saw %v", err)
			}
			calls.Wait()
		})
	}
}

// The limit is one for all ways, and its slots come back.
func TestContractInFlight(t *testing.T) {
	for _, first := range ways() {
		t.Run(first.name, func(t *testing.T) {
			b := newBlocker()
			s := start(t, edge.Config{MaxInFlight: 1}, &fake{read: b.read})
			var waiting sync.WaitGroup
			waiting.Go(func() {
				if a, err := first.ask(t.Context(), s, ask{method: rpgv1.RpgService_ReadPlayer_FullMethodName, player: "p"}); err != nil || a.status != nil {
					t.Errorf("first: %v %v", a, err)
				}
			})
			<-b.entered
			for _, w := range ways() {
				a, err := w.ask(t.Context(), s, ask{method: rpgv1.RpgService_ReadPlayer_FullMethodName, player: "p"})
				if err != nil || a.code() != codes.ResourceExhausted || a.info().GetReason() != edge.ReasonOverloaded || !a.retry() {
					t.Errorf("%s: %v %v", w.name, a, err)
				}
			}
			close(b.release)
			waiting.Wait()
			for _, w := range ways() {
				eventually(t, w.name+" has a slot", func() bool { // it comes back after the answer
					a, err := w.ask(t.Context(), s, ask{method: rpgv1.RpgService_ReadPlayer_FullMethodName, player: "p"})
					return err == nil && a.status == nil
				})
			}
		})
	}
}

// runnerFunc runs no transaction.
type runnerFunc func() (*txn.Result, error)

func (f runnerFunc) Run(context.Context, *txn.Builder) (*txn.Result, error) { return f() }
