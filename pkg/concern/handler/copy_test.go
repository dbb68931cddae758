package handler_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/rocketcycle/rocketcycle/pkg/concern/handler"
)

func TestCopy(t *testing.T) {
	from := &descriptorpb.FieldDescriptorProto{
		Name: proto.String("n"), Number: proto.Int32(0), JsonName: proto.String("not copied"),
		Options: &descriptorpb.FieldOptions{Packed: proto.Bool(false)},
	}
	want := &descriptorpb.FieldDescriptorProto{Name: from.Name, Number: from.Number, Options: proto.CloneOf(from.GetOptions())}
	// name, number, which is set to its zero value, options, and extendee, which is not set.
	got := handler.Copy(from, 1, 3, 8, 2)
	if !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if from.GetJsonName() != "not copied" {
		t.Error("the original was changed")
	}
}
