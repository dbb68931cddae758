package edgecmd_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
)

func TestAnswers(t *testing.T) {
	s := serve(t, rpg())
	s.answer = func(method string, _ proto.Message) (proto.Message, error) {
		if method == "ReadPlayer" {
			return &rpgv1.PlayerView{Id: "p", Username: "a\x1b[31mb\u009b\u202e\n\u0085<é>"}, nil
		}
		return &rpgv1.Character{Id: "c", Fullname: ` "x"`, Active: true, Currency: &rpgv1.Currency{Gold: -5}, Items: []*rpgv1.Item{{Id: "i1", Description: "sword"}, {Id: "i2"}}}, nil
	}
	o := s.run(t, rpg(), "read", "character", "id=c")
	want := `id:        c
player_id: ""
fullname:  " \"x\""
active:    true
currency:
  gold:      -5
  faction_0: 0
  faction_1: 0
  faction_2: 0
items:
  - id:          i1
    description: sword
  - id:          i2
    description: ""
`
	if o.code != 0 || o.out != want {
		t.Errorf("exit %d %s\n%s", o.code, o.err, o.out)
	}
	o = s.run(t, rpg(), "read", "player", "id=p")
	if want := "id:         p\nusername:   \"a\\x1b[31mb\\u009b\\u202e\\n\\u0085<é>\"\nactive:     false\nlimits_id:  \"\"\ncharacters: []\n"; o.out != want {
		t.Errorf("got  %q\nwant %q", o.out, want)
	}
	// JSON is for programs, and as safe to look at.
	o = s.run(t, rpg(), "read", "player", "id=p", "--json")
	var back rpgv1.PlayerView
	if err := protojson.Unmarshal([]byte(o.out), &back); err != nil || back.GetUsername() != "a\x1b[31mb\u009b\u202e\n\u0085<é>" {
		t.Errorf("JSON does not read back: %v %q", err, o.out)
	}
	if !strings.Contains(o.out, "<é>") || !strings.Contains(o.out, "\n  \"limits_id\": \"\"") {
		t.Errorf("JSON: %s", o.out)
	}
	printableOnly(t, o.out)
}

func printableOnly(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		if !unicode.IsPrint(r) && r != '\n' {
			t.Errorf("%q reaches the terminal: %q", r, text)
		}
	}
}

// All forms of values that the rpg does not have.
func TestAnswerForms(t *testing.T) {
	things := labService(t)
	s := serve(t, things)
	md := things.Methods().ByName("MakeThing").Output()
	s.answer = func(method string, in proto.Message) (proto.Message, error) {
		if method == "Ping" {
			return in, nil
		}
		out := dynamicpb.NewMessage(md)
		return out, protojson.Unmarshal([]byte(`{"id":"t","color":"RED","tags":["a","b c"],"points":[{"x":1,"y":2}],"labels":{"b":"2","a\u001b":"1"},
			"spots":{"3":{"x":1}},"ratio":"NaN","raw":"AQI=","on":true,"right":0,"at":"2030-01-02T15:04:05Z","note":"\u009b","colors":[7]}`), out)
	}
	want := `id:     t
color:  RED
tags:
  - a
  - b c
points:
  - x: 1
    y: 2
labels:
  "a\x1b": 1
  b: 2
spots:
  3:
    x: 1
    y: 0
ratio:  NaN
small:  0
raw:    AQI=
big:    0
on:     true
right:  0
at:     "2030-01-02T15:04:05Z"
note:   "\u009b"
place:  none
count:  0
colors:
  - 7
`
	if o := s.run(t, things, "make", "thing"); o.code != 0 || o.out != want {
		t.Errorf("exit %d %s\n%s", o.code, o.err, o.out)
	}
	if o := s.run(t, things, "ping"); o.code != 0 || o.out != "ok\n" {
		t.Errorf("nothing: exit %d %q", o.code, o.out)
	}
	if o := s.run(t, things, "ping", "--json"); o.code != 0 || o.out != "{}\n" {
		t.Errorf("nothing: exit %d %q", o.code, o.out)
	}
}

// An answer above gRPC's usual 4 MiB arrives.
func TestBigAnswer(t *testing.T) {
	s := serve(t, rpg())
	s.answer = func(string, proto.Message) (proto.Message, error) {
		return &rpgv1.Player{Username: strings.Repeat("y", 6<<20)}, nil
	}
	if o := s.run(t, rpg(), "read", "player", "id=p"); o.code != 0 || len(o.out) < 6<<20 {
		t.Errorf("exit %d %s, %d bytes", o.code, o.err, len(o.out))
	}
}

