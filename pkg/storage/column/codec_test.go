package column_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rocketcycle/rocketcycle/internal/codegen/random"
	"github.com/rocketcycle/rocketcycle/internal/codegen/testdata/golden/kinds"
	"github.com/rocketcycle/rocketcycle/internal/codegen/testdata/golden/nested"
	"github.com/rocketcycle/rocketcycle/pkg/storage/column"
)

func everything() proto.Message { return new(kinds.Everything) }
func tree() proto.Message       { return new(nested.Tree) }

func codecOf(newMessage func() proto.Message) *column.Codec {
	return column.NewCodec(newMessage, numbersOf(newMessage())...)
}

// roundTrip encodes and decodes, and checks what every row promises.
func roundTrip(t *testing.T, newMessage func() proto.Message, m proto.Message) []any {
	t.Helper()
	codec := codecOf(newMessage)
	row, err := codec.Encode(m)
	if err != nil {
		t.Fatalf("Encode: %v\n%v", err, m)
	}
	fields := m.ProtoReflect().Descriptor().Fields()
	for i, value := range row {
		fd := fields.Get(i)
		if value == nil {
			if !column.Nullable(fd) || m.ProtoReflect().Has(fd) {
				t.Errorf("column %s is NULL", fd.Name())
			}
			continue
		}
		want := map[string]string{
			column.Text: "string", column.Boolean: "bool", column.Integer: "int32", column.Bigint: "int64",
			column.Real: "float32", column.Double: "float64", column.Bytea: "[]uint8", column.JSONB: "[]uint8",
		}[column.Type(fd)]
		if got := fmt.Sprintf("%T", value); got != want {
			t.Errorf("column %s is a %s, want %s", fd.Name(), got, want)
		}
		if column.Type(fd) == column.JSONB {
			if text := value.([]byte); !json.Valid(text) || hasNUL(text) {
				t.Errorf("column %s: PostgreSQL takes no such JSON: %s", fd.Name(), text)
			}
		}
	}
	back, err := codec.Decode(row)
	if err != nil {
		t.Fatalf("Decode: %v\n%v", err, m)
	}
	if !proto.Equal(m, back) {
		for i := range fields.Len() { // show the smallest part that differs
			fd := fields.Get(i)
			a, b := m.ProtoReflect(), back.ProtoReflect()
			if a.Has(fd) != b.Has(fd) || !a.Get(fd).Equal(b.Get(fd)) {
				t.Errorf("field %s\n is %v\nwas %v\nrow %s", fd.Name(), b.Get(fd), a.Get(fd), row[i])
			}
		}
		t.FailNow()
	}
	return row
}

// hasNUL says whether a string in a JSON text contains NUL.
func hasNUL(text []byte) bool {
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	for {
		token, err := decoder.Token()
		if err != nil {
			return false
		}
		if s, ok := token.(string); ok && strings.Contains(s, "\x00") {
			return true
		}
	}
}

