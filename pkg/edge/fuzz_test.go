package edge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
)

// FuzzHTTPBody sends any bytes as a body. What is accepted reached the service
// as the same message and comes back as the same message; anything else is the
// client's fault and is told so.
func FuzzHTTPBody(f *testing.F) {
	for _, body := range []string{
		``, ` `, `{}`, `[]`, `null`, `"x"`, `{"id":"1","currency":{"gold":5},"items":[{"id":"i"}]}`, `{"currency":{"gold":"9223372036854775807"}}`,
		`{"currency":{"gold":9223372036854775808}}`, `{"currency":{"gold":1e3,"faction_0":"-1","faction0":2}}`, `{"items":[null]}`, `{"active":"yes"}`,
		`{"fullname":"\ud800"}`, `{"fullname":"\u0000"}`, "{\"fullname\":\"\xff\"}", `{"fullname":"a"}{}`, `{"a":` + strings.Repeat("[", 20000),
		`{"unknown":1}`, `{"id":"1","id":"2"}`, `{"currency":{"gold":NaN}}`, "\ufeff{}",
	} {
		f.Add([]byte(body))
	}
	received := make(chan *rpgv1.CreateCharacterRequest, 1) // one request at a time
	s := start(f, edge.Config{MaxRequestBytes: 64 << 10}, &fake{character: func(_ context.Context, in *rpgv1.CreateCharacterRequest) (*rpgv1.Character, error) {
		received <- proto.CloneOf(in)
		if in.GetCharacter() == nil {
			return &rpgv1.Character{}, nil
		}
		return in.GetCharacter(), nil
	}})
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := s.try(http.MethodPost, "/v1/characters", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if a.Code == http.StatusRequestEntityTooLarge && len(body) > 64<<10 {
			return
		}
		if a.Code == http.StatusBadRequest {
			if !utf8.ValidString(a.Status.Message) {
				t.Errorf("message %q", a.Status.Message)
			}
			return
		}
		if a.Code != http.StatusOK {
			select {
			case <-received:
			default:
			}
			t.Fatalf("%d %s", a.Code, a.Body)
		}
		if len(bytes.TrimSpace(body)) > 0 && !json.Valid(body) || !utf8.Valid(body) {
			t.Errorf("accepted %q", body)
		}
		var back rpgv1.Character
		if err := protojson.Unmarshal([]byte(a.Body), &back); err != nil {
			t.Fatalf("answer %q: %v", a.Body, err)
		}
		if in := <-received; in.GetCharacter() != nil && !proto.Equal(in.GetCharacter(), &back) {
			t.Errorf("got %v, answered %s", in, a.Body)
		}
	})
}
