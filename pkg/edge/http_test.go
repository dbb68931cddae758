package edge_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
)

func TestJSON(t *testing.T) {
	s := start(t, edge.Config{}, &fake{})
	for _, body := range []string{`{"username":"brock01","limits_id":"l1"}`, `{"username":"brock01","limitsId":"l1"}`} {
		a := s.do(http.MethodPost, "/v1/players", body)
		var got map[string]any
		if err := json.Unmarshal([]byte(a.Body), &got); err != nil {
			t.Fatal(err)
		}
		// Names of the .proto file, and fields that are not set, too.
		if a.Code != 200 || got["username"] != "brock01" || got["limits_id"] != "l1" || got["active"] != false || len(got) != 4 {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	}
	if a := s.do(http.MethodPost, "/v1/players", ""); a.Code != 200 || !strings.Contains(a.Body, "no player was given") {
		t.Errorf("empty body: %d %s", a.Code, a.Body)
	}
	if a := s.do(http.MethodPost, "/v1/characters/c1:fund", `{"currency":{"gold":"5","faction_0":7}}`); a.Code != 200 ||
		!strings.Contains(strings.ReplaceAll(a.Body, " ", ""), `"gold":"5","faction_0":"7"`) {
		t.Errorf("fund: %d %s", a.Code, a.Body)
	}
	// What curl -d sends without a content type is JSON all the same.
	if a := s.do(http.MethodPost, "/v1/players", `{"username":"x"}`, "Content-Type", "application/x-www-form-urlencoded"); a.Code != 200 {
		t.Errorf("form: %d %s", a.Code, a.Body)
	}
}

func TestPatchFillsTheMask(t *testing.T) {
	var paths []string
	f := &fake{update: func(_ context.Context, in *rpgv1.UpdatePlayerRequest) (*rpgv1.Player, error) {
		paths = in.GetUpdateMask().GetPaths()
		return in.GetPlayer(), nil
	}}
	s := start(t, edge.Config{}, f)
	a := s.do(http.MethodPatch, "/v1/players/p1", `{"active":false,"limitsId":"l"}`)
	slices.Sort(paths)
	if a.Code != 200 || !slices.Equal(paths, []string{"active", "limits_id"}) || !strings.Contains(a.Body, `"p1"`) {
		t.Errorf("%d %s, mask %v", a.Code, a.Body, paths)
	}
}

func TestIdsWithAnyCharacter(t *testing.T) {
	s := start(t, edge.Config{}, &fake{})
	for path, id := range map[string]string{
		"a%20b": "a b", "a%252Fb": "a%2Fb", "%C3%A9": "é", "a:b": "a:b", "a%3Afund": "a:fund", "a+b": "a+b", "%00": "\x00",
	} {
		a := s.do(http.MethodGet, "/v1/players/"+path, "")
		var got struct{ ID string }
		if err := json.Unmarshal([]byte(a.Body), &got); err != nil || a.Code != 200 || got.ID != id {
			t.Errorf("%s: %d %s (%v)", path, a.Code, a.Body, err)
		}
	}
	// The gateway takes an escaped slash for a slash. Such ids can be used on
	// gRPC, and here where the id is in the body; they are never taken for others.
	if a := s.do(http.MethodGet, "/v1/players/a%2Fb", ""); a.Code != 404 {
		t.Errorf("slash: %d %s", a.Code, a.Body)
	}
}

// Whatever a client gets wrong is answered with a coded Status that says what.
func TestBadRequests(t *testing.T) {
	s := start(t, edge.Config{}, &fake{})
	for name, c := range map[string]struct {
		method, path, body string
		header             [2]string
		code               int
		grpc               codes.Code
		text               string
	}{
		"unknown field":      {"POST", "/v1/players", `{"usrname":"x"}`, [2]string{}, 400, 3, `unknown field "usrname" (did you mean "username"?); rpg.v1.Player has id, username, active, limits_id`},
		"deep unknown field": {"POST", "/v1/characters", `{"currency":{"glod":1}}`, [2]string{}, 400, 3, `unknown field "currency.glod" (did you mean "gold"?); rpg.v1.Currency has gold, faction_0`},
		"unknown in list":    {"POST", "/v1/characters", `{"items":[{"id":"1"},{"name":"x"}]}`, [2]string{}, 400, 3, `unknown field "items.name"; rpg.v1.Item has id, description`},
		"wrong type":         {"POST", "/v1/players", `{"active":"yes"}`, [2]string{}, 400, 3, "active"},
		"overflow":           {"POST", "/v1/characters", `{"currency":{"gold":"9223372036854775808"}}`, [2]string{}, 400, 3, "gold"},
		"twice":              {"POST", "/v1/players", `{"username":"a","username":"b"}`, [2]string{}, 400, 3, "duplicate field"},
		"syntax":             {"POST", "/v1/players", `{"username":`, [2]string{}, 400, 3, "not valid JSON"},
		"trailing":           {"POST", "/v1/players", `{"username":"a"} {"username":"b"}`, [2]string{}, 400, 3, "not valid JSON"},
		"a list":             {"POST", "/v1/players", `[]`, [2]string{}, 400, 3, "unexpected token ["},
		"null":               {"POST", "/v1/characters/c:fund", `null`, [2]string{}, 400, 3, "null"},
		"UTF-8 in body":      {"POST", "/v1/players", "{\"username\":\"a\xff\"}", [2]string{}, 400, 3, "not valid UTF-8 (at byte 14)"},
		"lone surrogate":     {"POST", "/v1/players", `{"username":"\ud800"}`, [2]string{}, 400, 3, ""},
		"UTF-8 in path":      {"GET", "/v1/players/%ff", "", [2]string{}, 400, 3, "path is not valid UTF-8"},
		"UTF-8 in query":     {"POST", "/v1/players?x=%ff", "{}", [2]string{}, 400, 3, `"x" is not valid UTF-8`},
		"bad query":          {"POST", "/v1/players?x=%zz", "{}", [2]string{}, 400, 3, "query is malformed"},
		"no such path":       {"GET", "/v1/playrs/1", "", [2]string{}, 404, 5, "nothing is served at"},
		"root":               {"GET", "/", "", [2]string{}, 404, 5, "/openapi.json"},
		"wrong method":       {"PUT", "/v1/players/1", "{}", [2]string{}, 405, 12, "allowed is DELETE, GET, PATCH"},
		"POST health":        {"POST", "/healthz", "", [2]string{}, 405, 12, "allowed is GET, HEAD"},
		"not implemented":    {"POST", "/v1/characters:trade", "{}", [2]string{}, 501, 12, "Trade"},
		"compressed":         {"POST", "/v1/players", "x", [2]string{"Content-Encoding", "gzip"}, 400, 3, "gzip"},
		"bad timeout":        {"POST", "/v1/players", "{}", [2]string{"Grpc-Timeout", "5"}, 400, 3, "grpc-timeout"},
		"negative timeout":   {"POST", "/v1/players", "{}", [2]string{"Grpc-Timeout", "-5S"}, 400, 3, "grpc-timeout"},
		"zero timeout":       {"POST", "/v1/players", "{}", [2]string{"Grpc-Timeout", "0S"}, 400, 3, "grpc-timeout"},
		"method override":    {"POST", "/v1/players/1", "", [2]string{"X-HTTP-Method-Override", "DELETE"}, 405, 12, "POST is not served"},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.do(c.method, c.path, c.body, c.header[0], c.header[1])
			if a.Code != c.code || a.Status.Code != int(c.grpc) || !strings.Contains(a.Status.Message, c.text) {
				t.Errorf("%d %s\nwant %d %d %s", a.Code, a.Body, c.code, c.grpc, c.text)
			}
			if strings.Contains(a.Body, "\u00a0") || strings.Contains(a.Body, "proto:") {
				t.Errorf("protobuf's own words: %s", a.Body)
			}
			if a.Code == 405 && a.Header.Get("Allow") == "" {
				t.Error("no Allow header")
			}
		})
	}
}

