package edge

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rocketcycle/rocketcycle/pkg/edge/frame"
)

// SocketPath is where WebSockets are opened.
const SocketPath = "/v1/ws"

// ReasonOrigin is the reason in the google.rpc.ErrorInfo of a page that may not
// connect.
const ReasonOrigin = "FOREIGN_ORIGIN"

// sockets counts the open connections. Neither http.Server nor gRPC knows them.
type sockets struct {
	max int

	mu     sync.Mutex
	open   int
	closed bool
	none   chan struct{} // closed when open falls to 0; nil if nobody waits
}

// enter refuses a connection if there are too many, or the server stops.
func (c *sockets) enter() *status.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return stopping()
	}
	if c.open >= c.max {
		return retriable(newStatus(codes.ResourceExhausted, ReasonOverloaded, nil,
			"%d WebSockets are open at this edge, its limit; try again later, or another edge", c.max))
	}
	c.open++
	return nil
}

func (c *sockets) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open--; c.open == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
}

// close refuses every connection from now on.
func (c *sockets) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

// wait returns when none is open. One caller.
func (c *sockets) wait() {
	c.mu.Lock()
	if c.open == 0 {
		c.mu.Unlock()
		return
	}
	none := make(chan struct{})
	c.none = none
	c.mu.Unlock()
	<-none
}

func stopping() *status.Status {
	return retriable(newStatus(codes.Unavailable, "", nil, "the edge stops; nothing was done, try another one"))
}

// serveSocket makes a WebSocket of a request and serves it until it ends.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	if s.cfg.WebSocket.Disabled {
		s.noRoute(w, r, http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet {
		s.notAllowed(w, r, []string{http.MethodGet})
		return
	}
	codec, code, st := s.checkUpgrade(r)
	if st != nil {
		if code == http.StatusUpgradeRequired {
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
		}
		writeStatus(w, code, st)
		return
	}
	if st := s.sockets.enter(); st != nil {
		s.fail(w, st)
		return
	}
	defer s.sockets.leave()
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:       []string{codec.String()},
		InsecureSkipVerify: true, // checkUpgrade has verified the origin
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		return // Accept has answered
	}
	c := newConn(s, ws, httpOrigin("websocket", codec, r))
	c.serve(r.Context())
}

// checkUpgrade says whether, and with which encoding, a WebSocket may be made
// of a request. Nothing has been allocated for it yet.
func (s *Server) checkUpgrade(r *http.Request) (frame.Codec, int, *status.Status) {
	if !slices.ContainsFunc(headerTokens(r.Header, "Upgrade"), func(t string) bool { return strings.EqualFold(t, "websocket") }) ||
		r.ProtoMajor != 1 {
		return 0, http.StatusUpgradeRequired, newStatus(codes.InvalidArgument, "", nil, "%s is for WebSockets, over HTTP/1.1", SocketPath)
	}
	if o := r.Header.Get("Origin"); !s.originAllowed(o, r.Host) {
		return 0, http.StatusForbidden, newStatus(codes.PermissionDenied, ReasonOrigin, nil, "pages from %q may not connect to this edge", o)
	}
	offered := headerTokens(r.Header, "Sec-WebSocket-Protocol")
	for _, p := range offered {
		if codec, ok := frame.Of(p); ok {
			return codec, 0, nil
		}
	}
	return 0, http.StatusBadRequest, newStatus(codes.InvalidArgument, "", nil,
		"none of the subprotocols %q is spoken here; there are %s and %s", offered, frame.SubprotocolJSON, frame.SubprotocolProto)
}

// originAllowed checks the page that a browser says it connects for. What is
// not a browser says nothing.
func (s *Server) originAllowed(origin, host string) bool {
	if origin == "" {
		return true
	}
	allowed := s.cfg.AllowedOrigins
	if slices.Contains(allowed, "*") || slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, origin) }) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

func headerTokens(h http.Header, name string) (out []string) {
	for _, line := range h.Values(name) {
		for t := range strings.SplitSeq(line, ",") {
			if t = strings.TrimSpace(t); t != "" {
				out = append(out, t)
			}
		}
	}
	return out
}

// closing is why a connection ends.
type closing struct {
	code   websocket.StatusCode
	reason string
}

// Error implements error.
func (c *closing) Error() string { return fmt.Sprintf("%d: %s", c.code, c.reason) }
