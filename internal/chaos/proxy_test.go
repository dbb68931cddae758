package chaos

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rocketcycle/rocketcycle/internal/devbroker"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// What is cut arrives when the link is whole again, and not before.
func TestLinkHoldsBack(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	p, err := newTCPProxy(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	c, err := net.Dial("tcp", p.addr()) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	echo := func(send string, wait time.Duration) error {
		t.Helper()
		if _, err := c.Write([]byte(send)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(wait))
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	if err := echo("a", patience); err != nil {
		t.Fatal(err)
	}
	for _, way := range [][2]bool{{true, false}, {false, true}, {true, true}} {
		p.link.cut(way[0], way[1])
		if echo("b", 50*time.Millisecond) == nil {
			t.Errorf("cut %v: an answer came", way)
		}
		p.link.heal()
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Errorf("cut %v, healed: %v", way, err)
		}
	}
	p.link.shut(true)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlives that its link is shut")
	}
}

// Clients that began at the proxy stay there, and a rule sees all they send.
func TestKafkaProxyKeepsClients(t *testing.T) {
	b, err := devbroker.StartEmbedded(t.Context(), devbroker.EmbeddedConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	p, err := newKafkaProxy(b.Bootstrap())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	seen := make(chan kmsg.Key, 10_000)
	p.judge(func(r *request) verdict { seen <- r.key; return forward }, nil)
	cfg := stream.Config{Bootstrap: p.bootstrap()}
	admin, err := stream.NewAdmin(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.EnsureTopics(t.Context(), []stream.TopicSpec{{Name: "t", Partitions: 1, Replication: 1}}); err != nil {
		t.Fatal(err)
	}
	tx, err := stream.NewTransactor(t.Context(), cfg, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Close()
	if _, err := tx.Commit(t.Context(), []stream.Record{{Topic: "t", Value: []byte("v")}}, nil, nil); err != nil {
		t.Fatal(err)
	}
	reader, err := stream.NewReader(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	n := 0
	if _, err := reader.ReadTo(t.Context(), stream.TopicPartition{Topic: "t"}, stream.OffsetBeginning, func(stream.Record) error { n++; return nil }); err != nil || n != 1 {
		t.Fatalf("%d records, %v", n, err)
	}
	found := map[kmsg.Key]bool{}
	for len(seen) > 0 {
		found[<-seen] = true
	}
	for _, k := range []kmsg.Key{kmsg.Metadata, kmsg.FindCoordinator, kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.Produce, kmsg.EndTxn, kmsg.Fetch} {
		if !found[k] {
			t.Errorf("no %s came through the proxy", k.Name())
		}
	}
}
