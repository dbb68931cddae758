package codegen_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/internal/codegen"
	"github.com/rocketcycle/rocketcycle/internal/codegen/random"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func TestMain(m *testing.M) { os.Exit(devpostgres.Main(m)) }

// tables makes the tables of all generated schemas in a fresh database.
func tables(t *testing.T) *postgres.Target {
	t.Helper()
	dsn := devpostgres.Test(t).NewDatabase(t)
	if _, err := postgres.Migrate(t.Context(), dsn, nil, nil); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var all []storage.Mapping
	for _, name := range slices.Sorted(maps.Keys(mappings())) {
		schema, err := os.ReadFile(filepath.Join(golden, name, name+".rkcy.sql"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), string(schema)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, mappings()[name]...)
	}
	target, err := postgres.Open(postgres.Config{DSN: dsn, Mappings: all})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	return target
}

// PostgreSQL takes the generated schemas, and they are what the mappings need.
func TestSchemaOnPostgreSQL(t *testing.T) {
	if err := tables(t).CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
}

// Whatever a client can submit is stored, and read again as it was.
func TestRowsOnPostgreSQL(t *testing.T) {
	target := tables(t)
	for _, name := range slices.Sorted(maps.Keys(mappings())) {
		for _, m := range mappings()[name] {
			t.Run(m.Concern, func(t *testing.T) {
				want := map[string]proto.Message{}
				var keys []string
				var changes []*rkcyv1.Change
				for seed := range 200 {
					message := m.New()
					random.Message(rand.New(rand.NewPCG(uint64(seed), 9)), message)
					key := fmt.Sprintf("k%d", seed)
					reflected := message.ProtoReflect()
					for _, c := range m.Columns {
						if c.Key {
							fd := reflected.Descriptor().Fields().ByTextName(c.Name)
							reflected.Set(fd, protoreflect.ValueOfString(key))
						}
					}
					for i := range reflected.Descriptor().Fields().Len() { // fields without a column
						fd := reflected.Descriptor().Fields().Get(i)
						if !slices.ContainsFunc(m.Columns, func(c storage.Column) bool { return c.Name == string(fd.Name()) }) {
							reflected.Clear(fd)
						}
					}
					value, err := proto.Marshal(message)
					if err != nil {
						t.Fatal(err)
					}
					want[key], keys = message, append(keys, key)
					changes = append(changes, &rkcyv1.Change{Key: key, After: &rkcyv1.Instance{Value: value, Version: 1}})
				}
				if err := target.Apply(t.Context(), []storage.Batch{{
					Partition: storage.Partition{Concern: m.Concern, Generation: 1}, Next: int64(len(changes)), Changes: changes,
				}}); err != nil {
					t.Fatal(err)
				}
				have, err := target.Load(t.Context(), m.Concern, keys)
				if err != nil {
					t.Fatal(err)
				}
				for key, message := range want {
					got := m.New()
					if err := proto.Unmarshal(have[key].GetValue(), got); err != nil {
						t.Fatal(err)
					}
					if !proto.Equal(got, message) {
						t.Errorf("%s is stored as\n%v\nand was\n%v", key, got, message)
					}
				}
			})
		}
	}
}

// The words that are quoted are those that PostgreSQL says it needs so.
func TestKeywordsArePostgreSQLs(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), devpostgres.Test(t).DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(t.Context(), "SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T') ORDER BY word")
	if err != nil {
		t.Fatal(err)
	}
	words, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if len(words) < 90 {
		t.Fatalf("PostgreSQL names %d words only", len(words))
	}
	for _, word := range words {
		m := storage.Mapping{Table: word}
		if schema := postgres.Schema(m); schema[:len(`CREATE TABLE "`)+len(word)] != `CREATE TABLE "`+word {
			t.Errorf("postgres.Schema does not quote %s", word)
		}
		if quoted := codegen.Quote(word); quoted != `"`+word+`"` {
			t.Errorf("the generator does not quote %s", word)
		}
	}
}