func refusal(t *testing.T, c codes.Code, message string, details ...protoadapt.MessageV1) error {
	s, err := status.New(c, message).WithDetails(details...)
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

func TestExitCodes(t *testing.T) {
	s := serve(t, rpg())
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		var want int
		switch c {
		case codes.Unavailable, codes.DeadlineExceeded:
			want = 4
		case codes.Internal, codes.Unknown, codes.DataLoss, codes.Canceled:
			want = 1
		default:
			want = 3
		}
		s.answer = func(string, proto.Message) (proto.Message, error) { return nil, status.Error(c, "no") }
		o := s.run(t, rpg(), "read", "player", "id=p")
		if o.code != want || !strings.HasSuffix(strings.Split(o.err, "\n")[0], ": no") || o.out != "" {
			t.Errorf("%v: exit %d, want %d; %q %q", c, o.code, want, o.err, o.out)
		}
	}
	s.answer = func(string, proto.Message) (proto.Message, error) {
		return nil, refusal(t, codes.ResourceExhausted, "busy", &errdetails.RetryInfo{RetryDelay: durationpb.New(1)})
	}
	if o := s.run(t, rpg(), "read", "player", "id=p"); o.code != 4 {
		t.Errorf("overload: exit %d", o.code)
	}
	if edgecmd.CodeOf(nil) != 0 || edgecmd.CodeOf(errors.New("x")) != 1 {
		t.Error("CodeOf")
	}
}

func TestRefusalText(t *testing.T) {
	s := serve(t, rpg())
	s.answer = func(string, proto.Message) (proto.Message, error) {
		return nil, refusal(t, codes.FailedPrecondition, "gold: 5 < 7\x1b[2J", &errdetails.ErrorInfo{
			Reason: "TOO_POOR", Metadata: map[string]string{"txn_id": "7\u009b", "concern": "Character"}})
	}
	o := s.run(t, rpg(), "fund", "character", "id=c", "gold=-7")
	if want := "FAILED_PRECONDITION: \"gold: 5 < 7\\x1b[2J\"\n  reason: TOO_POOR\n  concern: Character\n  txn_id: \"7\\u009b\""; o.err != want {
		t.Errorf("got  %q\nwant %q", o.err, want)
	}
	o = s.run(t, rpg(), "fund", "character", "id=c", "gold=-7", "--json")
	var back struct {
		Code    int
		Message string
		Details []struct{ Metadata map[string]string }
	}
	if err := json.Unmarshal([]byte(o.err), &back); err != nil || o.code != 3 || back.Code != int(codes.FailedPrecondition) ||
		back.Message != "gold: 5 < 7\x1b[2J" || back.Details[0].Metadata["txn_id"] != "7\u009b" || strings.Contains(o.err, "\n") {
		t.Errorf("JSON: exit %d %v %s", o.code, err, o.err)
	}
	printableOnly(t, o.err)
	s.answer = func(string, proto.Message) (proto.Message, error) {
		return nil, status.Error(codes.NotFound, "bad \xff\x9b")
	}
	printableOnly(t, s.run(t, rpg(), "read", "player", "id=c").err)
}

func TestAddress(t *testing.T) {
	s := serve(t, rpg())
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	try := func(variable string, flags ...string) outcome {
		return command(t.Context(), rpg(), map[string]string{"MY_APP_EDGE": variable}, append([]string{"edge", "read", "player", "id=p"}, flags...)...)
	}
	for _, good := range []string{s.addr, "localhost:" + port, ":" + port} {
		if o := try(good); o.code != 0 {
			t.Errorf("variable %s: exit %d %s", good, o.code, o.err)
		}
		if o := try("127.0.0.1:1", "--edge", good); o.code != 0 { // the flag wins
			t.Errorf("flag %s: exit %d %s", good, o.code, o.err)
		}
	}
	const port16 = " has no port from 1 to 65535; write it as host:port"
	const form = " is not an address; write it as host:port"
	for bad, why := range map[string]string{
		"localhost": form, "http://localhost:80": form, "a b:80": form, "::1:80": form, "a/b:80": form, "\x1b:80": form,
		"localhost:": port16, "localhost:0": port16, "localhost:65536": port16, "localhost:-1": port16, "localhost:grpc": port16,
	} {
		for from, o := range map[string]outcome{"--edge": try("", "--edge", bad), "MY_APP_EDGE": try(bad)} {
			quoted, err := json.Marshal(bad)
			if err != nil {
				t.Fatal(err)
			}
			want := from + ": " + strings.ReplaceAll(string(quoted), `\u001b`, `\x1b`) + why
			if o.code != 2 || o.err != want {
				t.Errorf("%q: exit %d %q, want %q", bad, o.code, o.err, want)
			}
		}
	}
}

