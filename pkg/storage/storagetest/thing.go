package storagetest

import (
	"context"
	"strconv"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/column"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// thingProto has a field of every kind of column, some of them with the names
// of SQL's reserved words.
const thingProto = `syntax = "proto3";
package storagetest;
enum Color { COLOR_NONE = 0; COLOR_RED = 7; }
message Part { string name = 1; int64 n = 2; repeated Part parts = 3; bytes raw = 4; }
message Thing {
  string id = 1;
  string user = 2;
  bool flag = 3;
  int32 order = 4;
  sint64 big = 5;
  uint32 unsigned = 6;
  uint64 huge = 7;
  float real = 8;
  double double = 9;
  bytes raw = 10;
  Color color = 11;
  Part part = 12;
  repeated string words = 13;
  map<string, Part> parts = 14;
  optional string maybe_text = 15;
  optional bool maybe_flag = 16;
  optional int32 maybe_int = 17;
  optional int64 maybe_big = 18;
  optional float maybe_real = 19;
  optional double maybe_double = 20;
  optional bytes maybe_raw = 21;
  oneof choice { string left = 22; Part right = 23; }
}`

// Kind is a Concern whose instances have a column of every kind.
type Kind struct {
	desc protoreflect.MessageDescriptor
}

// NewKind compiles the Concern's message.
func NewKind() Kind {
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"thing.proto": thingProto}),
	}}
	files, err := compiler.Compile(context.Background(), "thing.proto")
	if err != nil {
		panic(err) // the text above
	}
	return Kind{files[0].Messages().ByName("Thing")}
}

// New returns an empty instance.
func (k Kind) New() proto.Message { return dynamicpb.NewMessage(k.desc) }

// Mapping returns the mapping of a Concern of this kind to a table.
func (k Kind) Mapping(concern, table string) storage.Mapping {
	m := storage.Mapping{Concern: concern, Table: table, New: k.New}
	var numbers []protowire.Number
	for i := range k.desc.Fields().Len() {
		fd := k.desc.Fields().Get(i)
		numbers = append(numbers, fd.Number())
		m.Columns = append(m.Columns, storage.Column{
			Name: string(fd.Name()), Type: column.Type(fd), Key: fd.Number() == 1, NotNull: !column.Nullable(fd),
			Index: fd.Name() == "user" || fd.Name() == "big" || fd.Name() == "part" || fd.Name() == "raw",
		})
	}
	codec := column.NewCodec(k.New, numbers...)
	m.Encode, m.Decode = codec.Encode, codec.Decode
	return m
}

// Thing returns an instance with fields by their names: values of protobuf
// reflection, or of Go where they are scalars.
func (k Kind) Thing(id string, fields map[string]any) proto.Message {
	m := dynamicpb.NewMessage(k.desc)
	m.Set(k.desc.Fields().ByName("id"), protoreflect.ValueOfString(id))
	for name, v := range fields {
		m.Set(k.desc.Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOf(v))
	}
	return m
}

// Put returns the change that an instance is committed by.
func Put(m proto.Message, version uint64) *rkcyv1.Change {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err) // nothing in a Thing is required
	}
	r := m.ProtoReflect()
	return &rkcyv1.Change{
		Key:   r.Get(r.Descriptor().Fields().ByNumber(1)).String(),
		After: &rkcyv1.Instance{Value: value, Version: version}, EffectiveTimeMs: 1_700_000_000_000,
	}
}

// Delete returns the change that deletes an instance.
func Delete(key string) *rkcyv1.Change {
	return &rkcyv1.Change{Key: key, After: &rkcyv1.Instance{}, EffectiveTimeMs: 1_700_000_000_000}
}

// number returns a small instance, told from others by n.
func (k Kind) number(id string, n int) *rkcyv1.Change {
	return Put(k.Thing(id, map[string]any{"order": int32(n), "user": "u" + strconv.Itoa(n)}), uint64(n)) //nolint:gosec // small
}
