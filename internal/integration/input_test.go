package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
)

// maxRequest is the largest request, by default.
const maxRequest = 1 << 20

// answer is what came back, over either protocol.
type answer struct {
	code    codes.Code
	http    int // 0 over gRPC
	message string
}

// do sends an HTTP request.
func (p *process) do(method, path, body string) (answer, string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+p.at.HTTP+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	var s struct {
		Code    codes.Code
		Message string
	}
	if response.StatusCode >= 300 {
		if err := json.Unmarshal(text, &s); err != nil || s.Code == 0 {
			p.t.Fatalf("%s %s: %d without a status: %s (%v)", method, path, response.StatusCode, text, err)
		}
	}
	return answer{s.Code, response.StatusCode, s.Message}, string(text)
}

// raw is a codec that sends bytes as they are.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

var _ encoding.CodecV2 = raw{}

// call sends bytes as the request of an rpc.
func (p *process) call(ctx context.Context, rpc string, request []byte) answer {
	p.client()
	var response []byte
	err := p.conn.Invoke(ctx, "/rpg.v1.RpgService/"+rpc, request, &response, grpc.ForceCodecV2(raw{}))
	s := status.Convert(err)
	// Of an rpc that there is not, and of a request over the limit, the service
	// is not told: gRPC itself answers.
	if err != nil && s.Code() != codes.Unimplemented && s.Code() != codes.ResourceExhausted {
		if !slices.ContainsFunc(s.Details(), func(d any) bool {
			i, is := d.(*errdetails.ErrorInfo)
			return is && i.GetDomain() == "rocketcycle" && i.GetReason() != ""
		}) {
			p.t.Errorf("%s: the error has no reason: %v", rpc, err)
		}
	}
	return answer{code: s.Code(), message: s.Message()}
}

func (a answer) want(t testing.TB, code codes.Code, http int, words ...string) {
	t.Helper()
	if a.code != code || a.http != 0 && a.http != http {
		t.Errorf("code %v (HTTP %d), want %v (%d): %s", a.code, a.http, code, http, a.message)
	}
	for _, w := range words {
		if !strings.Contains(a.message, w) {
			t.Errorf("the message lacks %q: %s", w, a.message)
		}
	}
}

