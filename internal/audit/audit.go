// Package audit is what tests of whole platforms share: what an answer means to
// its client, and what the log has when all is over.
package audit

import (
	"context"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/internal/isolation"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Outcome tells what the answer to a transaction means, as its client has it
// over gRPC. An error says that such an answer must not come from transactions
// that are well formed.
func Outcome(err error) (isolation.Outcome, error) {
	if err == nil {
		return isolation.OK, nil
	}
	s := status.Convert(err)
	var info *errdetails.ErrorInfo
	for _, d := range s.Details() {
		if i, is := d.(*errdetails.ErrorInfo); is && i.GetDomain() == edge.ErrorDomain {
			info = i
		}
	}
	switch s.Code() {
	case codes.FailedPrecondition, codes.ResourceExhausted:
		return isolation.Failed, nil
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted:
		// Only the platform's own word counts: what gRPC says of a broken
		// connection leaves open what became of the request.
		if info == nil || info.GetMetadata()[txn.DetailOutcome] == txn.OutcomeUnknown {
			return isolation.Unknown, nil
		}
		return isolation.Failed, nil
	default:
		return isolation.Unknown, err
	}
}

// ReadAll reads every committed record of a topic, partition by partition.
func ReadAll(ctx context.Context, cfg stream.Config, topic string, partitions int32, fn func(stream.Record) error) error {
	reader, err := stream.NewReader(cfg)
	if err != nil {
		return err
	}
	defer reader.Close()
	for p := range partitions {
		if _, err := reader.ReadTo(ctx, stream.TopicPartition{Topic: topic, Partition: p}, stream.OffsetBeginning, fn); err != nil {
			return fmt.Errorf("%s[%d]: %w", topic, p, err)
		}
	}
	return nil
}

// OpenHolds returns how many holds and parked visits a state topic has. Once
// all is done there are none.
func OpenHolds(ctx context.Context, cfg stream.Config, topic string, partitions int32) (int, error) {
	live := map[string]bool{}
	err := ReadAll(ctx, cfg, topic, partitions, func(r stream.Record) error {
		key := fmt.Sprint(r.Partition, string(r.Key))
		delete(live, key)
		if len(r.Value) == 0 {
			return nil
		}
		record := &rkcyv1.StateRecord{}
		if err := proto.Unmarshal(r.Value, record); err != nil {
			return err
		}
		if record.GetHold() != nil || record.GetParked() != nil {
			live[key] = true
		}
		return nil
	})
	return len(live), err
}
