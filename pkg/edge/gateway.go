package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// forwarded are the request headers that reach a service as metadata.
// Authorization always does.
var forwarded = map[string]string{
	"Idempotency-Key": IdempotencyKey,
	"Traceparent":     "traceparent",
	"Tracestate":      "tracestate",
	"X-Request-Id":    "x-request-id",
}

// returned are the metadata of a service that reach the client as headers.
var returned = map[string]string{
	TxnIDKey:    "Rkcy-Txn-Id",
	ReplayedKey: "Idempotent-Replayed",
	// Of the trace that the request is part of.
	"traceparent": "Traceparent",
}

type timeoutInContext struct{}

func (s *Server) newMux() *runtime.ServeMux {
	return runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newJSONCodec()),
		runtime.WithIncomingHeaderMatcher(func(name string) (string, bool) {
			to, ok := forwarded[http.CanonicalHeaderKey(name)]
			return to, ok
		}),
		runtime.WithOutgoingHeaderMatcher(func(name string) (string, bool) {
			to, ok := returned[name]
			return to, ok
		}),
		runtime.WithOutgoingTrailerMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithMetadata(func(ctx context.Context, _ *http.Request) metadata.MD {
			if d, ok := ctx.Value(timeoutInContext{}).(time.Duration); ok {
				return metadata.Pairs(timeoutKey, d.String())
			}
			return nil
		}),
		runtime.WithErrorHandler(func(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
			if md, ok := runtime.ServerMetadataFromContext(ctx); ok && len(md.HeaderMD.Get(txn.HeaderTraceparent)) > 0 {
				w.Header().Set(returned[txn.HeaderTraceparent], md.HeaderMD.Get(txn.HeaderTraceparent)[0])
			}
			if h, ok := errors.AsType[*runtime.HTTPStatusError](err); ok {
				s.fail(w, newStatus(codes.InvalidArgument, "", nil, "%s", h.Err))
				return
			}
			s.fail(w, status.Convert(err))
		}),
		runtime.WithRoutingErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
			s.noRoute(w, r, code)
		}),
		// Ids may contain any character, a slash too.
		runtime.WithUnescapingMode(runtime.UnescapingModeAllCharacters),
		// A form that is posted must not turn into a GET.
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithWriteContentLength(),
	)
}

func (s *Server) noRoute(w http.ResponseWriter, r *http.Request, code int) {
	switch code {
	case http.StatusMethodNotAllowed:
		s.notAllowed(w, r, s.openapi.methods(r.URL.Path))
	case http.StatusBadRequest:
		s.fail(w, newStatus(codes.InvalidArgument, "", nil, "%q is not a valid path", r.URL.Path))
	default:
		s.fail(w, newStatus(codes.NotFound, "", nil, "nothing is served at %q; /openapi.json tells what is", r.URL.Path))
	}
}

func (s *Server) notAllowed(w http.ResponseWriter, r *http.Request, allowed []string) {
	list := strings.Join(allowed, ", ")
	w.Header().Set("Allow", list)
	if list == "" {
		list = "another method"
	}
	writeStatus(w, http.StatusMethodNotAllowed,
		newStatus(codes.Unimplemented, "", nil, "%s is not served at %q; allowed is %s", r.Method, r.URL.Path, list))
}

// fail answers with what a status maps to.
func (s *Server) fail(w http.ResponseWriter, st *status.Status) {
	st = complete(st)
	if st.Code() == codes.OK { // cannot happen; an error must not look like success
		st = newStatus(codes.Internal, "", nil, "internal error")
	}
	if after := retryAfter(st); after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(after))
	}
	writeStatus(w, httpCode(st), st)
}

// writeStatus writes a google.rpc.Status as JSON. A client that has gone does
// not care, so write errors are left alone.
func writeStatus(w http.ResponseWriter, code int, st *status.Status) {
	body, err := protojson.Marshal(st.Proto())
	var tidied bytes.Buffer
	if err != nil || json.Compact(&tidied, body) != nil {
		tidied.Reset()
		fmt.Fprintf(&tidied, `{"code":%d,"message":"internal error"}`, codes.Internal)
		code = http.StatusInternalServerError
	}
	if code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	tidied.WriteByte('\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(tidied.Len()))
	w.WriteHeader(code)
	_, _ = w.Write(tidied.Bytes())
}
