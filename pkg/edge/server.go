package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// Server serves services over gRPC and HTTP. Its methods are safe for
// concurrent use.
type Server struct {
	cfg      Config
	services []Service
	openapi  *openapi
	limit    *limiter
	health   *health.Server
	mux      *runtime.ServeMux
	api      http.Handler // what is neither fixed nor a WebSocket
	// public takes gRPC clients, inner what the gateway passes on. They share
	// everything but the size limit: JSON that is within it may be longer in
	// protobuf.
	public, inner *grpc.Server
	// What envelopes can name, called without a connection between.
	methods methodTable
	codec   *jsonCodec
	sockets *sockets
	tell    *serverTelemetry
	faults  []error // of services, while New registers them

	started  atomic.Bool
	ready    chan struct{}
	draining chan struct{} // closed when streams of our own have to end

	mu       sync.Mutex
	names    []string // of the services
	serving  bool
	stopping bool
	httpAddr string
	grpcAddr string
}

// New returns a server that serves the services once it runs.
func New(cfg Config, services ...Service) (*Server, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	s := &Server{
		cfg: cfg, services: services, limit: &limiter{max: cfg.MaxInFlight}, health: health.NewServer(),
		ready: make(chan struct{}), draining: make(chan struct{}), serving: true,
		methods: methodTable{}, codec: newJSONCodec(), sockets: &sockets{max: cfg.WebSocket.MaxConnections},
	}
	documents := make([][]byte, len(services))
	for i, service := range services {
		if service.Register == nil {
			return nil, fmt.Errorf("edge: service %d has no Register", i)
		}
		documents[i] = service.OpenAPI
	}
	var err error
	if s.tell, err = newServerTelemetry(cfg); err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	if s.openapi, err = newOpenAPI(documents...); err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	s.public = s.newGRPC(cfg.MaxRequestBytes)
	s.inner = s.newGRPC(math.MaxInt32)
	for _, service := range services {
		service.Register(registrar{server: s, target: s.public})
		service.Register(registrar{server: s, target: s.inner, gateway: true})
	}
	edgev1.RegisterBatchServiceServer(registrar{server: s, target: s.public}, batchService{server: s})
	if err := errors.Join(s.faults...); err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	healthv1.RegisterHealthServer(s.public, s.health)
	reflection.Register(s.public)
	s.mux = s.newMux()
	s.api = s.crossOrigin(http.HandlerFunc(s.serveAPI))
	s.SetServing(true)
	return s, nil
}

// maxHeaderBytes bounds the headers of a request on both protocols.
const maxHeaderBytes = 64 << 10

func (s *Server) newGRPC(maxBytes int) *grpc.Server {
	return grpc.NewServer(
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(maxBytes),
		grpc.MaxSendMsgSize(math.MaxInt32),
		// A connection that says nothing would hold the drain up that long.
		grpc.ConnectionTimeout(min(5*time.Second, s.cfg.DrainTimeout/2)),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.ChainStreamInterceptor(s.endWithServer),
		grpc.UnknownServiceHandler(s.refuseUnknown),
	)
}

