package postgres_test

import (
	"context"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/column"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	"github.com/rocketcycle/rocketcycle/pkg/storage/storagetest"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// hero returns the mapping that the generator makes of a version of a message.
func hero(t *testing.T, fields string) (m storage.Mapping, parse func(json string) proto.Message) {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{
		"hero.proto": `syntax = "proto3"; message Hero { ` + fields + ` } message Place { string city = 1; }`,
	})}}
	files, err := compiler.Compile(context.Background(), "hero.proto")
	if err != nil {
		t.Fatal(err)
	}
	desc := files[0].Messages().ByName("Hero")
	m = storage.Mapping{Concern: "hero", Table: "hero", New: func() proto.Message { return dynamicpb.NewMessage(desc) }}
	var numbers []protowire.Number
	for i := range desc.Fields().Len() {
		fd := desc.Fields().Get(i)
		numbers = append(numbers, fd.Number())
		m.Columns = append(m.Columns, storage.Column{Name: string(fd.Name()), Type: column.Type(fd), Key: fd.Number() == 1, NotNull: !column.Nullable(fd)})
	}
	codec := column.NewCodec(m.New, numbers...)
	m.Encode, m.Decode = codec.Encode, codec.Decode
	return m, func(json string) proto.Message {
		h := m.New()
		if err := protojson.Unmarshal([]byte(json), h); err != nil {
			t.Fatal(err)
		}
		return h
	}
}

// A Concern gets new fields: the program from before works on with the tables
// from after, and does not take away what it does not know.
func TestSchemaEvolution(t *testing.T) {
	before, parseBefore := hero(t, "string id = 1; string name = 2;")
	after, parseAfter := hero(t, "string id = 1; string name = 2; int64 level = 3; optional string title = 4; repeated string skills = 5; Place home = 6;")
	dsn := devpostgres.Test(t).NewDatabase(t)
	if _, err := postgres.Migrate(t.Context(), dsn, nil, nil); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(postgres.Schema(before))
	target := func(m storage.Mapping) *postgres.Target {
		t.Helper()
		o, err := postgres.Open(postgres.Config{DSN: dsn, Mappings: []storage.Mapping{m}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(o.Close)
		return o
	}
	old, next := target(before), target(after)
	var offset int64
	put := func(o *postgres.Target, version uint64, h proto.Message) {
		t.Helper()
		err := o.Apply(t.Context(), []storage.Batch{{
			Partition: storage.Partition{Concern: "hero", Generation: 1}, From: offset, Next: offset + 1,
			Changes: []*rkcyv1.Change{storagetest.Put(h, version)},
		}})
		if err != nil {
			t.Fatal(err)
		}
		offset++
	}
	want := func(o *postgres.Target, m storage.Mapping, id string, want proto.Message) {
		t.Helper()
		found, err := o.Load(t.Context(), "hero", []string{id})
		if err != nil {
			t.Fatal(err)
		}
		got := m.New()
		if err := proto.Unmarshal(found[id].GetValue(), got); err != nil || !proto.Equal(got, want) {
			t.Errorf("%s is %v, %v; want %v", id, got, err, want)
		}
	}
	put(old, 1, parseBefore(`{"id":"h1","name":"Anna"}`))
	if err := next.CheckSchema(t.Context()); err == nil {
		t.Error("columns that are missing are not missed")
	}
	// As a migration does it: with defaults, for those who do not know them.
	exec(`ALTER TABLE hero ADD COLUMN level bigint NOT NULL DEFAULT 0, ADD COLUMN title text,
		ADD COLUMN skills jsonb NOT NULL DEFAULT '[]', ADD COLUMN home jsonb`)
	for name, o := range map[string]*postgres.Target{"before": old, "after": next} {
		if err := o.CheckSchema(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	want(next, after, "h1", parseAfter(`{"id":"h1","name":"Anna"}`))
	full := `"level":"7","title":"Dr","skills":["a","b"],"home":{"city":"Bonn"}}`
	put(next, 2, parseAfter(`{"id":"h1","name":"Anna",`+full))
	want(old, before, "h1", parseBefore(`{"id":"h1","name":"Anna"}`))
	// What the program from before writes leaves the rest alone.
	put(old, 3, parseBefore(`{"id":"h1","name":"Berta"}`))
	put(old, 1, parseBefore(`{"id":"h2","name":"Carl"}`))
	want(next, after, "h1", parseAfter(`{"id":"h1","name":"Berta",`+full))
	want(next, after, "h2", parseAfter(`{"id":"h2","name":"Carl"}`))
	// A change that a new program made, written by a storage worker from before.
	put(old, 4, parseAfter(`{"id":"h1","name":"Dora",`+full))
	want(next, after, "h1", parseAfter(`{"id":"h1","name":"Dora",`+full))
}
