package frame_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rocketcycle/rocketcycle/pkg/edge/frame"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// What is written is read back, in both encodings.
func TestRoundTrip(t *testing.T) {
	e := &edgev1.Envelope{
		Method: "a.B/C", RequestId: "\"\u2028", IdempotencyKey: "k", Headers: map[string]string{"traceparent": "00-1"}, Timeout: durationpb.New(time.Second),
		Body: []byte(`{"n":9007199254740993}`), // more digits than a double has
	}
	batch := &edgev1.BatchRequest{RequestId: "b", Items: []*edgev1.Envelope{e, {Method: "x"}}, Mode: edgev1.BatchRequest_PARALLEL, MaxParallel: 3}
	answer := &edgev1.Answer{RequestId: "1", Outcome: &edgev1.Answer_Body{Body: []byte(`{}`)}, Headers: map[string]string{"rkcy-txn-id": "t"}}
	failure := &edgev1.Answer{RequestId: "2", Outcome: &edgev1.Answer_Error{Error: status.New(codes.NotFound, "no").Proto()}}
	for _, codec := range []frame.Codec{frame.Proto, frame.JSON} {
		for _, f := range []*edgev1.ClientFrame{
			{Kind: &edgev1.ClientFrame_Request{Request: e}},
			{Kind: &edgev1.ClientFrame_Batch{Batch: batch}},
			{Kind: &edgev1.ClientFrame_Cancel{Cancel: &edgev1.Cancel{RequestId: "c"}}},
		} {
			data, err := codec.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := codec.Client(data); err != nil || !proto.Equal(f, back) {
				t.Errorf("%v: %v\n%s\n%v", codec, err, data, back)
			}
		}
		for _, f := range []*edgev1.ServerFrame{
			{Kind: &edgev1.ServerFrame_Answer{Answer: answer}},
			{Kind: &edgev1.ServerFrame_Answer{Answer: failure}},
			{Kind: &edgev1.ServerFrame_Batch{Batch: &edgev1.BatchResponse{RequestId: "b", Results: []*edgev1.Answer{answer, failure}}}},
		} {
			data, err := codec.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := codec.Server(data); err != nil || !proto.Equal(f, back) {
				t.Errorf("%v: %v\n%s\n%v", codec, err, data, back)
			}
		}
	}
}

// A body that is no JSON cannot be put into a frame that is.
func TestBodyOfTheOtherEncoding(t *testing.T) {
	if data, err := frame.JSON.Marshal(&edgev1.Answer{Outcome: &edgev1.Answer_Body{Body: []byte{0x0a, 1}}}); err == nil {
		t.Errorf("%s", data)
	}
}

// FuzzClientFrame reads anything. What is taken is written and read back as the
// same; what is not has an error in valid text.
func FuzzClientFrame(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `null`, `{"request":null}`, `{"request":{"method":"m","request_id":"1","body":{"a":1}}}`, `{"request":{"requestId":"1","request_id":"2"}}`,
		`{"batch":{"mode":"ORDERED","items":[{"body":[]},{}]}}`, `{"batch":{"items":null}}`, `{"cancel":{"request_id":"x"}}`, `{"request":{"body":null}}`,
		`{"request":{"timeout":"1s","headers":{"a":"b"}}} x`, "{\"cancel\":{\"request_id\":\"\xff\"}}", `{"request":{"body":` + strings.Repeat("[", 11000), "\x0a\x02\x0a\x00",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, isJSON bool) {
		codec := frame.Proto
		if isJSON {
			codec = frame.JSON
		}
		got, err := codec.Client(data)
		if err != nil {
			if !utf8.ValidString(err.Error()) || !utf8.ValidString(frame.RequestID(got)) {
				t.Errorf("%q", err)
			}
			return
		}
		if isJSON && !json.Valid(data) {
			t.Errorf("took %q", data)
		}
		again, err := codec.Marshal(got)
		if err != nil {
			t.Fatalf("%q was taken, but cannot be written: %v", data, err)
		}
		back, err := codec.Client(again)
		if err != nil {
			t.Fatalf("%q was written as %q, which is not taken: %v", data, again, err)
		}
		if !isJSON && !proto.Equal(got, back) {
			t.Errorf("%v became %v", got, back)
		}
		third, err := codec.Marshal(back)
		if err != nil || string(third) != string(again) && isJSON {
			t.Errorf("%q became %q (%v)", again, third, err)
		}
	})
}