// Run listens and serves until ctx ends, then drains: health says not serving,
// nothing new is accepted after DrainDelay, and what was accepted is finished.
// It returns nil after a complete drain, else an error that says what failed
// or was cut off. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	if !s.started.CompareAndSwap(false, true) {
		return errors.New("edge: Run was called before")
	}
	var listen net.ListenConfig
	httpListener, err := listen.Listen(ctx, "tcp", s.cfg.HTTPAddr)
	if err != nil {
		return cannotListen("HTTP", err)
	}
	grpcListener, err := listen.Listen(ctx, "tcp", s.cfg.GRPCAddr)
	if err != nil {
		return errors.Join(cannotListen("gRPC", err), httpListener.Close())
	}
	pipe := bufconn.Listen(256 << 10)
	conn, err := s.connect(ctx, pipe)
	if err != nil {
		return errors.Join(fmt.Errorf("edge: %w", err), httpListener.Close(), grpcListener.Close(), pipe.Close())
	}
	// Requests do not end with ctx: they have until the end of the drain.
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	web := &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: 10 * time.Second,
		// For requests that are answered without their body, too: what they still
		// send is read to its end. serveAPI sets its own.
		ReadTimeout:    s.cfg.DefaultTimeout,
		WriteTimeout:   s.cfg.DefaultTimeout + writeGrace,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: maxHeaderBytes,
		BaseContext:    func(net.Listener) context.Context { return work },
		ErrorLog:       slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
	// The group's context ends when one of the servers fails.
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	group.Go(func() error { return s.inner.Serve(pipe) })
	group.Go(func() error { return s.public.Serve(grpcListener) })
	group.Go(func() error {
		if err := web.Serve(httpListener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	s.mu.Lock()
	s.httpAddr, s.grpcAddr = httpListener.Addr().String(), grpcListener.Addr().String()
	s.mu.Unlock()
	close(s.ready)
	s.cfg.Logger.InfoContext(ctx, "edge is ready", "http", s.HTTPAddr(), "grpc", s.GRPCAddr())

	delay := s.cfg.DrainDelay
	select {
	case <-ctx.Done():
	case <-failed.Done():
		delay = 0
	}
	drained := s.drain(web, delay, cut)
	err = errors.Join(group.Wait(), conn.Close(), drained)
	if err != nil {
		return fmt.Errorf("edge: %w", err)
	}
	return nil
}

// cannotListen says why an address cannot be served.
func cannotListen(what string, err error) error {
	hint := ""
	if errors.Is(err, syscall.EADDRINUSE) {
		hint = "; is another edge running there? Choose another address, or port 0 for a free one"
	}
	return txn.Errorf(txn.CodeFailedPrecondition, "edge: %s address: %w%s", what, err, hint)
}

// connect opens the gateway's connection to the inner server.
func (s *Server) connect(ctx context.Context, pipe *bufconn.Listener) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///edge",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithIdleTimeout(0),
	)
	if err != nil {
		return nil, err
	}
	for i, service := range s.services {
		if service.Gateway == nil {
			continue
		}
		if err := service.Gateway(context.WithoutCancel(ctx), s.mux, conn); err != nil {
			return nil, errors.Join(fmt.Errorf("gateway of service %d: %w", i, err), conn.Close())
		}
	}
	return conn, nil
}

// drain stops both servers. cut ends what is left after DrainTimeout.
func (s *Server) drain(web *http.Server, delay time.Duration, cut context.CancelFunc) error {
	s.mu.Lock()
	s.serving, s.stopping = false, true
	s.health.Shutdown()
	s.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay) // requests are still served
	}
	s.sockets.close()
	close(s.draining)
	timeout := time.NewTimer(s.cfg.DrainTimeout)
	defer timeout.Stop()
	end, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	var stopping sync.WaitGroup
	finished := make(chan struct{})
	stopping.Go(func() { _ = web.Shutdown(end) })
	stopping.Go(s.public.GracefulStop)
	stopping.Go(s.sockets.wait)
	go func() {
		defer close(finished)
		stopping.Wait()
	}()
	var cutOff error
	select {
	case <-finished:
	case <-timeout.C:
		if n := s.limit.count(); n > 0 { // else only connections were left
			cutOff = fmt.Errorf("%d requests did not finish within the drain time-out of %v and were cut off", n, s.cfg.DrainTimeout)
		}
		cut()
		giveUp()
		cutOff = errors.Join(cutOff, web.Close())
		s.public.Stop() // makes GracefulStop return
		<-finished
	}
	s.inner.Stop()
	// What was cut off sees its context end; give it the time to notice.
	last, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if stuck := s.limit.wait(last); stuck > 0 {
		return errors.Join(cutOff, fmt.Errorf("%d requests ignore that their context has ended", stuck))
	}
	return cutOff
}

// Ready is closed when both addresses listen.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// HTTPAddr returns the address that HTTP is served at; "" before Ready.
func (s *Server) HTTPAddr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.httpAddr
}

// GRPCAddr returns the address that gRPC is served at; "" before Ready.
func (s *Server) GRPCAddr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grpcAddr
}

// SetServing sets what health (gRPC and /readyz) says. A new server is
// serving; one that drains is not, whatever is set.
func (s *Server) SetServing(serving bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return
	}
	s.serving = serving
	state := healthv1.HealthCheckResponse_NOT_SERVING
	if serving {
		state = healthv1.HealthCheckResponse_SERVING
	}
	for _, name := range append([]string{""}, s.names...) {
		s.health.SetServingStatus(name, state)
	}
}

// Serving returns what health says.
func (s *Server) Serving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.serving
}

func (s *Server) named(service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.names, service) {
		s.names = append(s.names, service)
	}
}
