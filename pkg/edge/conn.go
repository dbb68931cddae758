package edge

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rocketcycle/rocketcycle/pkg/edge/frame"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// conn is one WebSocket. One goroutine reads and one writes; each request that
// runs has its own.
//
//	reader ─► slot, goroutine ─► dispatch ─► outbox ─► writer
//
// A frame takes a place in room until its answer is written, so a client that
// does not read is not read from either, and what waits for it is bounded in
// number; the outbox bounds it in bytes.
type conn struct {
	server *Server
	ws     *websocket.Conn
	origin origin
	kind   websocket.MessageType
	room   chan struct{}
	wake   chan struct{} // tells the writer to look
	// held: the reader waits for room, so pongs are not seen.
	held     atomic.Bool
	requests sync.WaitGroup

	mu          sync.Mutex
	outbox      [][]byte
	outboxBytes int
	// pending are requests and batches that are not answered yet, with what
	// ends the wait for them.
	pending  map[string]context.CancelFunc
	draining bool
	end      *closing  // set once; nothing is sent after that
	active   time.Time // when a frame came last, or an answer was ready
}

func newConn(s *Server, ws *websocket.Conn, o origin) *conn {
	kind := websocket.MessageBinary
	if o.codec == frame.JSON {
		kind = websocket.MessageText
	}
	ws.SetReadLimit(int64(s.cfg.MaxRequestBytes))
	return &conn{
		server: s, ws: ws, origin: o, kind: kind,
		room: make(chan struct{}, s.cfg.WebSocket.MaxInFlight), wake: make(chan struct{}, 1),
		pending: map[string]context.CancelFunc{}, active: time.Now(),
	}
}

// serve returns when the connection has ended and nothing of it runs any more.
// ctx ends when accepted requests are to be cut off.
func (c *conn) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write(ctx)
	}()
	c.read(ctx, written)
	cancel() // nobody is there to be answered
	<-written
	c.requests.Wait()
	_ = c.ws.CloseNow()
}

// read takes frames until the connection ends.
func (c *conn) read(ctx context.Context, written <-chan struct{}) {
	for {
		kind, data, err := c.ws.Read(ctx)
		if err != nil {
			return
		}
		select {
		case c.room <- struct{}{}:
		default:
			c.held.Store(true)
			select {
			case c.room <- struct{}{}:
				c.held.Store(false)
			case <-written:
				return
			case <-ctx.Done():
				return
			}
		}
		c.take(ctx, kind, data)
	}
}

// take handles one frame. It has a place in room, which goes back when its
// answer is written.
func (c *conn) take(ctx context.Context, kind websocket.MessageType, data []byte) {
	if kind != c.kind {
		c.refuse("", newStatus(codes.InvalidArgument, "", nil, "a %v message, which %s has none of", kind, c.origin.codec))
		return
	}
	f, err := c.origin.codec.Client(data)
	id := frame.RequestID(f)
	if err != nil {
		c.refuse(id, newStatus(codes.InvalidArgument, "", nil, "%s", err))
		return
	}
	switch kind := f.GetKind().(type) {
	case *edgev1.ClientFrame_Request:
		c.begin(ctx, id, func(ctx context.Context) *edgev1.ServerFrame {
			return &edgev1.ServerFrame{Kind: &edgev1.ServerFrame_Answer{Answer: c.server.dispatch(ctx, c.origin, kind.Request)}}
		})
	case *edgev1.ClientFrame_Batch:
		c.begin(ctx, id, func(ctx context.Context) *edgev1.ServerFrame {
			out, st := c.server.runBatch(ctx, c.origin, kind.Batch, c.server.cfg.DefaultTimeout)
			if st != nil {
				return refusal(id, st)
			}
			return &edgev1.ServerFrame{Kind: &edgev1.ServerFrame_Batch{Batch: out}}
		})
	case *edgev1.ClientFrame_Cancel:
		c.cancel(id)
	default:
		c.refuse(id, newStatus(codes.InvalidArgument, "", nil, "a frame has exactly one of request, batch, cancel"))
	}
}

// begin runs a request or batch, if there is a slot for it.
func (c *conn) begin(ctx context.Context, id string, run func(context.Context) *edgev1.ServerFrame) {
	s := c.server
	if id == "" {
		c.refuse(id, newStatus(codes.InvalidArgument, "", nil, "request_id is missing; without one the answer could not be told from others"))
		return
	}
	if st := checkRequestID(id); st != nil {
		c.refuse(id, st)
		return
	}
	if !s.limit.take() {
		c.refuse(id, s.limit.refusal())
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	if st := c.register(id, cancel); st != nil {
		cancel()
		s.limit.give()
		c.refuse(id, st)
		return
	}
	c.requests.Go(func() {
		defer s.limit.give()
		defer cancel()
		c.answer(id, run(ctx))
	})
}

func (c *conn) register(id string, cancel context.CancelFunc) *status.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.end != nil || c.draining:
		return stopping()
	case c.pending[id] != nil:
		return newStatus(codes.AlreadyExists, "", nil, "request_id %q is that of a request which is not answered yet", id)
	}
	c.pending[id] = cancel
	c.active = time.Now()
	return nil
}

// cancel ends the wait for a request, whose answer is that of the cancel, too.
func (c *conn) cancel(id string) {
	c.mu.Lock()
	cancel := c.pending[id]
	c.mu.Unlock()
	if cancel == nil {
		c.refuse(id, newStatus(codes.NotFound, "", nil, "no request with request_id %q waits for its answer", id))
		return
	}
	cancel()
	<-c.room
}

func refusal(id string, st *status.Status) *edgev1.ServerFrame {
	return &edgev1.ServerFrame{Kind: &edgev1.ServerFrame_Answer{Answer: failed(id, st)}}
}

// refuse answers a frame that did not become a request.
func (c *conn) refuse(id string, st *status.Status) {
	if len(id) > maxRequestID {
		id = "" // it is no id of a request
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active = time.Now()
	c.send(refusal(id, st))
}

// answer ends a request: it is pending until its answer is in the outbox.
func (c *conn) answer(id string, f *edgev1.ServerFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
	c.active = time.Now()
	c.send(f)
}

// send puts a frame into the outbox. mu is held.
func (c *conn) send(f *edgev1.ServerFrame) {
	if c.end != nil {
		return
	}
	data, err := c.origin.codec.Marshal(f)
	if err != nil {
		c.server.cfg.Logger.Error("a frame cannot be encoded", "error", err)
		c.end = &closing{websocket.StatusInternalError, "a frame cannot be encoded"}
	} else {
		c.outbox = append(c.outbox, data)
		c.outboxBytes += len(data)
		// A single answer may be of any length.
		if c.outboxBytes > c.server.cfg.WebSocket.OutboxBytes && len(c.outbox) > 1 {
			c.end = &closing{websocket.StatusTryAgainLater, "answers are not read fast enough"}
			c.outbox, c.outboxBytes = nil, 0
		}
	}
	c.look()
}

// look wakes the writer up.
func (c *conn) look() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// finish makes the writer end the connection.
func (c *conn) finish(code websocket.StatusCode, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		c.end = &closing{code, reason}
	}
	c.look()
}
