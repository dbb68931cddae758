package edge_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/edge/frame"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// socket is a client's side of a WebSocket.
type socket struct {
	*websocket.Conn
	t     testing.TB
	codec frame.Codec
}

func (r *running) open(codec frame.Codec, headers ...string) (*socket, *http.Response, error) {
	header := http.Header{}
	for i := 0; i+1 < len(headers); i += 2 {
		header.Set(headers[i], headers[i+1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, res, err := websocket.Dial(ctx, "ws://"+r.HTTPAddr()+edge.SocketPath, &websocket.DialOptions{ //nolint:bodyclose // by the library
		HTTPClient: r.web, HTTPHeader: header, Subprotocols: []string{codec.String()},
	})
	if err != nil {
		return nil, res, err
	}
	ws.SetReadLimit(-1)
	return &socket{ws, r.t, codec}, res, nil
}

func (r *running) socket(codec frame.Codec, headers ...string) *socket {
	r.t.Helper()
	s, _, err := r.open(codec, headers...) //nolint:bodyclose // by the library
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = s.CloseNow() })
	return s
}

func (s *socket) kind() websocket.MessageType {
	if s.codec == frame.JSON {
		return websocket.MessageText
	}
	return websocket.MessageBinary
}

func (s *socket) sendRaw(data []byte) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.Write(ctx, s.kind(), data); err != nil {
		s.t.Fatalf("send: %v", err)
	}
}

func (s *socket) send(f *edgev1.ClientFrame) {
	s.t.Helper()
	data, err := s.codec.Marshal(f)
	if err != nil {
		s.t.Fatal(err)
	}
	s.sendRaw(data)
}

func (s *socket) try() (*edgev1.ServerFrame, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	kind, data, err := s.Read(ctx)
	if err != nil {
		return nil, err
	}
	if kind != s.kind() {
		return nil, errors.New("the wrong kind of message")
	}
	return s.codec.Server(data)
}

func (s *socket) receive() *edgev1.ServerFrame {
	s.t.Helper()
	f, err := s.try()
	if err != nil {
		s.t.Fatalf("receive: %v", err)
	}
	return f
}

// answer receives the answer to a request.
func (s *socket) answer() *edgev1.Answer {
	s.t.Helper()
	f := s.receive()
	if f.GetAnswer() == nil {
		s.t.Fatalf("not an answer: %v", f)
	}
	return f.GetAnswer()
}

// closed reads until the server closes, and returns the code.
func (s *socket) closed() websocket.StatusCode {
	s.t.Helper()
	for {
		if _, err := s.try(); err != nil {
			if websocket.CloseStatus(err) < 0 {
				s.t.Fatalf("not closed in order: %v", err)
			}
			return websocket.CloseStatus(err)
		}
	}
}

