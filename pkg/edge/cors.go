package edge

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/rs/cors"
	"google.golang.org/grpc/codes"
)

// preflightAge is how long a browser may remember what it was allowed.
const preflightAge = 10 * time.Minute

// crossOrigin lets pages of the allowed origins call next from a browser. With
// none, nothing is said about origins, and browsers keep answers from pages of
// others. What has effects is refused then: a browser would send it, whatever
// becomes of the answer.
func (s *Server) crossOrigin(api http.Handler) http.Handler {
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		safe := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
		if o := r.Header.Get("Origin"); !safe && !s.originAllowed(o, r.Host) {
			s.fail(w, newStatus(codes.PermissionDenied, ReasonOrigin, nil, "pages from %q may not call this edge", o))
			return
		}
		api.ServeHTTP(w, r)
	})
	if len(s.cfg.AllowedOrigins) == 0 {
		return next
	}
	return cors.New(cors.Options{
		AllowedOrigins: s.cfg.AllowedOrigins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowedHeaders: append(slices.Sorted(maps.Keys(forwarded)), "Authorization", "Content-Type", "Grpc-Timeout"),
		ExposedHeaders: append(slices.Sorted(maps.Values(returned)), "Retry-After"),
		MaxAge:         int(preflightAge.Seconds()),
	}).Handler(next)
}
