package chaos

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// kafkaProxy stands between a process and all brokers. It has a listener per
// broker and rewrites addresses in answers, so that clients never leave it. A
// rule may look at every request and decide what becomes of it.
type kafkaProxy struct {
	link *link

	mu        sync.Mutex
	listeners map[string]net.Listener // by broker
	rule      func(*request) verdict
	answered  func(*request)
	closed    bool
	wg        sync.WaitGroup
	first     []string
}

// verdict is what becomes of a request.
type verdict int

const (
	forward verdict = iota
	// lose closes the connection; the broker never gets the request, unless
	// somebody delivers it.
	lose
	// loseAnswer lets the broker do it and closes the connection then.
	loseAnswer
)

// request is one request of a client. frame is all of it.
type request struct {
	key     kmsg.Key
	version int16
	id      int32
	frame   []byte
	broker  string
	// body is decoded for the requests of transactions only.
	body    kmsg.Request
	verdict verdict
}

// endTxn returns the request as an EndTxn; nil if it is none.
func (r *request) endTxn() *kmsg.EndTxnRequest {
	e, _ := r.body.(*kmsg.EndTxnRequest)
	return e
}

// transactional names the requests that a rule can look into.
func transactional(k kmsg.Key) bool {
	switch k {
	case kmsg.EndTxn, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.TxnOffsetCommit, kmsg.InitProducerID:
		return true
	}
	return false
}

func newKafkaProxy(bootstrap string) (*kafkaProxy, error) {
	p := &kafkaProxy{link: newLink(), listeners: map[string]net.Listener{}}
	for broker := range strings.SplitSeq(bootstrap, ",") {
		at, err := p.listen(broker)
		if err != nil {
			p.close()
			return nil, err
		}
		p.first = append(p.first, at)
	}
	return p, nil
}

// bootstrap is what clients are told.
func (p *kafkaProxy) bootstrap() string { return strings.Join(p.first, ",") }

// judge sets the rule for requests that come from now on; answered is told of
// those that the broker has answered, before the client is. Either may be nil.
func (p *kafkaProxy) judge(rule func(*request) verdict, answered func(*request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule, p.answered = rule, answered
}

// listen returns the address that stands for a broker.
func (p *kafkaProxy) listen(broker string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return "", net.ErrClosed
	}
	if l := p.listeners[broker]; l != nil {
		return l.Addr().String(), nil
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	p.listeners[broker] = l
	p.wg.Go(func() { p.serve(l, broker) })
	return l.Addr().String(), nil
}

func (p *kafkaProxy) close() {
	p.mu.Lock()
	p.closed = true
	for _, l := range p.listeners {
		_ = l.Close()
	}
	p.mu.Unlock()
	p.link.close()
	p.wg.Wait()
}

func (p *kafkaProxy) serve(l net.Listener, broker string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if !p.link.admit(c) {
			continue
		}
		p.wg.Go(func() {
			defer p.link.leave(c)
			s, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", broker)
			if err != nil || !p.link.admit(s) {
				return
			}
			defer p.link.leave(s)
			conn := &kafkaConn{proxy: p, broker: broker, client: c, server: s, flying: map[int32]*request{}}
			var pumps sync.WaitGroup
			pumps.Go(conn.requests)
			pumps.Go(conn.answers)
			pumps.Wait()
		})
	}
}

// deliver sends a request that was lost to its broker after all, on a
// connection of its own, and returns the first error code of the answer.
func deliver(r *request) (int16, error) {
	c, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", r.broker)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	if err := writeFrame(c, r.frame); err != nil {
		return 0, err
	}
	frame, err := readFrame(c)
	if err != nil {
		return 0, err
	}
	answer, _, err := decodeAnswer(r, frame)
	if err != nil {
		return 0, err
	}
	switch a := answer.(type) {
	case *kmsg.EndTxnResponse:
		return a.ErrorCode, nil
	case *kmsg.InitProducerIDResponse:
		return a.ErrorCode, nil
	case *kmsg.AddOffsetsToTxnResponse:
		return a.ErrorCode, nil
	case *kmsg.AddPartitionsToTxnResponse:
		for _, t := range a.Topics {
			for _, q := range t.Partitions {
				if q.ErrorCode != 0 {
					return q.ErrorCode, nil
				}
			}
		}
	case *kmsg.TxnOffsetCommitResponse:
		for _, t := range a.Topics {
			for _, q := range t.Partitions {
				if q.ErrorCode != 0 {
					return q.ErrorCode, nil
				}
			}
		}
	}
	return 0, nil
}

type kafkaConn struct {
	proxy          *kafkaProxy
	broker         string
	client, server net.Conn

	mu     sync.Mutex
	flying map[int32]*request
}

func (c *kafkaConn) close() { _ = c.client.Close(); _ = c.server.Close() }

func (c *kafkaConn) requests() {
	defer c.close()
	for {
		frame, err := readFrame(c.client)
		if err != nil {
			return
		}
		r, err := decodeRequest(frame)
		if err != nil {
			return
		}
		r.broker = c.broker
		c.proxy.mu.Lock()
		rule := c.proxy.rule
		c.proxy.mu.Unlock()
		if rule != nil {
			r.verdict = rule(r)
		}
		if r.verdict == lose {
			return
		}
		c.mu.Lock()
		c.flying[r.id] = r
		c.mu.Unlock()
		if !c.proxy.link.pass(false) || writeFrame(c.server, frame) != nil {
			return
		}
	}
}

