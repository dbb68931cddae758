package codegen_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/compiler/protogen"

	"github.com/rocketcycle/rocketcycle/internal/codegen"
	"github.com/rocketcycle/rocketcycle/internal/codegen/compile"
)

// header is the first line of every input, so the rest begins at line 2.
const header = `syntax = "proto3"; package shop; import "rkcy/v1/options.proto"; option go_package = "example.com/shop";` + "\n"

// cart is a Concern on one line.
const cart = `message Cart { option (rkcy.v1.concern) = {}; string id = 1 [(rkcy.v1.field).key = true]; }` + "\n"

func TestRefused(t *testing.T) {
	const keyHint = "mark one plain string field with [(rkcy.v1.field).key = true]"
	for name, c := range map[string]struct {
		source string
		want   []string // the whole error, one fault a line
	}{
		"no key": {
			"\nmessage Cart {\n  option (rkcy.v1.concern) = {};\n  string id = 1;\n}",
			[]string{"shop.proto:3: message Cart: a Concern needs a key; " + keyHint},
		},
		"two keys": {
			"message Cart {\n  option (rkcy.v1.concern) = {};\n  string a = 1 [(rkcy.v1.field).key = true];\n  string b = 2 [(rkcy.v1.field).key = true];\n}",
			[]string{"shop.proto:5: field Cart.b: a Concern has one key, and field a is marked already; remove one"},
		},
		"key is a number": {
			"message Cart {\n  option (rkcy.v1.concern) = {};\n  int64 id = 1 [(rkcy.v1.field).key = true];\n}",
			[]string{"shop.proto:4: field Cart.id: the key is of kind int64; " + keyHint},
		},
		"key is repeated": {
			"message Cart {\n  option (rkcy.v1.concern) = {};\n  repeated string id = 1 [(rkcy.v1.field).key = true];\n}",
			[]string{"shop.proto:4: field Cart.id: the key is repeated; " + keyHint},
		},
		"key is a map": {
			"message Cart {\n  option (rkcy.v1.concern) = {};\n  map<string, string> id = 1 [(rkcy.v1.field).key = true];\n}",
			[]string{"shop.proto:4: field Cart.id: the key is a map; " + keyHint},
		},
		"key is optional": {
			"message Cart {\n  option (rkcy.v1.concern) = {};\n  optional string id = 1 [(rkcy.v1.field).key = true];\n}",
			[]string{"shop.proto:4: field Cart.id: the key is optional, but every instance has a key; remove optional (in proto2 and editions: use features.field_presence = IMPLICIT)"},
		},
		"key in a oneof": {
			"message Cart {\n  option (rkcy.v1.concern) = {};\n  oneof who { string id = 1 [(rkcy.v1.field).key = true]; }\n}",
			[]string{"shop.proto:4: field Cart.id: the key is a member of oneof who, but every instance has a key; " + keyHint},
		},
		"key is transient": {
			"message Cart {\n  option (rkcy.v1.concern) = {};\n  string id = 1 [(rkcy.v1.field) = {key: true, transient: true}];\n}",
			[]string{"shop.proto:4: field Cart.id: the key is transient, but a row needs its key; remove transient"},
		},
		"index on nothing": {
			"message Cart {\n  option (rkcy.v1.concern) = {};\n  string id = 1 [(rkcy.v1.field).key = true];\n  string x = 2 [(rkcy.v1.field) = {transient: true, index: true}];\n}",
			[]string{"shop.proto:5: field Cart.x: a transient field has no column, so it cannot have an index; remove index or transient"},
		},
		"platform's column": {
			"message Cart {\n  option (rkcy.v1.concern) = {};\n  string id = 1 [(rkcy.v1.field).key = true];\n  int64 rkcy_version = 2;\n}",
			[]string{"shop.proto:5: field Cart.rkcy_version: columns that begin with rkcy_ are the platform's; rename the field, or mark it transient"},
		},
		"PostgreSQL's column": {
			"message Cart {\n  option (rkcy.v1.concern) = {};\n  string id = 1 [(rkcy.v1.field).key = true];\n  int64 xmin = 2;\n}",
			[]string{"shop.proto:5: field Cart.xmin: every PostgreSQL table has a system column xmin; rename the field, or mark it transient"},
		},
		"column in capitals": {
			"message Cart {\n  option (rkcy.v1.concern) = {};\n  string id = 1 [(rkcy.v1.field).key = true];\n  int64 itemCount = 2;\n}",
			[]string{"shop.proto:5: field Cart.itemCount: the name of a column must match ^[a-z_][a-z0-9_]{0,62}$; rename the field, or mark it transient"},
		},
		"column too long": {
			"message Cart { option (rkcy.v1.concern) = {}; string id = 1 [(rkcy.v1.field).key = true];\n int64 " + strings.Repeat("x", 64) + " = 2;\n}",
			[]string{"shop.proto:3: field Cart." + strings.Repeat("x", 64) + ": the name of a column must match ^[a-z_][a-z0-9_]{0,62}$; rename the field, or mark it transient"},
		},
		"invalid name": {
			`message Cart { option (rkcy.v1.concern) = {name: "Cart!", table: "cart"}; string id = 1 [(rkcy.v1.field).key = true]; }`,
			[]string{`shop.proto:2: message Cart: the Concern's name "Cart!" must match ^[a-z][a-z0-9_]{0,63}$; set it with option (rkcy.v1.concern).name`},
		},
		"invalid table": {
			`message Cart { option (rkcy.v1.concern).table = "my-carts"; string id = 1 [(rkcy.v1.field).key = true]; }`,
			[]string{`shop.proto:2: message Cart: the table's name "my-carts" must match ^[a-z_][a-z0-9_]{0,62}$; set it with option (rkcy.v1.concern).table`},
		},
		"reserved table": {
			`message Cart { option (rkcy.v1.concern).table = "rkcy_watermark"; string id = 1 [(rkcy.v1.field).key = true]; }`,
			[]string{`shop.proto:2: message Cart: the table's name "rkcy_watermark" is reserved (rkcy_*, pg_*, goose_db_version, schema_migrations); set another with option (rkcy.v1.concern).table`},
		},
		"table twice": {
			cart + `message Basket { option (rkcy.v1.concern).table = "cart"; string id = 1 [(rkcy.v1.field).key = true]; }`,
			[]string{`shop.proto:3: message Basket: table "cart" is taken by message Cart (shop.proto:2); set another with option (rkcy.v1.concern).table`},
		},
		"name twice": {
			cart + `message Basket { option (rkcy.v1.concern) = {name: "cart", table: "basket"}; string id = 1 [(rkcy.v1.field).key = true]; }`,
			[]string{`shop.proto:3: message Basket: the Concern's name "cart" is taken by message Cart (shop.proto:2); set another with option (rkcy.v1.concern).name`},
		},
		"nested": {
			"message Shop {\n  message Cart {\n    option (rkcy.v1.concern) = {};\n    string id = 1 [(rkcy.v1.field).key = true];\n  }\n}",
			[]string{"shop.proto:3: message Cart: a Concern must be a message at the top level of its file; move it out of Shop"},
		},
		"option that does nothing": {
			"message Note {\n  string id = 1 [(rkcy.v1.field).index = true];\n  message Page { string id = 1 [(rkcy.v1.field).key = true]; }\n}",
			[]string{
				"shop.proto:4: field Page.id: option (rkcy.v1.field) counts only in a Concern; mark the message with option (rkcy.v1.concern) = {}, or remove it",
				"shop.proto:3: field Note.id: option (rkcy.v1.field) counts only in a Concern; mark the message with option (rkcy.v1.concern) = {}, or remove it",
			},
		},
		"command option that does nothing": {
			cart + "service S {\n  rpc Get(Cart) returns (Cart) { option (rkcy.v1.command).read_only = true; }\n}",
			[]string{"shop.proto:4: rpc S.Get: option (rkcy.v1.command) counts only in a service of commands; mark the service with option (rkcy.v1.commands).concern, or remove it"},
		},
		"unknown Concern": {
			cart + "service S {\n  option (rkcy.v1.commands).concern = \"Trolley\";\n  rpc Fill(Cart) returns (Cart);\n}",
			[]string{`shop.proto:3: service S: option (rkcy.v1.commands).concern is "Trolley", but must name a Concern message of the same file; it has Cart`},
		},
		"no Concern": {
			"message M {}\nservice S {\n  option (rkcy.v1.commands).concern = \"M\";\n  rpc Fill(M) returns (M);\n}",
			[]string{`shop.proto:3: service S: option (rkcy.v1.commands).concern is "M", but must name a Concern message of the same file; it has none`},
		},
		"provided command": {
			cart + "service S {\n  option (rkcy.v1.commands).concern = \"Cart\";\n  rpc DELETE(Cart) returns (Cart);\n  rpc Read(Cart) returns (Cart);\n}",
			[]string{
				"shop.proto:5: rpc S.DELETE: create, read, update and delete are provided for every Concern; choose another name",
				"shop.proto:6: rpc S.Read: create, read, update and delete are provided for every Concern; choose another name",
			},
		},
		"command like a rule": {
			cart + "service S {\n  option (rkcy.v1.commands).concern = \"Cart\";\n  rpc ValidateUpdate(Cart) returns (Cart);\n}",
			[]string{"shop.proto:5: rpc S.ValidateUpdate: ValidateCreate, ValidateUpdate and ValidateDelete are optional rules of a handler; choose another name"},
		},
		"streams": {
			cart + "service S {\n  option (rkcy.v1.commands).concern = \"Cart\";\n  rpc Up(stream Cart) returns (Cart);\n  rpc Down(Cart) returns (stream Cart);\n}",
			[]string{
				"shop.proto:5: rpc S.Up: a command takes one message and returns one; remove stream",
				"shop.proto:6: rpc S.Down: a command takes one message and returns one; remove stream",
			},
		},
		"two commands of one Go name": {
			cart + "service S { option (rkcy.v1.commands).concern = \"Cart\"; rpc fill_up(Cart) returns (Cart); }\nservice T { option (rkcy.v1.commands).concern = \"Cart\"; rpc FillUp(Cart) returns (Cart); }",
			[]string{"shop.proto:4: rpc T.FillUp: the handler's method FillUp is there for rpc S.fill_up (shop.proto:3) already; choose another name"},
		},
		"Go name of a message": {
			cart + "\nmessage CartConcern {}\nmessage NewCart {}",
			[]string{
				"shop.proto:2: message Cart: the Go name CartConcern, the name of the Concern, is taken by message CartConcern (shop.proto:4); rename one of the two",
				"shop.proto:2: message Cart: the Go name NewCart, the constructor of the definition, is taken by message NewCart (shop.proto:5); rename one of the two",
			},
		},
		"Go names of enums, nested messages and oneofs": {
			"message Cart_ { option (rkcy.v1.concern) = {}; string id = 1 [(rkcy.v1.field).key = true]; }\n" +
				"message Cart { message Read {} enum Update { DELETE = 0; } oneof o { string create = 1; } }\nenum NewCart_ { ZERO = 0; }",
			[]string{
				"shop.proto:2: message Cart_: the Go name Cart_Create, the constructor of the create step, is taken by oneof member create (shop.proto:3); rename one of the two",
				"shop.proto:2: message Cart_: the Go name Cart_Read, the constructor of the read step, is taken by message Read (shop.proto:3); rename one of the two",
				"shop.proto:2: message Cart_: the Go name Cart_Update, the constructor of the update step, is taken by enum Update (shop.proto:3); rename one of the two",
				"shop.proto:2: message Cart_: the Go name NewCart_, the constructor of the definition, is taken by enum NewCart_ (shop.proto:4); rename one of the two",
			},
		},
		"Go name of a command": {
			cart + "service S {\n  option (rkcy.v1.commands).concern = \"Cart\";\n  rpc Mapping(Cart) returns (Cart);\n}",
			[]string{"shop.proto:5: rpc S.Mapping: the Go name CartMapping, the constructor of the step, is taken by the storage mapping of message Cart (shop.proto:2); rename the rpc"},
		},
		"Go name of a second Concern": {
			cart + "message CartRead { option (rkcy.v1.concern) = {}; string id = 1 [(rkcy.v1.field).key = true]; }",
			[]string{"shop.proto:2: message Cart: the Go name CartRead, the constructor of the read step, is taken by message CartRead (shop.proto:3); rename one of the two"},
		},
		"Go name of a service": {
			cart + "service Cart2 {}\nservice CartSell { option (rkcy.v1.commands).concern = \"Cart\"; rpc SellClient(Cart) returns (Cart); }",
			[]string{"shop.proto:4: rpc CartSell.SellClient: the Go name CartSellClient, the constructor of the step, is taken by service CartSell (shop.proto:4); rename the rpc"},
		},
		"compensation": {
			cart + `message N {} service S { option (rkcy.v1.commands).concern = "Cart";
rpc A(Cart) returns (Cart) { option (rkcy.v1.command).compensation = "Z"; }
rpc B(Cart) returns (Cart) { option (rkcy.v1.command).compensation = "Look"; }
rpc C(Cart) returns (Cart) { option (rkcy.v1.command).compensation = "E"; }
rpc D(Cart) returns (Cart) { option (rkcy.v1.command) = {compensation: "A", no_compensation: true}; }
rpc E(N) returns (N);
rpc Look(Cart) returns (Cart) { option (rkcy.v1.command) = {read_only: true, compensation: "A"}; }
rpc Peek(Cart) returns (Cart) { option (rkcy.v1.command) = {read_only: true, no_compensation: true}; }
}`,
			[]string{
				`shop.proto:4: rpc S.A: compensation "Z" is no command of Cart; it has A, B, C, D, E`,
				"shop.proto:5: rpc S.B: compensation Look is read-only, so it undoes nothing; name one of A, B, C, D, E",
				"shop.proto:6: rpc S.C: compensation E takes a shop.N, but must take what C takes (shop.Cart) or returns (shop.Cart)",
				"shop.proto:7: rpc S.D: compensation and no_compensation exclude each other; remove one",
				"shop.proto:9: rpc S.Look: a read-only command needs no compensation; remove compensation",
				"shop.proto:10: rpc S.Peek: a read-only command needs no compensation; remove no_compensation",
			},
		},
		"relation": {
			cart + `message Limit { option (rkcy.v1.concern).config = true; string id = 1 [(rkcy.v1.field).key = true]; }
message Line { option (rkcy.v1.concern) = {}; string id = 1 [(rkcy.v1.field).key = true];
string a = 2 [(rkcy.v1.field).refers_to = "Trolley"];
string b = 3 [(rkcy.v1.field).refers_to = "Note"];
string c = 4 [(rkcy.v1.field).refers_to = "Limit"];
repeated string d = 5 [(rkcy.v1.field).refers_to = "Cart"];
int64 e = 6 [(rkcy.v1.field).refers_to = "Cart"];
map<string, string> f = 7 [(rkcy.v1.field).refers_to = "Cart"];
string g = 8 [(rkcy.v1.field) = {refers_to: "Cart", transient: true}];
string h = 9 [(rkcy.v1.field) = {refers_to: "Cart", copy: "nope", copy: "id", copy: "gone", copy: "k", copy: "k"}];
string i = 10 [(rkcy.v1.field).refers_to = "Cart"];
string j = 11 [(rkcy.v1.field).copy = "k"];
string k = 12;
string gone = 13 [(rkcy.v1.field).transient = true];
}
message Note {}`,
			[]string{
				`shop.proto:5: field Line.a: option (rkcy.v1.field).refers_to is "Trolley", but must name a Concern message of the same file; it has Cart, Line`,
				`shop.proto:6: field Line.b: option (rkcy.v1.field).refers_to is "Note", but must name a Concern message of the same file; it has Cart, Line`,
				"shop.proto:7: field Line.c: refers_to names Limit, a config Concern, whose instances know no children; remove refers_to",
				"shop.proto:8: field Line.d: a field with refers_to has a key, so it is one string, but this is repeated; remove refers_to",
				"shop.proto:9: field Line.e: a field with refers_to has a key, so it is one string, but this is of kind int64; remove refers_to",
				"shop.proto:10: field Line.f: a field with refers_to has a key, so it is one string, but this is a map; remove refers_to",
				"shop.proto:11: field Line.g: a transient field is forgotten, so nobody could tell a parent that it lost a child; remove refers_to or transient",
				`shop.proto:12: field Line.h: copy names "nope", but Line has no such field`,
				`shop.proto:12: field Line.h: copy names "id", the key, which is always copied; remove it`,
				`shop.proto:12: field Line.h: copy names "gone", which is transient: once it is forgotten, the copy would be too; remove it`,
				`shop.proto:12: field Line.h: copy names "k" twice; remove one`,
				"shop.proto:13: field Line.i: a parent knows a child once, and field h refers to Cart already; remove refers_to from one",
				"shop.proto:14: field Line.j: option (rkcy.v1.field).copy says what a parent sees, so it needs refers_to; add refers_to, or remove copy",
			},
		},
		"unique": {
			cart + `message Line { option (rkcy.v1.concern) = {}; string id = 1 [(rkcy.v1.field) = {key: true, unique: true}];
int64 a = 2 [(rkcy.v1.field).unique = true];
repeated string b = 3 [(rkcy.v1.field).unique = true];
map<string, string> c = 4 [(rkcy.v1.field).unique = true];
string d = 5 [(rkcy.v1.field) = {unique: true, transient: true}];
string e = 6 [(rkcy.v1.field).unique = true];
string f = 7 [(rkcy.v1.field).unique = true];
string ` + strings.Repeat("x", 60) + ` = 8 [(rkcy.v1.field).unique = true];
bytes g = 9 [(rkcy.v1.field).unique = true];
}
message E { option (rkcy.v1.concern).name = "line_e"; string id = 1 [(rkcy.v1.field).key = true]; }
message F { option (rkcy.v1.concern).table = "line_f"; string id = 1 [(rkcy.v1.field).key = true]; }`,
			[]string{
				"shop.proto:3: field Line.id: a key is unique without saying so; remove unique",
				"shop.proto:4: field Line.a: a unique field is one string, but this is of kind int64; remove unique",
				"shop.proto:5: field Line.b: a unique field is one string, but this is repeated; remove unique",
				"shop.proto:6: field Line.c: a unique field is one string, but this is a map; remove unique",
				"shop.proto:7: field Line.d: a transient field is forgotten, so its value could not be given back; remove unique or transient",
				`shop.proto:8: field Line.e: the values of a unique field are in a Concern called "line_e", and that name is taken by message E (shop.proto:13); rename one of the two`,
				`shop.proto:9: field Line.f: the values of a unique field are in table "line_f", and that name is taken by message F (shop.proto:14); rename one of the two`,
				`shop.proto:10: field Line.` + strings.Repeat("x", 60) + `: the values of a unique field are in a Concern and a table that are both called "line_` + strings.Repeat("x", 60) + `", which must match ^[a-z_][a-z0-9_]{0,62}$; rename the field`,
				"shop.proto:11: field Line.g: a unique field is one string, but this is of kind bytes; remove unique",
			},
		},
		"config Concern": {
			`message Limit { option (rkcy.v1.concern) = {config: true, table: "limits"}; string id = 1 [(rkcy.v1.field) = {key: true, index: true}];
string a = 2 [(rkcy.v1.field) = {unique: true, refers_to: "Limit", copy: "id"}];
string b = 3 [(rkcy.v1.field).transient = true];
}
message Keyless { option (rkcy.v1.concern).config = true; }
message Numbered { option (rkcy.v1.concern).config = true; int64 id = 1 [(rkcy.v1.field).key = true]; }
service S { option (rkcy.v1.commands).concern = "Limit"; rpc Get(Limit) returns (Limit); }`,
			[]string{
				"shop.proto:2: message Limit: a config Concern has no table; remove table",
				"shop.proto:2: field Limit.id: a config Concern has no table and takes no part in transactions; remove index",
				"shop.proto:3: field Limit.a: a config Concern has no table and takes no part in transactions; remove unique",
				"shop.proto:3: field Limit.a: a config Concern has no table and takes no part in transactions; remove refers_to",
				"shop.proto:3: field Limit.a: a config Concern has no table and takes no part in transactions; remove copy",
				"shop.proto:4: field Limit.b: a config Concern has no table and takes no part in transactions; remove transient",
				"shop.proto:6: message Keyless: a Concern needs a key; " + keyHint,
				"shop.proto:7: field Numbered.id: the key is of kind int64; " + keyHint,
				"shop.proto:8: service S: Limit is a config Concern, which is read-only and has no commands; remove the option",
			},
		},
		"Go names of relations and config Concerns": {
			cart + `message Line { option (rkcy.v1.concern) = {}; string id = 1 [(rkcy.v1.field).key = true]; string cart = 2 [(rkcy.v1.field).refers_to = "Cart"]; }
message CartLines {}
message Limit { option (rkcy.v1.concern).config = true; string id = 1 [(rkcy.v1.field).key = true]; }
message NewLimitConfig {}
message LimitOf {}
message Box { option (rkcy.v1.concern) = {}; string id = 1 [(rkcy.v1.field) = {key: true, refers_to: "Cart"}]; }
service S { option (rkcy.v1.commands).concern = "Cart"; rpc Boxes(Cart) returns (Cart); }`,
			[]string{
				"shop.proto:2: message Cart: the Go name CartLines, what finds the children of type Line, is taken by message CartLines (shop.proto:4); rename one of the two",
				"shop.proto:9: rpc S.Boxes: the Go name CartBoxes, the constructor of the step, is taken by what finds the children of type Box of message Cart (shop.proto:2); rename the rpc",
				"shop.proto:5: message Limit: the Go name LimitOf, what finds an instance, is taken by message LimitOf (shop.proto:7); rename one of the two",
				"shop.proto:5: message Limit: the Go name NewLimitConfig, the constructor of the definition, is taken by message NewLimitConfig (shop.proto:6); rename one of the two",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			if err := os.WriteFile(filepath.Join(folder, "shop.proto"), []byte(header+c.source), 0o600); err != nil {
				t.Fatal(err)
			}
			files, err := generate(t, folder, "shop.proto")
			if err == nil {
				t.Fatalf("not refused, but %d files generated", len(files))
			}
			if want := strings.Join(c.want, "\n"); err.Error() != want {
				t.Errorf("refused with\n%v\nwant\n%s", err, want)
			}
		})
	}
}

