package main

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// pgProxy stands between clients and PostgreSQL, and can hold each statement
// back or cut everybody off. It understands as much of the protocol as is needed
// to see statements.
type pgProxy struct {
	target   string
	listener net.Listener
	delay    atomic.Int64 // per statement, ns
	wg       sync.WaitGroup

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]struct{}
}

func newPgProxy(target string) (*pgProxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &pgProxy{target: target, listener: l, conns: map[net.Conn]struct{}{}}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	return p, nil
}

func (p *pgProxy) addr() string { return p.listener.Addr().String() }

// slow holds each statement back from now on.
func (p *pgProxy) slow(d time.Duration) { p.delay.Store(int64(d)) }

// cut ends all connections and refuses others, or lets them in again.
func (p *pgProxy) cut(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	if down {
		for c := range p.conns {
			_ = c.Close()
		}
	}
}

func (p *pgProxy) close() error {
	err := p.listener.Close()
	p.cut(true)
	p.wg.Wait()
	return err
}

// keep notes a connection, so that it can be cut. false: it is cut already.
func (p *pgProxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		_ = c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *pgProxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}

func (p *pgProxy) serve(client net.Conn) {
	if !p.keep(client) {
		return
	}
	defer p.drop(client)
	server, err := net.Dial("tcp", p.target)
	if err != nil || !p.keep(server) {
		return
	}
	defer p.drop(server)
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		_, _ = io.Copy(client, server)
		_ = client.Close() // ends the loop below
	}()
	_ = p.forward(server, client)
	_ = server.Close()
	<-answers
}

var errOversized = errors.New("a message of more than 1 GiB")

// forward copies what a client says, message by message.
func (p *pgProxy) forward(server io.Writer, client io.Reader) error {
	var head [5]byte
	for started := false; ; {
		typed := head[:]
		if !started { // the first message has no type
			typed = head[1:]
		}
		if _, err := io.ReadFull(client, typed); err != nil {
			return err
		}
		size := int64(binary.BigEndian.Uint32(head[1:])) - 4
		if size < 0 || size > 1<<30 {
			return errOversized
		}
		// E executes a statement that was prepared, Q is one in text.
		if d := time.Duration(p.delay.Load()); started && d > 0 && (head[0] == 'E' || head[0] == 'Q') {
			time.Sleep(d)
		}
		started = true
		if _, err := server.Write(typed); err != nil {
			return err
		}
		if _, err := io.CopyN(server, client, size); err != nil {
			return err
		}
	}
}