func (c *kafkaConn) answers() {
	defer c.close()
	for {
		frame, err := readFrame(c.server)
		if err != nil || len(frame) < 4 {
			return
		}
		id := int32(binary.BigEndian.Uint32(frame)) //nolint:gosec // the same bits
		c.mu.Lock()
		r := c.flying[id]
		delete(c.flying, id)
		c.mu.Unlock()
		if r == nil {
			return
		}
		c.proxy.mu.Lock()
		answered := c.proxy.answered
		c.proxy.mu.Unlock()
		if answered != nil {
			answered(r)
		}
		if r.verdict == loseAnswer {
			return
		}
		if frame, err = c.proxy.rewrite(r, frame); err != nil {
			return
		}
		if !c.proxy.link.pass(true) || writeFrame(c.client, frame) != nil {
			return
		}
	}
}

// decodeRequest reads the header, and the body if a rule may want it.
func decodeRequest(frame []byte) (*request, error) {
	if len(frame) < 10 {
		return nil, errors.New("a request is too short")
	}
	r := &request{
		key:     kmsg.Key(binary.BigEndian.Uint16(frame)),                //nolint:gosec // the same bits
		version: int16(binary.BigEndian.Uint16(frame[2:])),               //nolint:gosec // the same bits
		id:      int32(binary.BigEndian.Uint32(frame[4:])), frame: frame, //nolint:gosec // the same bits
	}
	if !transactional(r.key) {
		return r, nil
	}
	r.body = kmsg.RequestForKey(r.key.Int16())
	r.body.SetVersion(r.version)
	rest := frame[8:]
	n := int(int16(binary.BigEndian.Uint16(rest))) //nolint:gosec // the same bits
	rest = rest[2:]
	if n > len(rest) {
		return nil, errors.New("a client id is too long")
	}
	rest = rest[max(n, 0):]
	if r.body.IsFlexible() {
		if len(rest) == 0 || rest[0] != 0 {
			return nil, errors.New("a request has tags in its header")
		}
		rest = rest[1:]
	}
	return r, r.body.ReadFrom(rest)
}

// decodeAnswer returns the answer, and how long its header is.
func decodeAnswer(r *request, frame []byte) (kmsg.Response, int, error) {
	answer := kmsg.ResponseForKey(r.key.Int16())
	answer.SetVersion(r.version)
	header := 4
	if answer.IsFlexible() {
		if len(frame) < 5 || frame[4] != 0 {
			return nil, 0, errors.New("an answer has tags in its header")
		}
		header = 5
	}
	if err := answer.ReadFrom(frame[header:]); err != nil {
		return nil, 0, fmt.Errorf("%v, version %d: %w", r.key, r.version, err)
	}
	return answer, header, nil
}

// rewrite replaces the brokers' addresses in an answer.
func (p *kafkaProxy) rewrite(r *request, frame []byte) ([]byte, error) {
	switch r.key {
	case kmsg.Metadata, kmsg.FindCoordinator, kmsg.DescribeCluster:
	case kmsg.Produce:
		if r.version < 10 {
			return frame, nil
		}
	case kmsg.Fetch:
		if r.version < 16 {
			return frame, nil
		}
	default:
		return frame, nil
	}
	answer, header, err := decodeAnswer(r, frame)
	if err != nil {
		return nil, err
	}
	changed := false
	replace := func(host *string, port *int32) {
		if *host == "" || err != nil {
			return
		}
		var at string
		if at, err = p.listen(net.JoinHostPort(*host, strconv.Itoa(int(*port)))); err != nil {
			return
		}
		h, text, _ := net.SplitHostPort(at)
		n, _ := strconv.Atoi(text)
		*host, *port, changed = h, int32(n), true //nolint:gosec // a port
	}
	switch a := answer.(type) {
	case *kmsg.MetadataResponse:
		for i := range a.Brokers {
			replace(&a.Brokers[i].Host, &a.Brokers[i].Port)
		}
	case *kmsg.FindCoordinatorResponse:
		replace(&a.Host, &a.Port)
		for i := range a.Coordinators {
			replace(&a.Coordinators[i].Host, &a.Coordinators[i].Port)
		}
	case *kmsg.DescribeClusterResponse:
		for i := range a.Brokers {
			replace(&a.Brokers[i].Host, &a.Brokers[i].Port)
		}
	case *kmsg.ProduceResponse:
		for i := range a.Brokers {
			replace(&a.Brokers[i].Host, &a.Brokers[i].Port)
		}
	case *kmsg.FetchResponse:
		for i := range a.Brokers {
			replace(&a.Brokers[i].Host, &a.Brokers[i].Port)
		}
	}
	if err != nil || !changed {
		return frame, err
	}
	return answer.AppendTo(frame[:header:header]), nil
}

func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > 200<<20 {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(r, frame)
	return frame, err
}

func writeFrame(w io.Writer, frame []byte) error {
	out := make([]byte, 4, 4+len(frame))
	binary.BigEndian.PutUint32(out, uint32(len(frame))) //nolint:gosec // below 200 MiB
	_, err := w.Write(append(out, frame...))
	return err
}
