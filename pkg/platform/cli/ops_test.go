package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rocketcycle/rocketcycle/examples/rpg/logic"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/examples/rpg/store"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// clumsy are the rules of the game, with a fault: 13 is too much for them.
type clumsy struct{ logic.Character }

func (c clumsy) Fund(ctx concern.Context, to *rpgv1.Character, in *rpgv1.Funds) (*rpgv1.Character, error) {
	if in.GetCurrency().GetGold() == 13 {
		panic("thirteen")
	}
	return c.Character.Fund(ctx, to, in)
}

func clumsyApp() node.Application {
	a := app()
	a.Concerns[1] = node.Concern{Definition: rpgv1.NewCharacter(clumsy{}), Mapping: store.CharacterMapping()}
	return a
}

// result is what a command has left.
type result struct {
	code     int
	out, err string
}

// game runs a command in this process.
func (s servers) game(ctx context.Context, args ...string) result {
	var out, errOut bytes.Buffer
	root := cli.New(clumsyApp())
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&errOut)
	err := root.ExecuteContext(ctx)
	r := result{code: cli.ExitCode(err), out: out.String(), err: errOut.String()}
	if err != nil {
		r.err += err.Error()
	}
	return r
}

// want checks the exit code, and that the output has every word.
func (s servers) want(t *testing.T, code int, words []string, args ...string) result {
	t.Helper()
	r := s.game(t.Context(), append(args, "-f", s.file)...)
	failed := t.Failed()
	if r.code != code {
		t.Errorf("%v: exit code %d, want %d", args, r.code, code)
	}
	for _, w := range words {
		if !strings.Contains(r.out+r.err, w) {
			t.Errorf("%v: the output lacks %q", args, w)
		}
	}
	if strings.Contains(r.out+r.err, s.postgres) {
		t.Errorf("%v: the output has the address of the database with its password", args)
	}
	if t.Failed() && !failed {
		t.Logf("%v:\n%s\n%s", args, r.out, r.err)
	}
	return r
}

