package chaos

import (
	"context"
	"net"
	"sync"
	"time"
)

// link is what lies between a process and a server: faults are switched on and
// off here, and take effect for connections that are there and new ones. What is
// held back is delivered when the fault ends, as TCP does.
type link struct {
	mu      sync.Mutex
	changed chan struct{}
	// noRequests and noAnswers hold back one direction each.
	noRequests, noAnswers bool
	refuse                bool
	delay                 time.Duration
	conns                 map[net.Conn]struct{}
	closed                bool
}

func newLink() *link { return &link{changed: make(chan struct{}), conns: map[net.Conn]struct{}{}} }

func (l *link) set(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
	close(l.changed)
	l.changed = make(chan struct{})
}

// cut holds back what goes to the server, what comes from it, or both.
func (l *link) cut(requests, answers bool) {
	l.set(func() { l.noRequests, l.noAnswers = requests, answers })
}

// slow delays each piece of data, in each direction.
func (l *link) slow(d time.Duration) { l.set(func() { l.delay = d }) }

// shut refuses connections, those that are there included, until it is opened.
func (l *link) shut(on bool) {
	l.set(func() { l.refuse = on })
	if on {
		l.reset()
	}
}

// heal ends every fault.
func (l *link) heal() {
	l.set(func() { l.noRequests, l.noAnswers, l.refuse, l.delay = false, false, false, 0 })
}

// reset closes every connection.
func (l *link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
}

// admit registers a connection; false says that it is refused.
func (l *link) admit(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse || l.closed {
		_ = c.Close()
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *link) leave(c net.Conn) {
	_ = c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

func (l *link) close() {
	l.set(func() { l.closed = true })
	l.reset()
}

// pass returns when data may go on its way; false says that the link is gone.
func (l *link) pass(answer bool) bool {
	waited := false
	for {
		l.mu.Lock()
		held := l.noRequests && !answer || l.noAnswers && answer
		changed, delay, closed := l.changed, l.delay, l.closed
		l.mu.Unlock()
		switch {
		case closed:
			return false
		case held:
			<-changed
		case delay > 0 && !waited:
			waited = true
			select {
			case <-time.After(delay):
			case <-changed:
			}
		default:
			return true
		}
	}
}

// tcpProxy forwards connections to one server over a link.
type tcpProxy struct {
	link     *link
	listener net.Listener
	target   string
	wg       sync.WaitGroup
}

func newTCPProxy(target string) (*tcpProxy, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &tcpProxy{link: newLink(), listener: l, target: target}
	p.wg.Go(p.serve)
	return p, nil
}

func (p *tcpProxy) addr() string { return p.listener.Addr().String() }

func (p *tcpProxy) serve() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		if !p.link.admit(c) {
			continue
		}
		p.wg.Go(func() {
			defer p.link.leave(c)
			s, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.target)
			if err != nil || !p.link.admit(s) {
				return
			}
			defer p.link.leave(s)
			var pumps sync.WaitGroup
			pumps.Go(func() { p.pump(c, s, false) })
			pumps.Go(func() { p.pump(s, c, true) })
			pumps.Wait()
		})
	}
}

func (p *tcpProxy) pump(from, to net.Conn, answer bool) {
	defer func() { _ = from.Close(); _ = to.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil || !p.link.pass(answer) {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *tcpProxy) close() {
	_ = p.listener.Close()
	p.link.close()
	p.wg.Wait()
}
