package edge_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rocketcycle/rocketcycle/pkg/edge"
)

// A browser asks before it sends a page's request; it hears yes for allowed
// origins only, and nothing at all unless some are.
func TestPagesOfOtherOrigins(t *testing.T) {
	for _, c := range []struct {
		allowed []string
		origin  string
		yes     string
	}{
		{nil, "https://game.example", ""},
		{[]string{"https://game.example"}, "https://game.example", "https://game.example"},
		{[]string{"https://game.example"}, "https://evil.example", ""},
		{[]string{"https://game.example"}, "http://game.example", ""},
		{[]string{"*"}, "https://evil.example", "*"},
	} {
		s := start(t, edge.Config{AllowedOrigins: c.allowed}, &fake{})
		ask := func(method string, headers ...string) (int, http.Header) {
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.HTTPAddr()+"/v1/players/x", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Origin", c.origin)
			for i := 0; i < len(headers); i += 2 {
				r.Header.Set(headers[i], headers[i+1])
			}
			resp, err := s.web.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			return resp.StatusCode, resp.Header
		}
		code, before := ask(http.MethodOptions, "Access-Control-Request-Method", http.MethodDelete, "Access-Control-Request-Headers", "idempotency-key")
		if got := before.Get("Access-Control-Allow-Origin"); got != c.yes {
			t.Errorf("%v, asked by %s: allowed %q, want %q", c.allowed, c.origin, got, c.yes)
		}
		if c.yes != "" && (code != http.StatusNoContent || before.Get("Access-Control-Allow-Headers") != "idempotency-key") {
			t.Errorf("%v: %d %v", c.allowed, code, before)
		}
		code, then := ask(http.MethodGet)
		if got := then.Get("Access-Control-Allow-Origin"); got != c.yes || code != http.StatusOK {
			t.Errorf("%v, called by %s: %d, allowed %q", c.allowed, c.origin, code, got)
		}
		if exposed := then.Get("Access-Control-Expose-Headers"); (c.yes != "") != strings.Contains(exposed, "Rkcy-Txn-Id") {
			t.Errorf("%v: pages may read %q", c.allowed, exposed)
		}
		// Sent without being asked for, as a form would be.
		code, _ = ask(http.MethodPost, "Content-Type", "text/plain")
		if refused := code == http.StatusForbidden; refused != (c.yes == "") {
			t.Errorf("%v, sent by %s: %d", c.allowed, c.origin, code)
		}
		if then.Get("Access-Control-Allow-Credentials") != "" {
			t.Error("cookies are shared")
		}
	}
}
