package edge_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
)

func open(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Connections on which nobody ever says anything, as port scanners and TCP
// health checks leave them, neither outlast the drain nor make it fail.
func TestDrainWithSilentConnections(t *testing.T) {
	s := start(t, edge.Config{DrainTimeout: time.Second}, &fake{})
	if _, err := s.client().ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{s.GRPCAddr(), s.HTTPAddr()} {
		open(t, addr)
	}
	// Half a handshake.
	if _, err := io.WriteString(open(t, s.GRPCAddr()), "PRI * HTTP/2.0\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(open(t, s.HTTPAddr()), "GET /v1/pla"); err != nil {
		t.Fatal(err)
	}
	s.stop()
	<-s.done
	if s.result != nil {
		t.Errorf("Run: %v", s.result)
	}
}

// A watch hears that the server does not serve any more before it ends, also
// where the drain has nothing to wait for.
func TestEveryWatchIsTold(t *testing.T) {
	for range 20 {
		s := start(t, edge.Config{}, &fake{})
		client := healthv1.NewHealthClient(s.dial())
		var watches []healthv1.Health_WatchClient
		for range 5 {
			w, err := client.Watch(t.Context(), &healthv1.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if r, err := w.Recv(); err != nil || r.GetStatus() != healthv1.HealthCheckResponse_SERVING {
				t.Fatalf("watch: %v %v", r, err)
			}
			watches = append(watches, w)
		}
		s.stop()
		for _, w := range watches {
			if r, err := w.Recv(); err != nil || r.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
				t.Errorf("watch while draining: %v %v", r, err)
			}
			if _, err := w.Recv(); codeOf(err) != codes.Unavailable {
				t.Errorf("the watch goes on: %v", err)
			}
		}
		<-s.done
		if s.result != nil {
			t.Errorf("Run: %v", s.result)
		}
	}
}

// A request that is answered without its body must not wait for it for ever.
func TestBodyThatIsNeverSent(t *testing.T) {
	s := start(t, edge.Config{DefaultTimeout: 200 * time.Millisecond}, &fake{})
	for _, path := range []string{"/healthz", "/openapi.json", "/v1/players?x=%ff", "/v1/players"} {
		c := open(t, s.HTTPAddr())
		if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", path); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			continue // closed: fine, too
		}
		if res.StatusCode < 400 || res.StatusCode >= 500 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
		_, _ = io.Copy(io.Discard, c) // until the server closes
		_ = res.Body.Close()
	}
}

// A request may last longer than the default time-out if it says so, and the
// connection is as good as new afterwards.
func TestLongRequestOnAKeptConnection(t *testing.T) {
	b := newBlocker()
	s := start(t, edge.Config{DefaultTimeout: 50 * time.Millisecond}, &fake{read: b.read})
	for range 2 {
		long := make(chan answer, 1)
		go func() {
			a, err := s.try(http.MethodGet, "/v1/players/1", nil, "Grpc-Timeout", "30S")
			if err != nil {
				t.Error(err)
			}
			long <- a
		}()
		<-b.entered
		// Meanwhile the default passes for others.
		if a := s.do(http.MethodGet, "/v1/players/2", ""); a.Code != 504 {
			t.Errorf("default time-out: %d %s", a.Code, a.Body)
		}
		<-b.entered
		b.release <- struct{}{}
		if a := <-long; a.Code != 200 {
			t.Errorf("long request: %d %s", a.Code, a.Body)
		}
	}
}

// Headers are bounded on both protocols.
func TestHeaderLimit(t *testing.T) {
	s := start(t, edge.Config{}, &fake{})
	big := strings.Repeat("x", 200<<10)
	_, err := s.client().ReadPlayer(metadata.AppendToOutgoingContext(t.Context(), "x-big", big), &rpgv1.ReadPlayerRequest{})
	if err == nil {
		t.Error("gRPC: no error")
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.HTTPAddr()+"/v1/players/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Big", big)
	res, err := s.web.Do(req)
	if err == nil {
		defer func() { _ = res.Body.Close() }()
		if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("HTTP: %d", res.StatusCode)
		}
	}
	if _, err := s.client().ReadPlayer(metadata.AppendToOutgoingContext(t.Context(), "x-big", big[:32<<10]), &rpgv1.ReadPlayerRequest{}); err != nil {
		t.Errorf("within the limit: %v", err)
	}
}