func wire(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestServersBadInput(t *testing.T) {
	t.Parallel()
	s := newServers(t)
	p := s.start()
	create(t, p.client(), "p1")
	for _, id := range []string{"c1", "c2"} {
		if _, err := p.client().CreateCharacter(t.Context(), &rpgv1.CreateCharacterRequest{Character: &rpgv1.Character{
			Id: id, PlayerId: "p1", Fullname: id, Currency: &rpgv1.Currency{Gold: 10, Faction_0: 10},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	edge := func(args ...string) result {
		return rpg(t, []string{"RPG_EDGE=" + p.at.GRPC}, append([]string{"edge"}, args...)...)
	}
	invalid, missing, exists, precondition := codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition
	for name, c := range map[string]struct {
		method, path, body string // over HTTP; no path: cannot be said there
		rpc                string // over gRPC; "": cannot be said there
		request            proto.Message
		args               []string // on the command line
		code               codes.Code
		http, exit         int
		words              []string // of every message
	}{
		"unknown field": {
			"POST", "/v1/players", `{"usernam":"x"}`, "", nil, []string{"create", "player", "usernam=x"},
			invalid, 400, 2, []string{"usernam", "username"},
		},
		"unknown nested field": {
			"POST", "/v1/characters", `{"player_id":"p1","fullname":"x","currency":{"silver":1}}`, "", nil,
			[]string{"create", "character", "player_id=p1", "currency.silver=1"}, invalid, 400, 2, []string{"silver", "gold"},
		},
		"wrong type": {
			"POST", "/v1/characters/c1:fund", `{"currency":{"gold":"much"}}`, "", nil, []string{"fund", "character", "id=c1", "gold=much"},
			invalid, 400, 2, []string{"gold"},
		},
		"not JSON": {"POST", "/v1/players", `{"username":`, "", nil, []string{"create", "player", "username"}, invalid, 400, 2, nil},
		"missing key": {
			"POST", "/v1/character/fund", `{"currency":{"gold":1}}`, "FundCharacter", &rpgv1.FundCharacterRequest{},
			[]string{"fund", "character", "gold=1"}, invalid, 400, 3, []string{"id is missing"},
		},
		"missing side of a trade": {
			"POST", "/v1/characters:trade", `{"lhs":{"character_id":"c1"}}`, "Trade",
			&rpgv1.TradeRequest{Lhs: &rpgv1.TradeSide{CharacterId: "c1"}}, []string{"trade", "lhs=c1"}, invalid, 400, 3, []string{"rhs.character_id"},
		},
		"negative amount": {
			"POST", "/v1/characters/c1:fund", `{"currency":{"gold":-5}}`, "FundCharacter",
			&rpgv1.FundCharacterRequest{Id: "c1", Currency: &rpgv1.Currency{Gold: -5}}, []string{"fund", "character", "id=c1", "gold=-5"},
			invalid, 400, 3, []string{"gold", "-5"},
		},
		"negative amount in a trade": {
			"POST", "/v1/characters:trade", `{"lhs":{"character_id":"c1","currency":{"faction_0":-1}},"rhs":{"character_id":"c2"}}`, "Trade",
			trade{lhs: "c1", rhs: "c2", faction: -1}.request(), []string{"trade", "lhs=c1", "rhs=c2", "lhs.faction_0=-1"},
			invalid, 400, 3, []string{"faction_0", "-1"},
		},
		"missing character": {
			"GET", "/v1/characters/nobody", "", "ReadCharacter", &rpgv1.ReadCharacterRequest{Id: "nobody"},
			[]string{"read", "character", "id=nobody"}, missing, 404, 3, []string{"nobody"},
		},
		"missing partner": {
			"POST", "/v1/characters:trade", `{"lhs":{"character_id":"c1","currency":{"gold":1}},"rhs":{"character_id":"nobody"}}`, "Trade",
			trade{lhs: "c1", rhs: "nobody", gold: 1}.request(), []string{"trade", "lhs=c1", "rhs=nobody", "lhs.gold=1"},
			missing, 404, 3, []string{"nobody"},
		},
		"overdraft": {
			"POST", "/v1/characters:trade", `{"lhs":{"character_id":"c1","currency":{"gold":1}},"rhs":{"character_id":"c2","currency":{"faction_0":11}}}`,
			"Trade", trade{"c1", "c2", 1, 11}.request(), []string{"trade", "lhs=c1", "lhs.gold=1", "rhs=c2", "rhs.faction_0=11"},
			precondition, 400, 3, []string{"c2", "10 faction_0, not 11"},
		},
		"overflow": {
			"POST", "/v1/characters/c1:fund", `{"currency":{"gold":"9223372036854775807"}}`, "FundCharacter",
			&rpgv1.FundCharacterRequest{Id: "c1", Currency: &rpgv1.Currency{Gold: 1<<63 - 1}},
			[]string{"fund", "character", "id=c1", "gold=9223372036854775807"}, precondition, 400, 3, []string{"c1", "gold"},
		},
		"same id again": {
			"POST", "/v1/players", `{"id":"p1","username":"bert"}`, "CreatePlayer",
			&rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: "p1", Username: "bert"}}, []string{"create", "player", "id=p1", "username=bert"},
			exists, 409, 3, []string{"p1", "exists"},
		},
		"invalid UTF-8": {
			"POST", "/v1/players", "{\"username\":\"\xff\"}", "", nil, []string{"create", "player", "username=\xff"},
			invalid, 400, 2, []string{"UTF-8"},
		},
		"key too long": {
			"GET", "/v1/players/" + strings.Repeat("k", 513), "", "ReadPlayer", &rpgv1.ReadPlayerRequest{Id: strings.Repeat("k", 513)},
			[]string{"read", "player", "id=" + strings.Repeat("k", 513)}, invalid, 400, 3, []string{"513", "512"},
		},
		"no such rpc": {
			"GET", "/v1/monsters", "", "Summon", &rpgv1.ReadPlayerRequest{}, []string{"summon"}, codes.Unimplemented, 404, 2, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.path != "" {
				a, _ := p.do(c.method, c.path, c.body)
				code := c.code
				if name == "no such rpc" {
					code = a.code // what HTTP calls a path that there is not
				}
				a.want(t, code, c.http, c.words...)
			}
			if c.rpc != "" {
				p.call(t.Context(), c.rpc, wire(t, c.request)).want(t, c.code, 0, c.words...)
			}
			edge(c.args...).want(t, c.exit, c.words...)
		})
	}
	t.Run("invalid UTF-8 over gRPC", func(t *testing.T) {
		p.call(t.Context(), "ReadPlayer", []byte{0x0a, 1, 0xff}).want(t, codes.InvalidArgument, 0, "UTF-8")
	})
	t.Run("not protobuf over gRPC", func(t *testing.T) {
		p.call(t.Context(), "ReadPlayer", []byte{0x0a, 200, 1}).want(t, codes.InvalidArgument, 0)
	})
	t.Run("nothing was changed", func(t *testing.T) {
		for _, id := range []string{"c1", "c2"} {
			c, err := p.client().ReadCharacter(t.Context(), &rpgv1.ReadCharacterRequest{Id: id})
			if err != nil || balanceOf(c.GetCurrency()) != (balance{10, 10}) {
				t.Errorf("%s has %v (%v)", id, c.GetCurrency(), err)
			}
		}
		if got := revision(t, p.client(), "p1"); got != "first" {
			t.Errorf("p1 is in revision %q", got)
		}
		if n := openHolds(s); n != 0 {
			t.Errorf("%d holds are left", n)
		}
	})
	p.stop()
}

// TestServersRequestSize is about the limit of a request and one byte more.
func TestServersRequestSize(t *testing.T) {
	t.Parallel()
	s := newServers(t)
	p := s.start()
	create(t, p.client(), "p1")
	// character returns a request that has size bytes.
	character := func(id string, size int) *rpgv1.CreateCharacterRequest {
		in := &rpgv1.CreateCharacterRequest{Character: &rpgv1.Character{
			Id: id, PlayerId: "p1", Fullname: "heavy", Currency: &rpgv1.Currency{}, Items: []*rpgv1.Item{{Id: "i"}},
		}}
		for n := proto.Size(in); n != size; n = proto.Size(in) {
			d := &in.GetCharacter().GetItems()[0].Description
			*d = strings.Repeat("x", len(*d)+size-n)
		}
		return in
	}
	// What fits a request need not fit an instance that is as large, with what
	// the platform adds; it must work or be refused for that.
	at := wire(t, character("c1", maxRequest))
	p.call(t.Context(), "CreateCharacter", at).want(t, codes.OK, 0)
	eventually(t, "the row", func() error {
		n, err := value[int](s, `SELECT length(description) FROM character_item WHERE character_id = 'c1'`)
		if err == nil && n < maxRequest-1000 {
			err = fmt.Errorf("the items have %d bytes", n)
		}
		return err
	})
	over := wire(t, character("c2", maxRequest+1))
	if len(at) != maxRequest || len(over) != maxRequest+1 {
		t.Fatalf("requests of %d and %d bytes", len(at), len(over))
	}
	p.call(t.Context(), "CreateCharacter", over).want(t, codes.ResourceExhausted, 0, fmt.Sprint(maxRequest))

	body := func(id string, size int) string {
		head, tail := `{"id":"`+id+`","player_id":"p1","fullname":"heavy","items":[{"id":"i","description":"`, `"}]}`
		return head + strings.Repeat("x", size-len(head)-len(tail)) + tail
	}
	a, _ := p.do("POST", "/v1/characters", body("c3", maxRequest))
	a.want(t, codes.OK, 200)
	a, _ = p.do("POST", "/v1/characters", body("c4", maxRequest+1))
	a.want(t, codes.ResourceExhausted, http.StatusRequestEntityTooLarge, fmt.Sprint(maxRequest))
	for id, code := range map[string]codes.Code{"c1": codes.OK, "c2": codes.NotFound, "c3": codes.OK, "c4": codes.NotFound} {
		if _, err := p.client().ReadCharacter(t.Context(), &rpgv1.ReadCharacterRequest{Id: id}); status.Code(err) != code {
			t.Errorf("read %s: %v, want %v", id, err, code)
		}
	}
	p.stop()
}

// Every rpc is served on its path and on the one of older clients.
func TestServersPaths(t *testing.T) {
	t.Parallel()
	s := newServers(t)
	p := s.start()
	ok := func(method, path, body string, words ...string) {
		t.Helper()
		a, text := p.do(method, path, body)
		a.want(t, codes.OK, 200)
		for _, w := range words {
			if !strings.Contains(strings.ReplaceAll(text, `": `, `":`), w) {
				t.Errorf("%s %s: the answer lacks %s: %s", method, path, w, text)
			}
		}
	}
	ok("POST", "/v1/players", `{"id":"p1","username":"anna"}`, `"id":"p1"`)
	ok("POST", "/v1/player/create", `{"id":"p2","username":"bert"}`, `"id":"p2"`)
	ok("GET", "/v1/players/p1", "", `"username":"anna"`)
	ok("GET", "/v1/player/read/p2", "", `"username":"bert"`)
	ok("PATCH", "/v1/players/p1", `{"active":true}`, `"username":"anna"`, `"active":true`)
	ok("POST", "/v1/player/update", `{"id":"p2","active":true}`, `"username":"bert"`, `"active":true`)

	ok("POST", "/v1/characters", `{"id":"c1","player_id":"p1","fullname":"Anna","currency":{"gold":10},"items":[{"id":"i1"}]}`, `"gold":"10"`)
	ok("POST", "/v1/character/create", `{"id":"c2","player_id":"p2","fullname":"Bert","currency":{"faction_0":10}}`, `"faction_0":"10"`)
	ok("GET", "/v1/characters/c1", "", `"fullname":"Anna"`)
	ok("GET", "/v1/character/read/c2", "", `"fullname":"Bert"`)
	ok("PATCH", "/v1/characters/c1", `{"fullname":"Anna A"}`, `"fullname":"Anna A"`, `"gold":"10"`)
	ok("POST", "/v1/character/update", `{"id":"c2","fullname":"Bert B"}`, `"fullname":"Bert B"`, `"faction_0":"10"`)
	ok("POST", "/v1/characters/c1:fund", `{"currency":{"gold":5}}`, `"gold":"15"`)
	ok("POST", "/v1/character/fund", `{"id":"c1","currency":{"gold":5}}`, `"gold":"20"`)
	ok("POST", "/v1/characters:trade", `{"lhs":{"character_id":"c1","currency":{"gold":5},"items":[{"id":"i1"}]},"rhs":{"character_id":"c2","currency":{"faction_0":1}}}`,
		`"gold":"15"`, `"gold":"5"`, `"faction_0":"1"`, `"faction_0":"9"`, `"id":"i1"`)
	ok("POST", "/v1/character/conductTrade", `{"lhs":{"character_id":"c1","currency":{"gold":5}},"rhs":{"character_id":"c2","items":[{"id":"i1"}]}}`,
		`"gold":"10"`, `"id":"i1"`)

	ok("DELETE", "/v1/characters/c1", "", `"fullname":"Anna A"`, `"id":"i1"`)
	ok("POST", "/v1/character/delete/c2", "", `"fullname":"Bert B"`)
	ok("DELETE", "/v1/players/p1", "")
	ok("POST", "/v1/player/delete/p2", "")
	for _, path := range []string{"/v1/players/p1", "/v1/player/read/p2", "/v1/characters/c1", "/v1/character/read/c2"} {
		a, _ := p.do("GET", path, "")
		a.want(t, codes.NotFound, 404, path[len(path)-2:])
	}
	// The document names them all.
	_, text := p.do("GET", "/openapi.json", "")
	var document struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	n := 0
	for path, operations := range document.Paths {
		if strings.HasPrefix(path, "/v1/player") || strings.HasPrefix(path, "/v1/character") {
			n += len(operations)
		}
	}
	if n != 20 { // ten rpcs, each on two paths
		t.Errorf("the OpenAPI document has %d operations: %v", n, slices.Sorted(maps.Keys(document.Paths)))
	}
	p.stop()
}