func TestRoundTripRandom(t *testing.T) {
	count := 3000
	if testing.Short() {
		count = 300
	}
	for seed := range count {
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		for _, newMessage := range []func() proto.Message{everything, tree} {
			m := newMessage()
			random.Message(r, m)
			roundTrip(t, newMessage, m)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

func TestZeroValues(t *testing.T) {
	row := roundTrip(t, everything, &kinds.Everything{})
	want := []any{
		"", false, int32(0), int32(0), int32(0), int64(0), int64(0), int64(0), int64(0), int64(0), "0", "0",
		float32(0), float64(0), "", []byte{}, int32(0),
		nil, nil, nil, nil, nil, nil, nil, nil, nil, nil,
	}
	for range 7 {
		want = append(want, []byte("[]"))
	}
	if !reflect.DeepEqual(row, want) {
		t.Errorf("row %#v\nwant %#v", row, want)
	}
	// A column that was added later is NULL in old rows.
	back, err := codecOf(everything).Decode(make([]any, len(row)))
	if err != nil || !proto.Equal(back, &kinds.Everything{}) {
		t.Errorf("%v, %v", back, err)
	}
}

// Zero and not set are different where the field tells them apart.
func TestPresence(t *testing.T) {
	row := roundTrip(t, everything, &kinds.Everything{
		MaybeBool: proto.Bool(false), MaybeString: proto.String(""), MaybeBytes: []byte{}, MaybeUint64: proto.Uint64(0),
	})
	for i, fd := range numbersOf(everything()) {
		if slices.Contains([]protowire.Number{22, 31, 35, 36}, fd) && row[i] == nil {
			t.Errorf("field %d is NULL", fd)
		}
	}
	for _, m := range []*nested.Tree{
		{Fruit: &nested.Tree_Apple{}}, {Fruit: &nested.Tree_Pear{}}, {Fruit: &nested.Tree_Fig{Fig: []byte{}}},
		{Fruit: &nested.Tree_Plum{Plum: &nested.Tree_Leaf{}}}, {Leaf: &nested.Tree_Leaf{}}, {Value: structpb.NewNullValue()},
	} {
		roundTrip(t, tree, m)
	}
}

func TestExtremes(t *testing.T) {
	roundTrip(t, everything, &kinds.Everything{
		AnInt32: math.MinInt32, AUint32: math.MaxUint32, AnInt64: math.MinInt64, AUint64: math.MaxUint64, AFixed64: math.MaxUint64,
		AFloat: float32(math.Inf(-1)), ADouble: math.NaN(), AnEnum: -5, ManyUint64: []uint64{math.MaxUint64},
		ManyDouble: []float64{math.Inf(1), math.NaN(), math.SmallestNonzeroFloat64},
		AString:    strings.Repeat("ü", 1<<19), SomeBytes: []byte{0, 255},
	})
}

// What a text column cannot hold is refused, with the name of the field.
func TestTextThatIsRefused(t *testing.T) {
	codec := codecOf(everything)
	for want, m := range map[string]*kinds.Everything{
		"column a_string of golden.kinds.Everything: the text contains a NUL character": {AString: "a\x00b"},
		"column maybe_string of golden.kinds.Everything: the text is not valid UTF-8":   {MaybeString: proto.String("\xff")},
		"column id of golden.kinds.Everything: the text contains a NUL character":       {Id: "\x00"},
	} {
		if _, err := codec.Encode(m); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// What jsonb cannot hold is stored in wire form, and comes back.
func TestWireForm(t *testing.T) {
	deep := &nested.Tree_Leaf{Name: "bottom"}
	for range 400 {
		deep = &nested.Tree_Leaf{Below: []*nested.Tree_Leaf{deep}}
	}
	for name, c := range map[string]struct {
		m    *nested.Tree
		wire bool
	}{
		"plain":                 {&nested.Tree{Leaf: &nested.Tree_Leaf{Name: "a"}}, false},
		"NUL":                   {&nested.Tree{Leaf: &nested.Tree_Leaf{Name: "a\x00"}}, true},
		"escaped backslash":     {&nested.Tree{Leaf: &nested.Tree_Leaf{Name: `\n`}}, false},
		"deep":                  {&nested.Tree{Leaf: deep}, true},
		"brackets in a string":  {&nested.Tree{Leaf: &nested.Tree_Leaf{Name: strings.Repeat(`{["`, 300)}}, false},
		"NUL in a list":         {&nested.Tree{Leaves: []*nested.Tree_Leaf{{}, {Name: "\x00"}}}, true},
		"NUL in a map's key":    {&nested.Tree{Labels: map[string]string{"\x00": ""}}, true},
		"map":                   {&nested.Tree{ByNumber: map[int32]*nested.Tree_Leaf{-1: {}, 2: {}}}, false},
		"unknown Any":           {&nested.Tree{Tag: &anypb.Any{TypeUrl: "x/y", Value: []byte{1}}}, true},
		"Timestamp":             {&nested.Tree{Planted: &timestamppb.Timestamp{Seconds: 1}}, false},
		"Timestamp past 9999":   {&nested.Tree{Planted: &timestamppb.Timestamp{Seconds: math.MaxInt64}}, true},
		"Value NaN":             {&nested.Tree{Value: structpb.NewNumberValue(math.NaN())}, true},
		"Value without a kind":  {&nested.Tree{Value: &structpb.Value{}}, true},
		"like the wire form":    {&nested.Tree{Labels: map[string]string{"@wire": "AA=="}}, true},
		"nearly the wire form":  {&nested.Tree{Labels: map[string]string{"@wire": "!"}}, false},
		"more than a wire form": {&nested.Tree{Labels: map[string]string{"@wire": "AA==", "b": ""}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			row := roundTrip(t, tree, c.m)
			wire := false
			for _, v := range row {
				text, _ := v.([]byte)
				var object map[string]string
				if json.Unmarshal(text, &object) == nil && len(object) == 1 && object["@wire"] != "" && object["@wire"] != "!" {
					wire = true
				}
			}
			if wire != c.wire {
				t.Errorf("wire form: %v, want %v", wire, c.wire)
			}
		})
	}
}

// The text of a jsonb column is what queries and migrations are written for.
func TestJSONText(t *testing.T) {
	for want, c := range map[string]struct {
		m      proto.Message
		number protowire.Number
	}{
		`[1,0,7]`:                         {&kinds.Everything{ManyEnum: []kinds.Colour{kinds.Colour_COLOUR_RED, 0, 7}}, 57},
		`["18446744073709551615"]`:        {&kinds.Everything{ManyUint64: []uint64{math.MaxUint64}}, 51},
		`["AAE="]`:                        {&kinds.Everything{ManyBytes: [][]byte{{0, 1}}}, 56},
		`{"1":{"name":"a \\\"b"},"2":{}}`: {&nested.Tree{ByNumber: map[int32]*nested.Tree_Leaf{2: {}, 1: {Name: `a \"b`}}}, 5},
		`{"by_number":{"1":{}},"by_bool":{"true":"AA=="}}`: {&nested.Tree{Parent: &nested.Tree{
			ByNumber: map[int32]*nested.Tree_Leaf{1: {}}, ByBool: map[bool][]byte{true: {0}}}}, 17},
		`"1970-01-01T00:00:01Z"`: {&nested.Tree{Planted: &timestamppb.Timestamp{Seconds: 1}}, 11},
		`null`:                   {&nested.Tree{Value: structpb.NewNullValue()}, 15},
	} {
		newMessage := func() proto.Message { return c.m.ProtoReflect().New().Interface() }
		row, err := column.NewCodec(newMessage, c.number).Encode(c.m)
		if err != nil || string(row[0].([]byte)) != want {
			t.Errorf("%s, %v; want %s", row, err, want)
		}
	}
}

// JSON as PostgreSQL returns it: other spaces, other order of members; and what
// newer programs wrote.
func TestDecodeJSONOfTheDatabase(t *testing.T) {
	codec := column.NewCodec(tree, 2, 4)
	back, err := codec.Decode([]any{[]byte(`{ "unknown" : 1, "name": "n", "below": [ {"name": "b"} ] }`), `{"b": "2", "a": "1"}`})
	want := &nested.Tree{
		Leaf:   &nested.Tree_Leaf{Name: "n", Below: []*nested.Tree_Leaf{{Name: "b"}}},
		Labels: map[string]string{"a": "1", "b": "2"},
	}
	if err != nil || !proto.Equal(back, want) {
		t.Errorf("%v, %v", back, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		newMessage func() proto.Message
		number     int32
		value      any
		want       string
	}{
		"int for a string":    {everything, 15, int32(1), "column a_string of golden.kinds.Everything: a int32 cannot be a string"},
		"too large":           {everything, 3, int64(1) << 40, "column an_int32 of golden.kinds.Everything: 1099511627776 is not within -2147483648 and 2147483647"},
		"negative unsigned":   {everything, 6, int64(-1), "column a_uint32 of golden.kinds.Everything: -1 is not within 0 and 4294967295"},
		"text for an integer": {everything, 8, "8", "column an_int64 of golden.kinds.Everything: a string is not an integer"},
		"no number":           {everything, 11, "x", `column a_uint64 of golden.kinds.Everything: strconv.ParseUint: parsing "x": invalid syntax`},
		"no JSON":             {tree, 2, []byte(`{"name":`), "column leaf of golden.nested.Tree: the value is not JSON"},
		"JSON that ends":      {tree, 2, []byte(`{}, "id": "x"`), "column leaf of golden.nested.Tree: the value is not JSON"},
		"no text":             {tree, 2, 5, "column leaf of golden.nested.Tree: a int is not JSON text"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := column.NewCodec(c.newMessage, numbersOf(c.newMessage())[0], protowire.Number(c.number)).Decode([]any{nil, c.value})
			if err == nil || err.Error() != c.want {
				t.Errorf("%v, error %v\nwant %s", m, err, c.want)
			}
		})
	}
	if _, err := codecOf(tree).Decode([]any{nil}); err == nil {
		t.Error("a row that is too short was taken")
	}
	_, err := column.NewCodec(tree, 7, 8).Decode([]any{"a", int64(1)})
	if want := "column pear of golden.nested.Tree: only one member of oneof fruit may have a value, and apple has one too"; err == nil || err.Error() != want {
		t.Errorf("error %v\nwant %s", err, want)
	}
}

func TestEncodeRefusesAnotherMessage(t *testing.T) {
	_, err := codecOf(tree).Encode(&kinds.Everything{})
	if want := "column: a golden.kinds.Everything was given where golden.nested.Tree is mapped"; err == nil || err.Error() != want {
		t.Errorf("error %v\nwant %s", err, want)
	}
}

func TestNewCodecRefusesAnotherVersion(t *testing.T) {
	defer func() {
		if got := fmt.Sprint(recover()); got != "column: message golden.nested.Tree has no field with number 99" {
			t.Errorf("panic %q", got)
		}
	}()
	column.NewCodec(tree, 99)
}

// Only the columns that the codec was given take part.
func TestSomeColumns(t *testing.T) {
	codec := column.NewCodec(everything, 15, 1)
	row, err := codec.Encode(&kinds.Everything{Id: "i", AString: "s", ABool: true})
	if err != nil || !reflect.DeepEqual(row, []any{"s", "i"}) {
		t.Fatalf("%v, %v", row, err)
	}
	if back, err := codec.Decode(row); err != nil || !proto.Equal(back, &kinds.Everything{Id: "i", AString: "s"}) {
		t.Errorf("%v, %v", back, err)
	}
}

// Decoded bytes are a copy: drivers use their buffers again.
func TestDecodeCopiesBytes(t *testing.T) {
	codec := column.NewCodec(everything, 16)
	buffer := []byte("abc")
	back, err := codec.Decode([]any{buffer})
	if err != nil {
		t.Fatal(err)
	}
	buffer[0] = 'x'
	if got := back.(*kinds.Everything).GetSomeBytes(); string(got) != "abc" {
		t.Errorf("%q", got)
	}
}

// FuzzDecode gives every column bytes of the database that nobody vouches for.
// What is taken must survive being stored again.
func FuzzDecode(f *testing.F) {
	f.Add("text", []byte(`{"name": "a"}`), int64(1), 1.5, true)
	f.Add("18446744073709551615", []byte(`{"@wire": "EgMKAWE="}`), int64(-1), math.NaN(), false)
	f.Add("", []byte(`[{"below":[{}]}]`), int64(math.MaxInt64), 0.0, false)
	f.Add("\x00", []byte(`{"@wire":"!!"}`), int64(0), 1e308, true)
	f.Fuzz(func(t *testing.T, text string, raw []byte, n int64, x float64, b bool) {
		for _, newMessage := range []func() proto.Message{everything, tree} {
			fields := newMessage().ProtoReflect().Descriptor().Fields()
			for i := range fields.Len() {
				codec := column.NewCodec(newMessage, fields.Get(i).Number())
				for _, value := range []any{text, raw, n, int32(n), x, float32(x), b} {
					m, err := codec.Decode([]any{value})
					if err != nil {
						continue
					}
					row, err := codec.Encode(m)
					if err != nil {
						if s, ok := value.(string); ok && (strings.Contains(s, "\x00") || strings.ToValidUTF8(s, "") != s) {
							continue // no text of PostgreSQL
						}
						t.Fatalf("field %s took %q but cannot be stored: %v", fields.Get(i).Name(), value, err)
					}
					// The first time it loses what has no JSON form: unknown fields.
					for first := true; ; first = false {
						again, err := codec.Decode(row)
						if err != nil {
							t.Fatalf("field %s: %v is stored as %q, which is not taken: %v", fields.Get(i).Name(), m, row, err)
						}
						if !first {
							if !proto.Equal(m, again) {
								t.Fatalf("field %s: %v became %v", fields.Get(i).Name(), m, again)
							}
							break
						}
						m = again
						if row, err = codec.Encode(m); err != nil {
							t.Fatalf("field %s: %v is not stored again: %v", fields.Get(i).Name(), m, err)
						}
					}
				}
			}
		}
	})
}

// numbersOf returns the numbers of all fields.
func numbersOf(m proto.Message) (numbers []protowire.Number) {
	fields := m.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		numbers = append(numbers, fields.Get(i).Number())
	}
	return numbers
}
