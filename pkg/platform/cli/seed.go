package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// seed is one request of a seed file.
type seed struct {
	at      string // file:line
	method  protoreflect.MethodDescriptor
	request *dynamicpb.Message
}

// readSeeds reads a seed file. Every fault is told before anything is sent.
func readSeeds(app node.Application, file string) ([]seed, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file) //nolint:gosec // the file the user named
	if err != nil {
		return nil, usagef("--seed-file: %w", err)
	}
	var seeds []seed
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, len(data)+1)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		s := seed{at: fmt.Sprintf("%s:%d", file, n)}
		var raw struct {
			RPC     string          `json:"rpc"`
			Request json.RawMessage `json:"request"`
		}
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&raw); err != nil {
			return nil, usagef("%s: want {\"rpc\":…,\"request\":{…}}: %w", s.at, err)
		}
		if s.method = app.Service.Methods().ByName(protoreflect.Name(raw.RPC)); s.method == nil {
			return nil, usagef("%s: %s has no rpc %q", s.at, app.Service.FullName(), raw.RPC)
		}
		s.request = dynamicpb.NewMessage(s.method.Input())
		if err := protojson.Unmarshal(raw.Request, s.request); err != nil {
			return nil, usagef("%s: request of %s: %w", s.at, raw.RPC, err)
		}
		seeds = append(seeds, s)
	}
	return seeds, lines.Err()
}

// sendSeeds sends the requests in order. What exists already is left alone, so
// a process can be started with the same file again.
func sendSeeds(ctx context.Context, app node.Application, addr string, seeds []seed) error {
	if len(seeds) == 0 {
		return nil
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	if err != nil {
		return fmt.Errorf("seed file: %w", err)
	}
	defer func() { _ = conn.Close() }()
	for _, s := range seeds {
		err := conn.Invoke(ctx, fmt.Sprintf("/%s/%s", app.Service.FullName(), s.method.Name()), s.request, dynamicpb.NewMessage(s.method.Output()))
		if st := status.Convert(err); err != nil && st.Code() != codes.AlreadyExists {
			return txn.Errorf(txn.CodeFailedPrecondition, "%s: %s was refused: %v: %s", s.at, s.method.Name(), st.Code(), st.Message())
		}
	}
	return nil
}