func TestServerAway(t *testing.T) {
	// A port that was free a moment ago, and hosts that look like a scheme.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	o := command(t.Context(), rpg(), nil, "edge", "read", "player", "id=p", "--edge", addr)
	if o.code != 4 || !strings.HasPrefix(o.err, "UNAVAILABLE: ") ||
		!strings.HasSuffix(o.err, "\nIs an edge serving gRPC at "+addr+"? Another address is given by --edge or MY_APP_EDGE.") {
		t.Errorf("exit %d %s", o.code, o.err)
	}
	if o := command(t.Context(), rpg(), nil, "edge", "read", "player", "id=p", "--edge", addr, "--json"); o.code != 4 || !json.Valid([]byte(o.err)) {
		t.Errorf("JSON: exit %d %s", o.code, o.err)
	}

	// Something that is no edge, and somebody who never answers.
	listener, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_, _ = bufio.NewReader(c).ReadString('\n')
			_ = c.Close()
		}
	}()
	o = command(t.Context(), rpg(), nil, "edge", "read", "player", "id=p", "--edge", listener.Addr().String(), "--timeout", "5s")
	if o.code != 4 {
		t.Errorf("no edge: exit %d %s", o.code, o.err)
	}
	printableOnly(t, o.err)
	_ = listener.Close()
	<-done

	s := serve(t, rpg())
	release := make(chan struct{})
	s.answer = func(string, proto.Message) (proto.Message, error) {
		<-release
		return nil, os.ErrDeadlineExceeded
	}
	o = s.run(t, rpg(), "read", "player", "id=p", "--timeout", "100ms")
	close(release)
	if o.code != 4 || !strings.HasPrefix(o.err, "DEADLINE_EXCEEDED: ") || !strings.Contains(o.err, "Whether the request took effect is not known.") {
		t.Errorf("no answer: exit %d %s", o.code, o.err)
	}
}

// Metadata that the program puts into the context goes along.
func TestMetadata(t *testing.T) {
	s := serve(t, rpg())
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "r1")
	if o := command(ctx, rpg(), nil, "edge", "read", "player", "id=p", "--edge", s.addr); o.code != 0 {
		t.Fatalf("exit %d %s", o.code, o.err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := s.header.Get("x-request-id"); len(got) != 1 || got[0] != "r1" {
		t.Errorf("metadata %v", s.header)
	}
	if got := s.header.Get("user-agent"); len(got) != 1 || !strings.HasPrefix(got[0], "my-app-edge") {
		t.Errorf("user agent %v", got)
	}
}

func TestInterrupt(t *testing.T) {
	s := serve(t, rpg())
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	s.answer = func(string, proto.Message) (proto.Message, error) {
		cancel()
		<-release
		return nil, context.Canceled
	}
	o := command(ctx, rpg(), nil, "edge", "read", "player", "id=p", "--edge", s.addr)
	close(release)
	if o.code != 1 || !strings.HasPrefix(o.err, "CANCELLED: ") {
		t.Errorf("exit %d %s", o.code, o.err)
	}
}

func TestHelp(t *testing.T) {
	o := command(t.Context(), rpg(), nil, "edge", "create", "player", "--help")
	for _, want := range []string{"Creates a player.\n\nFields:\n  id         text\n  username   text\n  active     true or false\n  limits_id  text\n", "  my-app edge create player username=brock01\n"} {
		if o.code != 0 || !strings.Contains(o.out, want) {
			t.Errorf("exit %d %s\n%q is not in\n%s", o.code, o.err, want, o.out)
		}
	}
	if o := command(t.Context(), rpg(), nil, "edge"); o.code != 0 || !strings.Contains(o.out, "Exit codes: 0 done, 2 wrong usage, 3 refused by the server, 4 unavailable, 1 anything else.") {
		t.Errorf("exit %d %s", o.code, o.out)
	}
	// A stream is not offered.
	if o := command(t.Context(), labService(t), nil, "edge", "watch"); o.code != 2 {
		t.Errorf("watch: exit %d %s", o.code, o.out)
	}
}

func TestCompletion(t *testing.T) {
	things := labService(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"create", ""}, "character player"},
		{[]string{"create", "player", ""}, "id= username= active= limits_id="},
		{[]string{"create", "player", "username=x", ""}, "id= active= limits_id="},
		{[]string{"create", "player", "u"}, "username="},
		{[]string{"create", "player", "active="}, "active=true active=false"},
		{[]string{"create", "player", "active=t"}, "active=true"},
		{[]string{"create", "player", "nope="}, ""},
		{[]string{"trade", "lhs.c"}, "lhs.character_id= lhs.currency.gold= lhs.currency.faction_0= lhs.currency.faction_1= lhs.currency.faction_2="},
		{[]string{"fund", "character", "items={}", "it"}, "items="},
		{[]string{"make", "thing", "color="}, "color=COLOR_UNSPECIFIED color=RED color=GREEN"},
		{[]string{"make", "thing", "lab"}, "labels."},
	} {
		service := rpg()
		if c.args[0] == "make" {
			service = things
		}
		o := command(t.Context(), service, nil, append([]string{"__complete", "edge"}, c.args...)...)
		var got []string
		for line := range strings.SplitSeq(o.out, "\n") {
			if word, _, _ := strings.Cut(line, "\t"); word != "" && !strings.HasPrefix(word, ":") && !strings.HasPrefix(word, "Completion ended") {
				got = append(got, word)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q: %q, want %q", c.args, got, c.want)
		}
	}
}
