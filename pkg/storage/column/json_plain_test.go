package column_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/rocketcycle/rocketcycle/internal/codegen/random"
	"github.com/rocketcycle/rocketcycle/internal/codegen/testdata/golden/nested"
	"github.com/rocketcycle/rocketcycle/pkg/storage/column"
)

// sameJSON encodes with and without plans.
func sameJSON(t *testing.T, codec *column.Codec, m proto.Message) {
	t.Helper()
	got, err := codec.Encode(m)
	want, wantErr := codec.WithoutPlans().Encode(m)
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("error %v, by protojson %v\n%v", err, wantErr, m)
	}
	for i := range got {
		text, _ := got[i].([]byte)
		wantText, _ := want[i].([]byte)
		if !bytes.Equal(text, wantText) {
			t.Fatalf("column number %d\n is %s\nwant %s", i+1, text, wantText)
		}
	}
}

// The text is what protojson writes, byte by byte.
func TestPlansAreProtojson(t *testing.T) {
	codecs := map[*column.Codec]func() proto.Message{codecOf(everything): everything, codecOf(tree): tree}
	for seed := range 3000 {
		r := rand.New(rand.NewPCG(uint64(seed), 11))
		for codec, newMessage := range codecs {
			m := newMessage()
			random.Message(r, m)
			sameJSON(t, codec, m)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

func TestPlansOfNumbersAndTexts(t *testing.T) {
	floats := []float64{
		0, math.Copysign(0, -1), 1, -1.5, 1e-6, 9.9e-7, 1e-7, 1e-10, 1e20, 1e21, 1e22, 1.7e308, 5e-324,
		math.MaxFloat32, math.SmallestNonzeroFloat32, math.NaN(), math.Inf(1), math.Inf(-1), 0.1, 1 << 53, 123456789.123,
	}
	texts := []string{"", "plain", "\"\\/\b\f\n\r\t\x01\x1f\x7f", "ünïcödé 😀 \u2028\u2029", "<&>", `\u0000`, "@wire", "a\x00b", "\xff", "\xed\xa0\x80"}
	newMessage := allKinds(t)
	codec := codecOf(newMessage)
	set := func(name string, v protoreflect.Value) {
		t.Helper()
		m := newMessage().ProtoReflect()
		m.Mutable(m.Descriptor().Fields().ByName(protoreflect.Name(name))).List().Append(v)
		sameJSON(t, codec, m.Interface())
	}
	for _, f := range floats {
		set("many_double", protoreflect.ValueOfFloat64(f))
		set("many_float", protoreflect.ValueOfFloat32(float32(f)))
	}
	for _, s := range texts {
		set("many_string", protoreflect.ValueOfString(s))
	}
	for seed := range 1000 {
		m := newMessage()
		random.Message(rand.New(rand.NewPCG(uint64(seed), 13)), m)
		sameJSON(t, codec, m)
	}
}

// allKinds returns a type with lists and maps of every scalar kind, and with a
// message of itself.
func allKinds(t *testing.T) func() proto.Message {
	t.Helper()
	const full = ".plans.All"
	all := &descriptorpb.DescriptorProto{Name: proto.String("All")}
	add := func(name string, label descriptorpb.FieldDescriptorProto_Label, kind protoreflect.Kind, typeName string) {
		f := &descriptorpb.FieldDescriptorProto{
			Name: proto.String(name), Number: proto.Int32(int32(len(all.GetField()) + 1)), Label: label.Enum(),
			Type: descriptorpb.FieldDescriptorProto_Type(kind).Enum(),
		}
		if typeName != "" {
			f.TypeName = proto.String(typeName)
		}
		all.Field = append(all.Field, f)
	}
	for kind := protoreflect.DoubleKind; kind <= protoreflect.Sint64Kind; kind++ {
		if kind == protoreflect.GroupKind || kind == protoreflect.MessageKind || kind == protoreflect.EnumKind {
			continue
		}
		add("one_"+kind.String(), descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL, kind, "")
		add("many_"+kind.String(), descriptorpb.FieldDescriptorProto_LABEL_REPEATED, kind, "")
		if kind == protoreflect.BytesKind || kind == protoreflect.FloatKind || kind == protoreflect.DoubleKind {
			continue // are no keys
		}
		name := kind.String()
		entry := strings.ToUpper(name[:1]) + name[1:]
		all.NestedType = append(all.NestedType, &descriptorpb.DescriptorProto{
			Name: proto.String("By" + entry + "Entry"), Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)},
			Field: []*descriptorpb.FieldDescriptorProto{
				{Name: proto.String("key"), Number: proto.Int32(1), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_Type(kind).Enum()},
				{Name: proto.String("value"), Number: proto.Int32(2), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_FLOAT.Enum()},
			},
		})
		add("by_"+name, descriptorpb.FieldDescriptorProto_LABEL_REPEATED, protoreflect.MessageKind, full+".By"+entry+"Entry")
	}
	add("own", descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL, protoreflect.MessageKind, full)
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("plans.proto"), Package: proto.String("plans"), Syntax: proto.String("proto3"), MessageType: []*descriptorpb.DescriptorProto{all},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() proto.Message { return dynamicpb.NewMessage(file.Messages().Get(0)) }
}

// Past the depth that PostgreSQL takes, both have the wire form.
func TestPlansOfDeepMessages(t *testing.T) {
	codec := codecOf(tree)
	for _, depth := range []int{1, 100, 127, 128, 129, 254, 255, 256, 257, 300, 2000} {
		leaf := &nested.Tree_Leaf{Name: "end"}
		chain := leaf
		for range depth {
			leaf = &nested.Tree_Leaf{Below: []*nested.Tree_Leaf{leaf}}
			chain = &nested.Tree_Leaf{Named: map[string]*nested.Tree_Leaf{"x": chain}}
		}
		sameJSON(t, codec, &nested.Tree{Id: "1", Leaf: leaf, ByNumber: map[int32]*nested.Tree_Leaf{3: chain}})
	}
}

// That the fast way is taken, where it can be.
func TestPlannedFields(t *testing.T) {
	for name, newMessage := range map[string]func() proto.Message{"everything": everything, "tree": tree} {
		codec := codecOf(newMessage)
		planned := codec.Planned()
		fields := newMessage().ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			fd := fields.Get(i)
			if column.Type(fd) != column.JSONB {
				continue
			}
			value := fd
			if fd.IsMap() {
				value = fd.MapValue()
			}
			if want := value.Message() == nil; want && !slices.Contains(planned, string(fd.Name())) {
				t.Errorf("%s: %s has no plan", name, fd.Name())
			}
			if value.Message() != nil && value.Message().FullName().Parent() == "google.protobuf" && slices.Contains(planned, string(fd.Name())) {
				t.Errorf("%s: %s has a plan, and JSON of its own kind", name, fd.Name())
			}
		}
		t.Log(name, planned)
	}
}

func BenchmarkEncode(b *testing.B) {
	m := &nested.Tree{
		Id: "00000000-0000-7000-8000-000000000000", Leaf: &nested.Tree_Leaf{Name: "a name"}, Labels: map[string]string{"colour": "red", "size": "large"},
	}
	codec := column.NewCodec(tree, 1, 2, 4)
	for name, c := range map[string]*column.Codec{"plans": codec, "protojson": codec.WithoutPlans()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Encode(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
