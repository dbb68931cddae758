package edge

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/rs/cors"
)

// preflightAge is how long a browser may remember what it was allowed.
const preflightAge = 10 * time.Minute

// crossOrigin lets pages of the allowed origins call next from a browser. With
// none, nothing is said about origins, and browsers keep answers from pages of
// others.
func (s *Server) crossOrigin(next http.Handler) http.Handler {
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