func bodyOf(t testing.TB, codec frame.Codec, m proto.Message) []byte {
	t.Helper()
	marshal := proto.Marshal
	if codec == frame.JSON {
		marshal = protojson.Marshal
	}
	raw, err := marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func envelope(t testing.TB, codec frame.Codec, id, method string, m proto.Message) *edgev1.Envelope {
	t.Helper()
	return &edgev1.Envelope{Method: method, RequestId: id, Body: bodyOf(t, codec, m)}
}

func request(e *edgev1.Envelope) *edgev1.ClientFrame {
	return &edgev1.ClientFrame{Kind: &edgev1.ClientFrame_Request{Request: e}}
}

func read(t testing.TB, codec frame.Codec, id, player string) *edgev1.ClientFrame {
	t.Helper()
	return request(envelope(t, codec, id, rpgv1.RpgService_ReadPlayer_FullMethodName, &rpgv1.ReadPlayerRequest{Id: player}))
}

func cancelFrame(id string) *edgev1.ClientFrame {
	return &edgev1.ClientFrame{Kind: &edgev1.ClientFrame_Cancel{Cancel: &edgev1.Cancel{RequestId: id}}}
}

func bothCodecs(t *testing.T, test func(t *testing.T, codec frame.Codec)) {
	for _, codec := range []frame.Codec{frame.Proto, frame.JSON} {
		t.Run(codec.String(), func(t *testing.T) { test(t, codec) })
	}
}

// Many requests at once are each answered with their own id.
func TestSocketAnswersWithIDs(t *testing.T) {
	bothCodecs(t, func(t *testing.T, codec frame.Codec) {
		s := start(t, edge.Config{WebSocket: edge.WebSocketConfig{MaxInFlight: 4}}, &fake{})
		ws := s.socket(codec)
		const n = 500 // far more than are worked on at once
		go func() {
			for i := range n {
				data, err := codec.Marshal(read(t, codec, string(rune('a'+i%26))+time.Duration(i).String(), time.Duration(i).String()))
				if err != nil || ws.Write(t.Context(), ws.kind(), data) != nil {
					t.Error("send", err)
					return
				}
			}
		}()
		seen := map[string]bool{}
		for range n {
			a := ws.answer()
			var p rpgv1.PlayerView
			if codec == frame.JSON {
				if err := protojson.Unmarshal(a.GetBody(), &p); err != nil {
					t.Fatal(err)
				}
			} else if err := proto.Unmarshal(a.GetBody(), &p); err != nil {
				t.Fatal(err)
			}
			if a.GetError() != nil || a.GetRequestId()[1:] != p.GetId() || seen[p.GetId()] {
				t.Fatalf("%v: %v", a, &p)
			}
			seen[p.GetId()] = true
		}
	})
}

// Every frame has a reply, whatever is in it, and the connection goes on.
func TestBadFrames(t *testing.T) {
	s := start(t, edge.Config{}, &fake{})
	js, pb := s.socket(frame.JSON), s.socket(frame.Proto)
	for name, c := range map[string]struct {
		ws   *socket
		data string
		id   string
		code codes.Code
	}{
		"no JSON":            {js, `{`, "", codes.InvalidArgument},
		"no object":          {js, `[]`, "", codes.InvalidArgument},
		"empty":              {js, ``, "", codes.InvalidArgument},
		"nothing":            {js, `{}`, "", codes.InvalidArgument},
		"two":                {js, `{"request":{"request_id":"a"},"cancel":{"request_id":"a"}}`, "", codes.InvalidArgument},
		"unknown kind":       {js, `{"requst":{"request_id":"a"}}`, "a", codes.InvalidArgument},
		"unknown field":      {js, `{"request":{"request_id":"b","method":"rpg.v1.RpgService/ReadPlayer","user":"root"}}`, "b", codes.InvalidArgument},
		"twice":              {js, `{"request":{"request_id":"c","body":{},"body":{}}}`, "c", codes.InvalidArgument},
		"trailing":           {js, `{"cancel":{"request_id":"d"}} {}`, "", codes.InvalidArgument},
		"UTF-8":              {js, "{\"cancel\":{\"request_id\":\"\xff\"}}", "", codes.InvalidArgument},
		"no id":              {js, `{"request":{"method":"rpg.v1.RpgService/ReadPlayer"}}`, "", codes.InvalidArgument},
		"no method":          {js, `{"request":{"request_id":"e"}}`, "e", codes.InvalidArgument},
		"unknown method":     {js, `{"request":{"request_id":"f","method":"rpg.v1.RpgService/ReadPlayr"}}`, "f", codes.Unimplemented},
		"unknown in body":    {js, `{"request":{"request_id":"g","method":"/rpg.v1.RpgService/ReadPlayer","body":{"ide":1}}}`, "g", codes.InvalidArgument},
		"a body of base64":   {js, `{"request":{"request_id":"h","method":"/rpg.v1.RpgService/ReadPlayer","body":"e30="}}`, "h", codes.InvalidArgument},
		"identity":           {js, `{"request":{"request_id":"i","method":"rpg.v1.RpgService/ReadPlayer","headers":{"authorization":"Bearer x"}}}`, "i", codes.InvalidArgument},
		"inner header":       {js, `{"request":{"request_id":"j","method":"rpg.v1.RpgService/ReadPlayer","headers":{"rkcy-edge-timeout":"1h"}}}`, "j", codes.InvalidArgument},
		"timeout":            {js, `{"request":{"request_id":"k","method":"rpg.v1.RpgService/ReadPlayer","timeout":"-1s"}}`, "k", codes.InvalidArgument},
		"key":                {js, `{"request":{"request_id":"l","method":"rpg.v1.RpgService/ReadPlayer","headers":{"Idempotency-Key":"x"}}}`, "l", codes.InvalidArgument},
		"cancel of nothing":  {js, `{"cancel":{"request_id":"m"}}`, "m", codes.NotFound},
		"batch as a request": {js, `{"request":{"request_id":"n","method":"rkcy.edge.v1.BatchService/Batch","body":{"mode":"ORDERED"}}}`, "n", codes.InvalidArgument},
		"no items":           {js, `{"batch":{"request_id":"o","mode":"ORDERED"}}`, "o", codes.InvalidArgument},
		"protobuf":           {pb, "\x0a\xff", "", codes.InvalidArgument},
		"nothing, protobuf":  {pb, "", "", codes.InvalidArgument},
		"unknown, protobuf":  {pb, "\x7a\x01x", "", codes.InvalidArgument},
	} {
		c.ws.sendRaw([]byte(c.data))
		a := c.ws.answer()
		if codes.Code(a.GetError().GetCode()) != c.code || a.GetRequestId() != c.id || len(a.GetError().GetDetails()) == 0 { //nolint:gosec // small
			t.Errorf("%s: %v", name, a)
		}
	}
	// Of the other kind.
	if err := js.Write(t.Context(), websocket.MessageBinary, []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if a := js.answer(); a.GetError() == nil {
		t.Errorf("binary: %v", a)
	}
	for _, ws := range []*socket{js, pb} {
		ws.send(read(t, ws.codec, "z", "p"))
		if a := ws.answer(); a.GetError() != nil || a.GetRequestId() != "z" {
			t.Errorf("afterwards: %v", a)
		}
	}
}

// Two requests of a connection with one id could not be told apart.
func TestSocketIDInUse(t *testing.T) {
	b := newBlocker()
	s := start(t, edge.Config{}, &fake{read: b.read})
	ws := s.socket(frame.JSON)
	ws.send(read(t, ws.codec, "1", "p"))
	<-b.entered
	ws.send(read(t, ws.codec, "1", "p"))
	if a := ws.answer(); codes.Code(a.GetError().GetCode()) != codes.AlreadyExists { //nolint:gosec // small
		t.Errorf("second: %v", a)
	}
	close(b.release)
	if a := ws.answer(); a.GetError() != nil {
		t.Errorf("first: %v", a)
	}
	ws.send(read(t, ws.codec, "1", "p"))
	if a := ws.answer(); a.GetError() != nil {
		t.Errorf("after the answer: %v", a)
	}
}

func TestUpgradesThatAreRefused(t *testing.T) {
	s := start(t, edge.Config{AllowedOrigins: []string{"https://game.example"}, WebSocket: edge.WebSocketConfig{MaxConnections: 2}}, &fake{})
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}
	with := func(more ...string) []string { return append(append([]string{}, upgrade...), more...) }
	for name, c := range map[string]struct {
		method  string
		headers []string
		code    int
	}{
		"no upgrade":        {"GET", nil, 426},
		"POST":              {"POST", with("Sec-WebSocket-Protocol", frame.SubprotocolJSON), 405},
		"no subprotocol":    {"GET", upgrade, 400},
		"wrong subprotocol": {"GET", with("Sec-WebSocket-Protocol", "graphql-ws, rkcy.edge.v2.json"), 400},
		"foreign origin":    {"GET", with("Sec-WebSocket-Protocol", frame.SubprotocolJSON, "Origin", "https://evil.example"), 403},
		"a part of it":      {"GET", with("Sec-WebSocket-Protocol", frame.SubprotocolJSON, "Origin", "https://game.example.evil.example"), 403},
		"other scheme":      {"GET", with("Sec-WebSocket-Protocol", frame.SubprotocolJSON, "Origin", "http://game.example"), 403},
		"no origin at all":  {"GET", with("Sec-WebSocket-Protocol", frame.SubprotocolJSON, "Origin", "null"), 403},
	} {
		if a := s.do(c.method, edge.SocketPath, "", c.headers...); a.Code != c.code {
			t.Errorf("%s: %d %s", name, a.Code, a.Body)
		}
	}
	for _, o := range []string{"http://" + s.HTTPAddr(), "https://game.example"} {
		s.socket(frame.JSON, "Origin", o)
	}
	_, res, err := s.open(frame.Proto)
	if err == nil || res == nil || res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("one too many: %v %v", res, err)
	}
	if res != nil {
		_ = res.Body.Close()
	}
	other := start(t, edge.Config{WebSocket: edge.WebSocketConfig{Disabled: true}}, &fake{})
	if a := other.do("GET", edge.SocketPath, "", with("Sec-WebSocket-Protocol", frame.SubprotocolJSON)...); a.Code != 404 {
		t.Errorf("disabled: %d %s", a.Code, a.Body)
	}
	if _, err := edge.New(edge.Config{AllowedOrigins: []string{"game.example"}}); err == nil {
		t.Error("an origin without a scheme was taken")
	}
}

