package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// grace is how much longer than its handler a request lives, for the answer to
// arrive.
const grace = time.Second

// writeGrace is how much longer than its request an answer may take to be
// read.
const writeGrace = 10 * time.Second

// serveHTTP is the outermost handler.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	start, out := time.Now(), &recorder{ResponseWriter: w}
	defer s.logHTTP(out, r, start)
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler: //nolint:errorlint // compared by identity in net/http, too
			panic(p)
		default:
			st := s.panicked(r.Context(), r.Method+" "+r.URL.Path, p)
			if out.code != 0 {
				panic(http.ErrAbortHandler) // half an answer went out: cut it off
			}
			s.fail(out, st)
		}
	}()
	switch r.URL.Path {
	case "/healthz":
		s.serveFixed(out, r, []byte("{\"status\":\"ALIVE\"}\n"))
	case "/readyz":
		if !s.Serving() {
			s.fail(out, newStatus(codes.Unavailable, "", nil, "not serving"))
			return
		}
		s.serveFixed(out, r, []byte("{\"status\":\"SERVING\"}\n"))
	case "/openapi.json":
		if s.openapi.document == nil {
			s.noRoute(out, r, http.StatusNotFound)
			return
		}
		s.serveFixed(out, r, s.openapi.document)
	case SocketPath:
		s.serveSocket(out, r)
	default:
		s.api.ServeHTTP(out, r)
	}
}

func (s *Server) serveFixed(w http.ResponseWriter, r *http.Request, body []byte) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.notAllowed(w, r, []string{http.MethodGet, http.MethodHead})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(body)
	}
}

// serveAPI bounds a request before anything is read or allocated for it, and
// hands it to the gateway.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	if !s.limit.take() {
		s.fail(w, s.limit.refusal())
		return
	}
	defer s.limit.give()
	if st := checkURL(r.URL); st != nil {
		s.fail(w, st)
		return
	}
	timeout := s.cfg.DefaultTimeout
	if text := r.Header.Get("Grpc-Timeout"); text != "" {
		var err error
		if timeout, err = parseTimeout(text); err != nil {
			s.fail(w, newStatus(codes.InvalidArgument, "", nil, "%s", err))
			return
		}
		r.Header.Del("Grpc-Timeout") // the gateway would apply it, too
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout+grace)
	defer cancel()
	// Slow senders and slow readers hold a slot no longer than that.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(timeout))
	_ = control.SetWriteDeadline(time.Now().Add(timeout + writeGrace)) // until the next request
	body, st := s.readBody(w, r)
	if st != nil {
		w.Header().Set("Connection", "close")
		s.fail(w, st)
		// The rest of the body may be on its way. A client that is cut off while
		// it sends might never read the answer.
		_ = control.Flush()
		_ = control.SetReadDeadline(time.Now().Add(grace))
		_, _ = io.CopyN(io.Discard, r.Body, 8*int64(s.cfg.MaxRequestBytes))
		return
	}
	_ = control.SetReadDeadline(time.Time{})
	r = r.WithContext(context.WithValue(ctx, timeoutInContext{}, timeout))
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	if r.URL.Path == BatchPath {
		s.serveBatch(w, r, body, timeout)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// readBody reads at most MaxRequestBytes.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *status.Status) {
	limit := int64(s.cfg.MaxRequestBytes)
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, newStatus(codes.InvalidArgument, "", nil, "Content-Encoding %q is not supported; send the body as it is", e)
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		return body, nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge(limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, newStatus(codes.InvalidArgument, "", nil, "the body did not arrive in time")
	}
	return nil, newStatus(codes.InvalidArgument, "", nil, "the body could not be read: %v", err)
}

func tooLarge(limit int64) *status.Status {
	return newStatus(codes.ResourceExhausted, ReasonTooLarge, map[string]string{txn.DetailLimitBytes: strconv.FormatInt(limit, 10)},
		"the request is larger than %d bytes, the limit of this edge", limit)
}

// checkURL refuses what could not be carried in a protobuf string.
func checkURL(u *url.URL) *status.Status {
	if !utf8.ValidString(u.Path) {
		return newStatus(codes.InvalidArgument, "", nil, "the path is not valid UTF-8")
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return newStatus(codes.InvalidArgument, "", nil, "the query is malformed: %v", err)
	}
	for name, list := range values {
		for _, v := range list {
			if !utf8.ValidString(name) || !utf8.ValidString(v) {
				return newStatus(codes.InvalidArgument, "", nil, "the query parameter %q is not valid UTF-8", name)
			}
		}
	}
	return nil
}

var timeoutUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// parseTimeout reads the value of a grpc-timeout header: up to 8 digits and a
// unit.
func parseTimeout(text string) (time.Duration, error) {
	const longest = 24 * time.Hour
	if n := len(text); n >= 2 && n <= 9 {
		unit, known := timeoutUnits[text[n-1]]
		digits, err := strconv.ParseUint(text[:n-1], 10, 32)
		switch {
		case !known || err != nil || digits == 0:
		case digits > uint64(longest/unit):
			return longest, nil
		default:
			return time.Duration(digits) * unit, nil //nolint:gosec // below 24 h
		}
	}
	return 0, fmt.Errorf("grpc-timeout %q is not valid; it is 1 to 8 digits, more than 0, and a unit of H, M, S, m, u, n", text)
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	code  int
	bytes int
}

func (w *recorder) WriteHeader(code int) {
	if w.code == 0 && code >= 200 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += n
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush implements http.Flusher.
func (w *recorder) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

func (s *Server) logHTTP(w *recorder, r *http.Request, start time.Time) {
	if !s.cfg.Logger.Enabled(r.Context(), slog.LevelDebug) {
		return
	}
	s.cfg.Logger.LogAttrs(r.Context(), slog.LevelDebug, "request", slog.String("protocol", "http"),
		slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("code", w.code), slog.Int("bytes", w.bytes),
		slog.Duration("took", time.Since(start)), slog.String("peer", r.RemoteAddr))
}