// node runs roles until the test ends or stop is called.
func (s servers) node(t *testing.T, roles node.Roles, concerns ...string) (n *node.Node, stop func()) {
	t.Helper()
	cfg, err := platform.Load(s.file, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	cfg = clumsyApp().Complete(cfg)
	cfg.Edge.HTTP, cfg.Edge.GRPC = "127.0.0.1:0", "127.0.0.1:0"
	n, err = node.New(node.Config{
		Application: clumsyApp(), Platform: cfg, Roles: roles, Concerns: concerns, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	select {
	case <-n.Ready():
	case <-time.After(patience):
		t.Fatal("a node is not ready")
	}
	return n, stop
}

// submit appends a transaction without waiting for its end.
func (s servers) submit(t *testing.T, wait time.Duration, add func(*txn.Builder)) string {
	t.Helper()
	cfg, err := platform.Load(s.file, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	log := stream.Config{Bootstrap: s.kafka}
	version, err := platform.Current(t.Context(), log, cfg.Names())
	if err != nil {
		t.Fatal(err)
	}
	producer, err := stream.NewProducer(log)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	client, err := txn.NewClient(txn.ClientConfig{Router: platform.NewRouter(version.GetConfig()), Sender: producer})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	b := txn.New()
	add(b)
	id, err := client.Submit(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

func decodeJSON[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// What a platform does, has done and waits for shows from outside, through the
// brokers and databases alone.
func TestOperations(t *testing.T) {
	s := newServers(t)
	s.want(t, 3, []string{"platform update"}, "status")
	s.want(t, 1, []string{"game platform update", "no configuration"}, "doctor")
	s.want(t, 0, nil, "platform", "update")
	s.want(t, 1, []string{"no processor runs", "nobody brings changes of character", "nobody"}, "status")
	s.want(t, 1, []string{"game db migrate", "no processor runs"}, "doctor", "--data-dir", t.TempDir())
	s.want(t, 0, nil, "db", "migrate")

	_, stopStorage := s.node(t, node.Roles{Storage: true})
	_, stopPlayers := s.node(t, node.Roles{Processor: true}, "player")
	_, stopCharacters := s.node(t, node.Roles{Processor: true}, "character")
	n, stopEdge := s.node(t, node.Roles{Edge: true})
	conn, err := grpc.NewClient(n.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	c := rpgv1.NewRpgServiceClient(conn)
	if _, err := c.CreatePlayer(t.Context(), &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: "p1", Username: "anna"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateCharacter(t.Context(), &rpgv1.CreateCharacterRequest{Character: &rpgv1.Character{
		Id: "c1", PlayerId: "p1", Fullname: "Brock", Currency: &rpgv1.Currency{Gold: 100},
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.FundCharacter(t.Context(), &rpgv1.FundCharacterRequest{Id: "c1", Currency: &rpgv1.Currency{Gold: 13}}); err == nil {
		t.Fatal("the handler did not panic")
	}

	// Everything is served, and in the end nothing is behind.
	eventually(t, "all is well", func() error {
		if r := s.game(t.Context(), "status", "-f", s.file, "--json"); r.code != 0 || strings.Count(r.out, `"behind":0`) != 9 {
			return fmt.Errorf("exit code %d: %s %s", r.code, r.out, r.err)
		}
		return nil
	})
	status := decodeJSON[struct {
		Version  int
		Members  []struct{ Client string }
		Concerns []struct {
			Name       string
			Partitions []struct{ Owner string }
		}
		Problems []string
	}](t, s.want(t, 0, nil, "status", "--json").out)
	if status.Version != 1 || len(status.Members) != 2 || len(status.Concerns) != 3 || len(status.Problems) != 0 {
		t.Errorf("the status is %+v", status)
	}
	me := fmt.Sprintf(":%d", os.Getpid())
	for _, k := range status.Concerns {
		for _, p := range k.Partitions {
			if !strings.HasPrefix(p.Owner, "game@") || !strings.HasSuffix(p.Owner, me) {
				t.Errorf("a partition of %s belongs to %q", k.Name, p.Owner)
			}
		}
	}
	s.want(t, 0, []string{"PARTITION", "player_username[0]", "main", "game@"}, "status")
	s.want(t, 0, []string{"every partition is served, by 2 workers", "version 1 is what the file says", "every table is as it must be"}, "doctor", "--data-dir", t.TempDir())

	// The records are decoded.
	watched := s.want(t, 0, []string{
		`visit`, `create`, `change`, `answer`, "thirteen", `"fullname": "Brock"`, `"username": "anna"`, `player_username`, `"owner": "p1"`,
	}, "watch", "-d", "--since", "1h", "--once")
	if strings.Contains(watched.out, "base64:") || strings.Contains(watched.out, "undecodable") {
		t.Errorf("something is not decoded: %s", watched.out)
	}
	// Those of one instance, responses included, and nothing of another.
	one := s.want(t, 0, []string{"c1", "answer", "refusal"}, "watch", "--since", "1h", "--once", "--concern", "character", "--key", "c1").out
	if strings.Contains(one, "anna") {
		t.Errorf("another transaction is shown: %s", one)
	}
	type event struct {
		Kind, Concern, What, Key string
		TxnID                    string `json:"txn_id"`
		Partition, Offset        int64
		Record                   map[string]any
	}
	var change event
	lines := strings.Split(strings.TrimSpace(s.want(t, 0, nil, "watch", "--since", "1h", "--once", "--json", "--kind", "storage", "--key", "c1").out), "\n")
	change = decodeJSON[event](t, lines[0])
	if change.Kind != "storage" || change.What != "change" || change.Key != "c1" {
		t.Fatalf("the change is %+v", change)
	}
	all := strings.Split(strings.TrimSpace(s.want(t, 0, nil, "watch", "--txn", change.TxnID, "--once", "--since", "1h", "--json").out), "\n")
	for _, l := range all {
		if e := decodeJSON[event](t, l); e.TxnID != change.TxnID {
			t.Errorf("a record of %s is shown for %s", e.TxnID, change.TxnID)
		}
	}
	if len(all) < 3 {
		t.Errorf("%d records of the transaction", len(all))
	}
	s.want(t, 0, []string{`"gold": "100"`, "change"}, "decode", "character.storage", fmt.Sprint(change.Partition), fmt.Sprint(change.Offset))
	s.want(t, 0, []string{`"what":"version"`, `"player_username"`}, "decode", "platform", "0", "0", "--json")
	s.want(t, 3, []string{"no committed record at offset 12345"}, "decode", "character.storage", "0", "12345")
	s.want(t, 3, []string{"partitions 0 to 1"}, "decode", "character.storage", "7", "0")
	s.want(t, 2, []string{"did you mean"}, "decode", "charactr.storage", "0", "0")

	// What was quarantined.
	s.want(t, 0, []string{"thirteen", "c1", ".character.process."}, "errors", "list")
	s.want(t, 0, []string{"nothing was quarantined"}, "errors", "list", "--concern", "player")
	s.want(t, 0, []string{`"command": "Fund"`, `"gold": "13"`, "handler panicked"}, "errors", "show", "character", "0")
	s.want(t, 3, nil, "errors", "show", "player", "0")

	// Without a processor of characters, a transaction that goes there holds the
	// player that it has visited, and another waits for that.
	stopEdge()
	stopCharacters()
	s.want(t, 0, []string{"no transaction holds"}, "txn", "list")
	s.want(t, 1, []string{"nobody serves the partitions [0 1] of character"}, "status")
	create := func(id string) func(*txn.Builder) {
		return func(b *txn.Builder) {
			player := txn.Add(b, rpgv1.PlayerAddCharacter("p1", &rpgv1.CharacterRef{Id: id}))
			txn.Bind(b, player, "id", txn.Add(b, rpgv1.CharacterCreate(&rpgv1.Character{Id: id, PlayerId: "p1", Fullname: id})), "player_id")
		}
	}
	shows := func(id string, args ...string) {
		t.Helper()
		eventually(t, strings.Join(args, " "), func() error {
			if r := s.game(t.Context(), append(args, "-f", s.file)...); r.code != 0 || !strings.Contains(r.out, id) {
				return fmt.Errorf("exit code %d: %s %s", r.code, r.out, r.err)
			}
			return nil
		})
	}
	holder := s.submit(t, 10*time.Minute, create("c2"))
	shows(holder, "txn", "list", "--state", "holds")
	waiter := s.submit(t, 10*time.Minute, create("c3"))
	shows(waiter, "txn", "list", "--state", "parked", "--concern", "player", "--key", "p1")
	timed := s.submit(t, 10*time.Minute, func(b *txn.Builder) {
		b.NotBefore(time.Now().Add(5 * time.Minute))
		txn.Add(b, rpgv1.PlayerUpdate(&rpgv1.Player{Id: "p2", Active: true}, "active"))
	})
	shows(timed, "txn", "list", "--state", "timed")
	s.want(t, 0, []string{"no transaction holds"}, "txn", "list", "--older-than", "1h")
	s.want(t, 2, []string{`did you mean "parked"`}, "txn", "list", "--state", "parkd")
	if r := s.want(t, 0, []string{holder, waiter}, "instance", "who-holds", "player", "p1"); strings.Index(r.out, holder) > strings.Index(r.out, waiter) {
		t.Errorf("the holder is not first: %s", r.out)
	}
	s.want(t, 0, []string{"nobody holds"}, "instance", "who-holds", "player", "nobody")
	s.want(t, 0, []string{"held: exclusive by " + holder, "waits: 1. " + waiter, "database main: the same", `"username":"anna"`}, "instance", "show", "player", "p1")
	shown := decodeJSON[struct {
		Version        uint64
		Holders, Queue []struct {
			TxnID   string `json:"txn_id"`
			Pending map[string]any
		}
		Databases []struct{ Version uint64 }
	}](t, s.want(t, 0, nil, "instance", "show", "player", "p1", "--json").out)
	if shown.Version == 0 || len(shown.Holders) != 1 || shown.Holders[0].Pending["version"] != float64(shown.Version+1) || len(shown.Queue) != 1 ||
		shown.Databases[0].Version != shown.Version {
		t.Errorf("the instance is %+v", shown)
	}
	s.want(t, 3, []string{`player "nobody" does not exist`}, "instance", "show", "player", "nobody")
	s.want(t, 2, []string{"did you mean"}, "instance", "show", "playr", "p1")

	// What the database does not have yet.
	stopStorage()
	made := s.submit(t, 5*time.Minute, func(b *txn.Builder) { txn.Add(b, rpgv1.PlayerCreate(&rpgv1.Player{Id: "p3", Username: "carl"})) })
	shows(made, "instance", "show", "player", "p3")
	s.want(t, 0, []string{"of the change feed", "there is no row"}, "instance", "show", "player", "p3")
	s.want(t, 1, []string{"nobody brings changes of player into storage target main"}, "status")

	// When characters are served again, all of that ends.
	_, stopCharacters = s.node(t, node.Roles{Processor: true}, "character")
	eventually(t, "nobody holds p1", func() error {
		if r := s.game(t.Context(), "txn", "list", "--state", "holds,parked", "-f", s.file, "--json"); r.out != "[]\n" {
			return fmt.Errorf("%s%s", r.out, r.err)
		}
		return nil
	})
	stopCharacters()
	stopPlayers()
}

// A watch shows what is written after it has begun, until it is interrupted.
func TestWatchLive(t *testing.T) {
	s := newServers(t)
	s.want(t, 0, nil, "platform", "update")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &lockedBuffer{}
	root := cli.New(clumsyApp())
	root.SetArgs([]string{"watch", "-f", s.file, "--json", "--concern", "player"})
	root.SetOut(out)
	done := make(chan error, 1)
	go func() { done <- root.ExecuteContext(ctx) }()
	// It cannot be seen from outside when it has begun.
	var sent []string
	eventually(t, "a record is shown", func() error {
		sent = append(sent, s.submit(t, time.Minute, func(b *txn.Builder) { txn.Add(b, rpgv1.PlayerRead("p")) }))
		for _, id := range sent {
			if strings.Contains(out.String(), id) {
				return nil
			}
		}
		return fmt.Errorf("%s", out.String())
	})
	cancel()
	if err := <-done; err != nil {
		t.Errorf("an interrupt ends it with %v", err)
	}
}

func TestDoctorWithoutServers(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "platform.yaml")
	text := "name: game\nkafka: {bootstrap: \"127.0.0.1:1\"}\nconcerns: [{name: player}, {name: character}]\nstorage: {targets: [{name: main, dsn: \"postgres://anna:secret@127.0.0.1:1/b\"}]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := servers{file: file, postgres: "secret"}
	s.want(t, 1, []string{"failed", "127.0.0.1:1", "RKCY_KAFKA_BOOTSTRAP", "RKCY_POSTGRES_DSN", "there is none"}, "doctor", "--timeout", "3s", "--data-dir", dir)
}
