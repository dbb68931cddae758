package edge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a service whose methods do what the test says. What is not set
// echoes.
type fake struct {
	rpgv1.UnimplementedRpgServiceServer
	create func(context.Context, *rpgv1.CreatePlayerRequest) (*rpgv1.Player, error)
	read   func(context.Context, *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error)
	update func(context.Context, *rpgv1.UpdatePlayerRequest) (*rpgv1.Player, error)

	character func(context.Context, *rpgv1.CreateCharacterRequest) (*rpgv1.Character, error)
}

func (f *fake) CreatePlayer(ctx context.Context, in *rpgv1.CreatePlayerRequest) (*rpgv1.Player, error) {
	if f.create != nil {
		return f.create(ctx, in)
	}
	if in.GetPlayer() == nil {
		return &rpgv1.Player{Id: "no player was given"}, nil
	}
	return in.GetPlayer(), nil
}

func (f *fake) ReadPlayer(ctx context.Context, in *rpgv1.ReadPlayerRequest) (*rpgv1.PlayerView, error) {
	if f.read != nil {
		p, err := f.read(ctx, in)
		if err != nil {
			return nil, err
		}
		return &rpgv1.PlayerView{Id: p.GetId(), Username: p.GetUsername(), Active: p.GetActive(), LimitsId: p.GetLimitsId()}, nil
	}
	return &rpgv1.PlayerView{Id: in.GetId()}, nil
}

func (f *fake) UpdatePlayer(ctx context.Context, in *rpgv1.UpdatePlayerRequest) (*rpgv1.Player, error) {
	return f.update(ctx, in)
}

func (f *fake) CreateCharacter(ctx context.Context, in *rpgv1.CreateCharacterRequest) (*rpgv1.Character, error) {
	if f.character != nil {
		return f.character(ctx, in)
	}
	return in.GetCharacter(), nil
}

func (f *fake) FundCharacter(_ context.Context, in *rpgv1.FundCharacterRequest) (*rpgv1.Character, error) {
	return &rpgv1.Character{Id: in.GetId(), Currency: in.GetCurrency(), Items: in.GetItems()}, nil
}

func (f *fake) service(t testing.TB) edge.Service {
	doc, err := os.ReadFile("../../examples/rpg/proto/rpg/v1/edge.openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	return edge.Service{
		Register: func(r grpc.ServiceRegistrar) { rpgv1.RegisterRpgServiceServer(r, f) },
		Gateway:  rpgv1.RegisterRpgServiceHandler,
		OpenAPI:  doc,
	}
}

// running is a server that runs for the length of a test.
type running struct {
	*edge.Server
	t      testing.TB
	stop   context.CancelFunc
	done   chan struct{}
	result error
	web    *http.Client
	once   sync.Once
	shared *grpc.ClientConn
}

func start(t testing.TB, cfg edge.Config, f *fake) *running {
	t.Helper()
	return startServices(t, cfg, f.service(t))
}

func startServices(t testing.TB, cfg edge.Config, services ...edge.Service) *running {
	t.Helper()
	s, err := edge.New(cfg, services...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	r := &running{Server: s, t: t, stop: stop, done: make(chan struct{}), web: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
	go func() {
		defer close(r.done)
		r.result = s.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-r.done
		transport.CloseIdleConnections()
	})
	select {
	case <-s.Ready():
	case <-r.done:
		t.Fatalf("Run: %v", r.result)
	}
	return r
}

func (r *running) dial() *grpc.ClientConn {
	r.t.Helper()
	conn, err := grpc.NewClient(r.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (r *running) client() rpgv1.RpgServiceClient { return rpgv1.NewRpgServiceClient(r.dial()) }

// answer is what came back over HTTP.
type answer struct {
	Code   int
	Header http.Header
	Body   string
	Status struct {
		Code    int
		Message string
		Details []struct {
			Type     string `json:"@type"`
			Reason   string
			Domain   string
			Metadata map[string]string
		}
	}
}

func (a answer) reason() string {
	for _, d := range a.Status.Details {
		if d.Type == "type.googleapis.com/google.rpc.ErrorInfo" {
			return d.Reason
		}
	}
	return ""
}

func (r *running) try(method, path string, body io.Reader, headers ...string) (answer, error) {
	req, err := http.NewRequest(method, "http://"+r.HTTPAddr()+path, body)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] != "" {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	res, err := r.web.Do(req)
	if err != nil {
		return answer{}, err
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return answer{}, err
	}
	a := answer{Code: res.StatusCode, Header: res.Header, Body: string(text)}
	if res.StatusCode >= 400 {
		if err := json.Unmarshal(text, &a.Status); err != nil {
			return a, fmt.Errorf("%d %s: the error is no google.rpc.Status: %w: %q", res.StatusCode, path, err, text)
		}
		if a.Header.Get("Content-Type") != "application/json" || a.Status.Code == 0 || a.Status.Message == "" || a.reason() == "" {
			return a, fmt.Errorf("%d %s: incomplete error: %v %q", res.StatusCode, path, a.Header, text)
		}
	}
	return a, nil
}

func (r *running) do(method, path, body string, headers ...string) answer {
	r.t.Helper()
	a, err := r.try(method, path, strings.NewReader(body), headers...)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// logs collects log lines.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