func TestOpenAPI(t *testing.T) {
	s := start(t, edge.Config{}, &fake{})
	a := s.do(http.MethodGet, "/openapi.json", "")
	var doc struct {
		OpenAPI    string
		Paths      map[string]any
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal([]byte(a.Body), &doc); err != nil || a.Code != 200 {
		t.Fatal(a.Code, err)
	}
	if doc.Paths["/v1/players/{id}"] == nil || doc.Components.Schemas["rpg.v1.Character"].Properties["player_id"] == nil ||
		doc.Components.Schemas["rpg.v1.Character"].Properties["playerId"] != nil {
		t.Errorf("document: %s", a.Body)
	}

	one := &fake{}
	other := edge.Service{Register: one.service(t).Register, OpenAPI: []byte(`{"paths":{"/other":{}},"components":{"schemas":{"X":{}}}}`)}
	conflict := other
	conflict.OpenAPI = []byte(`{"paths":{"/v1/players":{"get":{}}}}`)
	broken := other
	broken.OpenAPI = []byte(`{`)
	other.Register = nil
	for _, bad := range []edge.Service{conflict, broken, other} {
		if _, err := edge.New(edge.Config{}, one.service(t), bad); err == nil {
			t.Errorf("accepted: %+v", bad)
		}
	}
}

func TestPanicsAndNothing(t *testing.T) {
	var l logs
	f := &fake{
		read:   func(context.Context, *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) { panic("secret cause") },
		create: func(context.Context, *rpgv1.CreatePlayerRequest) (*rpgv1.Player, error) { return nil, nil }, //nolint:nilnil // on purpose
	}
	s := start(t, edge.Config{Logger: l.logger()}, f)
	for range 2 { // the server goes on
		if a := s.do(http.MethodGet, "/v1/players/1", ""); a.Code != 500 || a.Status.Code != 13 || strings.Contains(a.Body, "secret") {
			t.Errorf("panic: %d %s", a.Code, a.Body)
		}
		if _, err := s.client().ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{}); codeOf(err) != codes.Internal {
			t.Errorf("panic: %v", err)
		}
	}
	if !strings.Contains(l.String(), "secret cause") || !strings.Contains(l.String(), "http_test.go") {
		t.Error("the panic and its stack are not in the log")
	}
	if a := s.do(http.MethodPost, "/v1/players", "{}"); a.Code != 500 {
		t.Errorf("no answer and no error: %d %s", a.Code, a.Body)
	}
}

func TestAccessLog(t *testing.T) {
	var l logs
	s := start(t, edge.Config{Logger: l.logger()}, &fake{})
	s.do(http.MethodGet, "/v1/nothing", "")
	if _, err := s.client().ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"protocol=http method=GET path=/v1/nothing code=404", "protocol=grpc method=/rpg.v1.RpgService/ReadPlayer code=OK"} {
		eventually(t, want, func() bool { return strings.Contains(l.String(), want) })
	}
}
