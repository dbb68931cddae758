package edge

import (
	"context"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// write sends what is in the outbox, pings, and ends the connection: when it is
// told to, is idle, or drains and everything is answered.
func (c *conn) write(ctx context.Context) {
	cfg := c.server.cfg.WebSocket
	ping := time.NewTicker(cfg.PingInterval)
	defer ping.Stop()
	idle := time.NewTimer(cfg.IdleTimeout)
	defer idle.Stop()
	var pings sync.WaitGroup
	defer pings.Wait()
	draining := c.server.draining
	for {
		if !c.flush(ctx) {
			return
		}
		select {
		case <-c.wake:
		case <-draining:
			draining = nil
			c.mu.Lock()
			c.draining = true
			c.mu.Unlock()
		case <-ping.C:
			pings.Go(func() { c.ping(ctx) })
		case <-idle.C:
			idle.Reset(c.idle())
		case <-ctx.Done():
			_ = c.ws.CloseNow()
			return
		}
	}
}

// flush writes until the outbox is empty. It returns false if the connection
// has ended.
func (c *conn) flush(ctx context.Context) bool {
	for {
		data, end := c.next()
		if end != nil {
			_ = c.ws.Close(end.code, end.reason) // bounded in time by the library
			return false
		}
		if data == nil {
			return true
		}
		within, cancel := context.WithTimeout(ctx, c.server.cfg.WebSocket.WriteTimeout)
		err := c.ws.Write(within, c.kind, data)
		cancel()
		<-c.room
		if err != nil {
			_ = c.ws.CloseNow()
			return false
		}
	}
}

// next returns the frame to write, or why the connection ends, or neither.
func (c *conn) next() ([]byte, *closing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil && c.draining && len(c.pending) == 0 && len(c.outbox) == 0 {
		c.end = &closing{websocket.StatusGoingAway, "the edge stops"}
	}
	if c.end != nil {
		return nil, c.end
	}
	if len(c.outbox) == 0 {
		c.outbox = nil // let go of what a burst has made
		return nil, nil
	}
	data := c.outbox[0]
	c.outbox[0] = nil
	c.outbox = c.outbox[1:]
	c.outboxBytes -= len(data)
	return data, nil
}

// ping ends a connection that nobody is at the other end of.
func (c *conn) ping(ctx context.Context) {
	if c.held.Load() {
		return // the pong would not be read
	}
	within, cancel := context.WithTimeout(ctx, c.server.cfg.WebSocket.WriteTimeout)
	defer cancel()
	if err := c.ws.Ping(within); err != nil && !c.held.Load() {
		_ = c.ws.CloseNow()
	}
}

// idle ends a connection that is not used. It returns when to look again.
func (c *conn) idle() time.Duration {
	limit := c.server.cfg.WebSocket.IdleTimeout
	c.mu.Lock()
	since, pending := time.Since(c.active), len(c.pending)
	c.mu.Unlock()
	switch {
	case pending > 0:
		return limit
	case since < limit:
		return limit - since
	}
	c.finish(websocket.StatusGoingAway, "idle")
	return limit
}