// Faults of an imported file are told where that is generated, but its names
// are taken here too.
func TestRefusedAcrossFiles(t *testing.T) {
	folder := t.TempDir()
	for name, source := range map[string]string{
		"shop.proto":  header + cart + "message Note { string id = 1 [(rkcy.v1.field).key = true]; }",
		"other.proto": `syntax = "proto3"; package other; import "rkcy/v1/options.proto"; import "shop.proto"; option go_package = "example.com/other";` + "\n" + cart + "message User { shop.Cart cart = 1; }",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := generate(t, folder, "other.proto")
	const want = `other.proto:2: message Cart: the Concern's name "cart" is taken by message Cart (shop.proto:2); set another with option (rkcy.v1.concern).name
other.proto:2: message Cart: table "cart" is taken by message Cart (shop.proto:2); set another with option (rkcy.v1.concern).table`
	if err == nil || err.Error() != want {
		t.Errorf("refused with\n%v\nwant\n%s", err, want)
	}
}

// A file without Concerns gets no code.
func TestNothingToGenerate(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "shop.proto"), []byte(header+"message M {}\nservice S { rpc Get(M) returns (M); }"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := generate(t, folder, "shop.proto")
	if err != nil || len(files) != 0 {
		t.Errorf("%v, %v", files, err)
	}
}

// The features that the plugin announces decide whether protoc calls it.
func TestPluginTakesEditions(t *testing.T) {
	folder := t.TempDir()
	source := `edition = "2023"; package shop; import "rkcy/v1/options.proto"; option go_package = "example.com/shop"; option features.field_presence = IMPLICIT;` + "\n" + cart
	if err := os.WriteFile(filepath.Join(folder, "shop.proto"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := generate(t, folder, "shop.proto")
	if err != nil || len(files) != 2 {
		t.Errorf("%d files, %v", len(files), err)
	}
	request, err := compile.Compile(t.Context(), []string{folder}, "shop.proto")
	if err != nil {
		t.Fatal(err)
	}
	plugin, err := protogen.Options{}.New(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := codegen.Generate(plugin); err != nil {
		t.Fatal(err)
	}
	if r := plugin.Response(); r.GetSupportedFeatures() != 3 || r.GetMaximumEdition() != 1000 {
		t.Errorf("features %d, maximum edition %d", r.GetSupportedFeatures(), r.GetMaximumEdition())
	}
}