// A client that is gone ends its requests.
func TestSocketCloses(t *testing.T) {
	ended := make(chan error, 1)
	entered := make(chan struct{}, 1)
	f := &fake{read: func(ctx context.Context, _ *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
		entered <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}}
	s := start(t, edge.Config{}, f)
	for _, leave := range []func(*socket){
		func(ws *socket) { _ = ws.CloseNow() },
		func(ws *socket) { _ = ws.Close(websocket.StatusNormalClosure, "") },
	} {
		ws := s.socket(frame.JSON)
		ws.send(read(t, ws.codec, "1", "p"))
		<-entered
		leave(ws)
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if err := s.result; err != nil {
		t.Error(err)
	}
}

// What was accepted is answered, then the connection ends, with a code that
// says why; what comes meanwhile is refused.
func TestSocketDrain(t *testing.T) {
	b := newBlocker()
	s := start(t, edge.Config{}, &fake{read: b.read})
	idle, busy := s.socket(frame.JSON), s.socket(frame.Proto)
	busy.send(read(t, busy.codec, "1", "p"))
	<-b.entered
	s.stop()
	if code := idle.closed(); code != websocket.StatusGoingAway {
		t.Errorf("idle: %v", code)
	}
	var refused bool
	for i := 0; !refused; i++ {
		id := time.Duration(i).String()
		busy.send(request(envelope(t, busy.codec, id, rpgv1.RpgService_CreatePlayer_FullMethodName, &rpgv1.CreatePlayerRequest{})))
		a := busy.answer()
		refused = codes.Code(a.GetError().GetCode()) == codes.Unavailable //nolint:gosec // small
		if a.GetRequestId() != id {
			t.Fatalf("while draining: %v", a)
		}
	}
	close(b.release)
	if a := busy.answer(); a.GetError() != nil || a.GetRequestId() != "1" {
		t.Errorf("accepted: %v", a)
	}
	if code := busy.closed(); code != websocket.StatusGoingAway {
		t.Errorf("busy: %v", code)
	}
	<-s.done
	if s.result != nil {
		t.Errorf("Run: %v", s.result)
	}
}

// A drain that takes too long cuts off what is left, WebSockets too.
func TestSocketDrainTimeout(t *testing.T) {
	b := newBlocker()
	s := start(t, edge.Config{DrainTimeout: 50 * time.Millisecond}, &fake{read: b.read})
	ws := s.socket(frame.JSON)
	ws.send(read(t, ws.codec, "1", "p"))
	<-b.entered
	s.stop()
	<-s.done
	if s.result == nil {
		t.Error("Run returned no error")
	}
}

func TestSocketIdle(t *testing.T) {
	b := newBlocker()
	s := start(t, edge.Config{WebSocket: edge.WebSocketConfig{IdleTimeout: 50 * time.Millisecond, PingInterval: 5 * time.Millisecond}}, &fake{read: b.read})
	ws := s.socket(frame.JSON)
	ws.send(read(t, ws.codec, "1", "p"))
	<-b.entered
	if code := s.socket(frame.JSON).closed(); code != websocket.StatusGoingAway {
		t.Errorf("idle: %v", code)
	}
	// So the limit has passed, but something is pending here.
	close(b.release)
	if a := ws.answer(); a.GetError() != nil {
		t.Errorf("%v", a)
	}
	if code := ws.closed(); code != websocket.StatusGoingAway {
		t.Errorf("%v", code)
	}
}

// Nobody at the other end is noticed by a ping.
func TestSocketPing(t *testing.T) {
	s := start(t, edge.Config{WebSocket: edge.WebSocketConfig{PingInterval: 20 * time.Millisecond, WriteTimeout: 100 * time.Millisecond}}, &fake{})
	ws := s.socket(frame.JSON) // does not read, so it does not answer pings
	eventually(t, "the connection has ended", func() bool {
		return ws.Write(t.Context(), websocket.MessageText, []byte(`{}`)) != nil
	})
}

// The deadline of an envelope.
func TestEnvelopeTimeout(t *testing.T) {
	b := newBlocker()
	s := start(t, edge.Config{}, &fake{read: b.read})
	ws := s.socket(frame.JSON)
	f := read(t, ws.codec, "1", "p")
	f.GetRequest().Timeout = durationpb.New(20 * time.Millisecond)
	ws.send(f)
	if a := ws.answer(); codes.Code(a.GetError().GetCode()) != codes.DeadlineExceeded { //nolint:gosec // small
		t.Errorf("%v", a)
	}
}
