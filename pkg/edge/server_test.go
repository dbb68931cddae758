package edge_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
)

func TestHealth(t *testing.T) {
	s := start(t, edge.Config{}, &fake{})
	client := healthv1.NewHealthClient(s.dial())
	check := func(serving bool) {
		t.Helper()
		for _, name := range []string{"", "rpg.v1.RpgService"} {
			r, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: name})
			if err != nil || (r.GetStatus() == healthv1.HealthCheckResponse_SERVING) != serving {
				t.Errorf("health of %q: %v %v", name, r, err)
			}
		}
		want := http.StatusOK
		if !serving {
			want = http.StatusServiceUnavailable
		}
		if a := s.do(http.MethodGet, "/readyz", ""); a.Code != want {
			t.Errorf("readyz: %d", a.Code)
		}
		if a := s.do(http.MethodGet, "/healthz", ""); a.Code != http.StatusOK {
			t.Errorf("healthz: %d", a.Code)
		}
	}
	check(true)
	s.SetServing(false)
	check(false)
	s.SetServing(true)
	check(true)
	if a := s.do(http.MethodHead, "/healthz", ""); a.Code != 200 || a.Body != "" {
		t.Errorf("HEAD: %d %q", a.Code, a.Body)
	}
}

func TestReflection(t *testing.T) {
	s := start(t, edge.Config{}, &fake{})
	stream, err := reflectionv1.NewServerReflectionClient(s.dial()).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil || !strings.Contains(r.String(), "rpg.v1.RpgService") {
		t.Errorf("%v %v", r, err)
	}
}

// Health says not serving while accepted requests still run; they are
// answered; nothing new is accepted; streams that last for ever do not hold
// the drain up.
func TestDrain(t *testing.T) {
	b := newBlocker()
	s := start(t, edge.Config{DrainTimeout: 20 * time.Second}, &fake{read: b.read})
	conn := s.dial()
	watch, err := healthv1.NewHealthClient(conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := watch.Recv(); err != nil || r.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Fatalf("watch: %v %v", r, err)
	}
	idle, err := reflectionv1.NewServerReflectionClient(s.dial()).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client := rpgv1.NewRpgServiceClient(conn)
	var waiting sync.WaitGroup
	for range 5 {
		waiting.Go(func() {
			if r, err := client.ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{Id: "g"}); err != nil || r.GetId() != "g" {
				t.Errorf("accepted gRPC request: %v %v", r, err)
			}
		})
		waiting.Go(func() {
			if a, err := s.try(http.MethodGet, "/v1/players/h", nil); err != nil || a.Code != 200 {
				t.Errorf("accepted HTTP request: %v %v", a, err)
			}
		})
	}
	for range 10 {
		<-b.entered
	}
	s.stop()
	if r, err := watch.Recv(); err != nil || r.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("watch while draining: %v %v", r, err)
	}
	if _, err := watch.Recv(); codeOf(err) != codes.Unavailable {
		t.Errorf("the watch goes on: %v", err)
	}
	if _, err := idle.Recv(); err == nil {
		t.Error("reflection goes on")
	}
	s.SetServing(true)
	if s.Serving() {
		t.Error("a server that drains can be set to serving")
	}
	eventually(t, "no new connection is accepted", func() bool {
		for _, addr := range []string{s.HTTPAddr(), s.GRPCAddr()} {
			if c, err := net.Dial("tcp", addr); err == nil {
				_ = c.Close()
				return false
			}
		}
		return true
	})
	select {
	case <-s.done:
		t.Fatal("Run returned before the accepted requests were finished")
	default:
	}
	close(b.release)
	waiting.Wait()
	<-s.done
	if s.result != nil {
		t.Errorf("Run: %v", s.result)
	}
}

// While the drain is delayed, requests are served and health says not serving.
func TestDrainDelay(t *testing.T) {
	s := start(t, edge.Config{DrainDelay: 500 * time.Millisecond}, &fake{})
	client := s.client()
	s.stop()
	eventually(t, "health says not serving", func() bool { return !s.Serving() })
	if a := s.do(http.MethodGet, "/readyz", ""); a.Code != 503 {
		t.Errorf("readyz: %d", a.Code)
	}
	if a := s.do(http.MethodGet, "/v1/players/1", ""); a.Code != 200 {
		t.Errorf("HTTP: %d", a.Code)
	}
	if _, err := client.ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{}); err != nil {
		t.Errorf("gRPC: %v", err)
	}
}

func TestDrainTimeout(t *testing.T) {
	b := newBlocker()
	s := start(t, edge.Config{DrainTimeout: 50 * time.Millisecond}, &fake{read: b.read})
	var waiting sync.WaitGroup
	client := s.client()
	waiting.Go(func() {
		if _, err := client.ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{}); err == nil {
			t.Error("gRPC: no error")
		}
	})
	waiting.Go(func() {
		if a, err := s.try(http.MethodGet, "/v1/players/1", nil); err == nil && a.Code < 400 {
			t.Errorf("HTTP: %v", a)
		}
	})
	<-b.entered
	<-b.entered
	s.stop()
	<-s.done
	if s.result == nil || !strings.Contains(s.result.Error(), "2 requests did not finish") {
		t.Errorf("Run: %v", s.result)
	}
	waiting.Wait()
}

func TestTwoServersInOneProcess(t *testing.T) {
	named := func(name string) *fake {
		return &fake{read: func(context.Context, *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
			return &rpgv1.Player{Id: name}, nil
		}}
	}
	a := start(t, edge.Config{MaxRequestBytes: 100}, named("a"))
	b := start(t, edge.Config{}, named("b"))
	a.SetServing(false)
	for _, c := range []struct {
		s     *running
		name  string
		ready int
		big   int
	}{{a, "a", 503, 413}, {b, "b", 200, 200}} {
		if r, err := c.s.client().ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{}); err != nil || r.GetId() != c.name {
			t.Errorf("%s: %v %v", c.name, r, err)
		}
		if r := c.s.do(http.MethodGet, "/v1/players/1", ""); r.Code != 200 || !strings.Contains(r.Body, `"`+c.name+`"`) {
			t.Errorf("%s: %s", c.name, r.Body)
		}
		if r := c.s.do(http.MethodGet, "/readyz", ""); r.Code != c.ready {
			t.Errorf("%s: readyz %d", c.name, r.Code)
		}
		if r := c.s.do(http.MethodPost, "/v1/players", `{"username":"`+strings.Repeat("x", 200)+`"}`); r.Code != c.big {
			t.Errorf("%s: big request %d", c.name, r.Code)
		}
	}
	a.stop()
	<-a.done
	if r := b.do(http.MethodGet, "/v1/players/1", ""); r.Code != 200 {
		t.Errorf("b after a stopped: %d", r.Code)
	}
}

func TestFaultsAtStart(t *testing.T) {
	_, err := edge.New(edge.Config{HTTPAddr: "x", GRPCAddr: "y", MaxInFlight: -1, MaxRequestBytes: -1})
	for _, want := range []string{"HTTPAddr", "GRPCAddr", "MaxInFlight", "MaxRequestBytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in %v", want, err)
		}
	}
	s := start(t, edge.Config{}, &fake{})
	for _, cfg := range []edge.Config{{HTTPAddr: s.HTTPAddr()}, {GRPCAddr: s.GRPCAddr()}} {
		other, err := edge.New(cfg, (&fake{}).service(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
			t.Errorf("address in use: %v", err)
		}
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("Run twice")
	}
}
