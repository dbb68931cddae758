package edge_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/edge/frame"
)

func big(context.Context, *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
	return &rpgv1.Player{Username: strings.Repeat("y", 1<<20)}, nil
}

// A client that does not read is closed with a code once too much waits for
// it, and others do not notice.
func TestSlowReader(t *testing.T) {
	f := &fake{read: func(ctx context.Context, in *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
		if in.GetId() == "big" {
			return big(ctx, in)
		}
		return &rpgv1.Player{Id: in.GetId()}, nil
	}}
	s := start(t, edge.Config{WebSocket: edge.WebSocketConfig{OutboxBytes: 4 << 20}}, f)
	slow, quick := s.socket(frame.Proto), s.socket(frame.Proto)
	for i := range 60 { // far more than all buffers between
		slow.send(read(t, slow.codec, strconv.Itoa(i), "big"))
		quick.send(read(t, quick.codec, strconv.Itoa(i), "p"))
		if a := quick.answer(); a.GetError() != nil || a.GetRequestId() != strconv.Itoa(i) {
			t.Fatalf("the other client: %v", a)
		}
	}
	if code := slow.closed(); code != websocket.StatusTryAgainLater {
		t.Errorf("code %v", code)
	}
	quick.send(read(t, quick.codec, "last", "p"))
	if a := quick.answer(); a.GetError() != nil {
		t.Errorf("the other client: %v", a)
	}
}

// A client that never reads again is cut off after the time-out, and what it
// holds is let go.
func TestReaderThatStands(t *testing.T) {
	s := start(t, edge.Config{MaxInFlight: 1, WebSocket: edge.WebSocketConfig{WriteTimeout: 100 * time.Millisecond, OutboxBytes: 1 << 30}}, &fake{read: big})
	ws := s.socket(frame.Proto)
	eventually(t, "the connection ends", func() bool {
		data, err := ws.codec.Marshal(read(t, ws.codec, strconv.Itoa(int(time.Now().UnixNano())), "big"))
		return err != nil || ws.Write(t.Context(), ws.kind(), data) != nil
	})
	eventually(t, "the slot comes back", func() bool {
		return s.do(http.MethodPost, "/v1/players", "{}").Code == http.StatusOK
	})
}

// A message above the limit is refused with a code, and one within it is not.
func TestSocketSizeLimit(t *testing.T) {
	s := start(t, edge.Config{MaxRequestBytes: 4096}, &fake{})
	for _, c := range []struct {
		size int
		ok   bool
	}{{4095, true}, {4096, true}, {4097, false}, {100_000, false}} {
		ws := s.socket(frame.JSON)
		data := []byte(`{"request":{"request_id":"1","method":"rpg.v1.RpgService/ReadPlayer","body":{"id":"`)
		data = append(data, strings.Repeat("x", c.size-len(data)-4)...)
		data = append(data, `"}}}`...)
		if c.size > 10_000 {
			// The server need not read it to the end, so the connection may break
			// while it is sent, and the code be lost with it.
			_ = ws.Write(t.Context(), ws.kind(), data)
			_, err := ws.try()
			if code := websocket.CloseStatus(err); err == nil || code >= 0 && code != websocket.StatusMessageTooBig {
				t.Errorf("%d bytes: %v", c.size, err)
			}
			continue
		}
		ws.sendRaw(data)
		if !c.ok {
			if code := ws.closed(); code != websocket.StatusMessageTooBig {
				t.Errorf("%d bytes: code %v", c.size, code)
			}
			continue
		}
		if a := ws.answer(); a.GetError() != nil {
			t.Errorf("%d bytes: %v", c.size, a)
		}
	}
}

// The length that a frame says it has is not believed: nothing is allocated for
// it.
func TestFrameThatLies(t *testing.T) {
	s := start(t, edge.Config{MaxRequestBytes: 64 << 10}, &fake{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 20 {
		c := open(t, s.HTTPAddr())
		if _, err := io.WriteString(c, "GET "+edge.SocketPath+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: "+frame.SubprotocolProto+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(c)
		res, err := http.ReadResponse(in, nil)
		if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%v %v", res, err)
		}
		_ = res.Body.Close()
		// A binary message of 1 TiB, masked with zeros.
		header := append([]byte{0x82, 0xff}, binary.BigEndian.AppendUint64(nil, 1<<40)...)
		header = append(header, 0, 0, 0, 0)
		if _, err := c.Write(append(header, make([]byte, 65<<10)...)); err != nil {
			t.Fatal(err)
		}
		if code := closeCode(t, in); code != websocket.StatusMessageTooBig {
			t.Errorf("code %v", code)
		}
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 20<<20 {
		t.Errorf("%d bytes were allocated for 20 frames", grown)
	}
}

// closeCode reads a close frame off the wire.
func closeCode(t *testing.T, in *bufio.Reader) websocket.StatusCode {
	t.Helper()
	head := make([]byte, 4)
	if _, err := io.ReadFull(in, head); err != nil {
		t.Fatal(err)
	}
	if head[0] != 0x88 {
		t.Fatalf("not a close frame: %x", head)
	}
	return websocket.StatusCode(binary.BigEndian.Uint16(head[2:]))
}

// A request that is refused for the load of the edge is refused in its frame.
func TestSocketInFlight(t *testing.T) {
	b := newBlocker()
	s := start(t, edge.Config{MaxInFlight: 2}, &fake{read: b.read})
	ws := s.socket(frame.JSON)
	for i := range 3 {
		ws.send(read(t, ws.codec, strconv.Itoa(i), "p"))
	}
	if a := ws.answer(); a.GetRequestId() != "2" || codes.Code(a.GetError().GetCode()) != codes.ResourceExhausted { //nolint:gosec // small
		t.Errorf("%v", a)
	}
	close(b.release)
	for range 2 {
		if a := ws.answer(); a.GetError() != nil {
			t.Errorf("%v", a)
		}
	}
}
