package sim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketcycle/rocketcycle/examples/rpg/db"
	"github.com/rocketcycle/rocketcycle/examples/rpg/edge"
	"github.com/rocketcycle/rocketcycle/examples/rpg/logic"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/examples/rpg/sim"
	"github.com/rocketcycle/rocketcycle/examples/rpg/store"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
)

func TestMain(m *testing.M) { os.Exit(devpostgres.Main(m)) }

const platformFile = `
name: %s
environment: test
concerns:
  - {name: player, partitions: 2}
  - {name: character, partitions: 2}
storage:
  targets:
    - {name: main, role: primary}
`

func application() node.Application {
	app := node.Application{
		Name: "rpg",
		Concerns: []node.Concern{
			{Definition: rpgv1.NewPlayer(logic.Player{}), Mapping: rpgv1.PlayerMapping()},
			{Definition: rpgv1.NewCharacter(logic.Character{}), Mapping: store.CharacterMapping()},
		},
		Services:   edge.Services,
		Service:    rpgv1.File_rpg_v1_edge_proto.Services().ByName("RpgService"),
		Migrations: db.Migrations(),
	}
	app.PlatformFile = fmt.Appendf(nil, platformFile, streamtest.Name("sim"))
	return app
}

// game runs the whole game in this process and returns where it is.
func game(t *testing.T) (readyFile, dsn string) {
	t.Helper()
	app := application()
	dsn = devpostgres.Test(t).NewDatabase(t)
	readyFile = filepath.Join(t.TempDir(), "ready.json")
	root := cli.New(app)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs([]string{
		"run", "--update", "--kafka", streamtest.Broker(t), "--postgres", dsn, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--ready-file", readyFile,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- root.ExecuteContext(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%v\n%s", err, &out)
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(readyFile); err == nil {
			return readyFile, dsn
		}
		select {
		case <-tick.C:
		case err := <-done:
			done <- nil
			t.Fatalf("%v\n%s", err, &out)
		case <-time.After(time.Minute):
			t.Fatal("the game is not ready")
		}
	}
}

// command runs "rpg sim" and returns its exit code and what it wrote.
func command(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	root := cli.New(func() node.Application {
		app := application()
		app.Commands = append(app.Commands, sim.NewCommand(app.Mappings()))
		return app
	}())
	var o, e bytes.Buffer
	root.SetOut(&o)
	root.SetErr(&e)
	root.SetArgs(append([]string{"sim"}, args...))
	err := root.ExecuteContext(t.Context())
	if err != nil {
		fmt.Fprintln(&e, err)
	}
	return cli.ExitCode(err), o.String(), e.String()
}

func TestSimulation(t *testing.T) {
	ready, dsn := game(t)
	for _, mix := range sim.Mixes() {
		t.Run(mix, func(t *testing.T) {
			code, out, errOut := command(t, "--ready-file", ready, "--mix", mix, "--count", "400", "--characters", "12", "--runners", "8", "--seed", "11", "--json")
			if code != 0 {
				t.Fatalf("exit code %d\n%s\n%s", code, out, errOut)
			}
			var r sim.Result
			if err := json.Unmarshal([]byte(out), &r); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if r.OK < 300 || r.OK+r.Refused+r.Unknown != 400 || r.Seed != 11 || r.Mix != mix || len(r.Databases) != 1 || len(r.Latency) == 0 {
				t.Errorf("%+v", r)
			}
			if mix == "trade" && r.Refused == 0 {
				t.Error("no trade was refused")
			}
			if !strings.Contains(errOut, "seed 11\n") || !strings.Contains(errOut, "\n400 of 400 requests") {
				t.Error(errOut)
			}
		})
	}
	t.Run("text", func(t *testing.T) {
		code, out, errOut := command(t, "--ready-file", ready, "--count", "50", "--characters", "3")
		if code != 0 || !strings.Contains(out, "equal: model, cache, database primary") || !strings.Contains(out, "p99") || !strings.Contains(out, "requests/s") {
			t.Errorf("exit code %d\n%s\n%s", code, out, errOut)
		}
	})

	// A database that changes what it is told to store, in one row.
	t.Run("corrupted row", func(t *testing.T) {
		execute(t, dsn, `
			CREATE FUNCTION corrupt() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN
				IF NEW.fullname = 'Character 1' THEN
					NEW.currency = jsonb_set(NEW.currency, '{gold}', '"77"');
				END IF;
				RETURN NEW;
			END $$;
			CREATE TRIGGER corrupt BEFORE INSERT OR UPDATE ON character FOR EACH ROW EXECUTE FUNCTION corrupt()`)
		code, out, errOut := command(t, "--ready-file", ready, "--count", "50", "--characters", "3", "--wait", "2s")
		if code != 1 || !strings.Contains(out, `gold is "77" in database primary, must be "`) || !strings.Contains(out, "1 differences between model, cache, database primary") {
			t.Errorf("exit code %d\n%s\n%s", code, out, errOut)
		}
		if !strings.Contains(errOut, "1 differences; the seed is ") {
			t.Error(errOut)
		}
		execute(t, dsn, "DROP TRIGGER corrupt ON character")
	})

	// A row that is not stored at all.
	t.Run("lost row", func(t *testing.T) {
		execute(t, dsn, `
			CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN
				IF NEW.username LIKE '%-0' THEN RETURN NULL; END IF;
				RETURN NEW;
			END $$;
			CREATE TRIGGER lose BEFORE INSERT ON player FOR EACH ROW EXECUTE FUNCTION lose()`)
		code, out, errOut := command(t, "--edge", addresses(t, ready).GRPC, "--postgres", dsn, "--count", "20", "--characters", "3", "--wait", "2s", "--json")
		var r sim.Result
		if err := json.Unmarshal([]byte(out), &r); err != nil || code != 1 || len(r.Differences) != 1 || !strings.Contains(r.Differences[0], "missing in database primary") {
			t.Errorf("exit code %d\n%s\n%s", code, out, errOut)
		}
	})
}

func addresses(t *testing.T, file string) (at cli.Addresses) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &at); err != nil {
		t.Fatal(err)
	}
	return at
}

func execute(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestWrongUsageAndAway(t *testing.T) {
	t.Setenv("RPG_EDGE", "")
	t.Setenv("RKCY_POSTGRES_DSN", "")
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"mix", []string{"--mix", "everything"}, 2, "known are heavy-read, balanced, fund, trade"},
		{"runners", []string{"--runners", "0"}, 2, "0 runners; 1 to 10000 are possible"},
		{"count", []string{"--count", "-1"}, 2, "count is -1"},
		{"characters", []string{"--characters", "1"}, 2, "1 characters"},
		{"edge", []string{"--edge", "nowhere"}, 2, `edge "nowhere" is not host:port`},
		{"argument", []string{"now"}, 2, "takes no argument"},
		{"flag", []string{"--fast"}, 2, "unknown flag"},
		{"ready file", []string{"--ready-file", filepath.Join(t.TempDir(), "none")}, 2, "--ready-file"},
		{"dsn", []string{"--postgres", "postgres://[", "--edge", "127.0.0.1:1"}, 2, "DSN"},
		{"database away", []string{"--postgres", "postgres://a:b@127.0.0.1:1/c", "--edge", "127.0.0.1:1", "--timeout", "1s"}, 4, "database primary"},
		{"edge away", []string{"--edge", "127.0.0.1:1", "--characters", "2", "--wait", "200ms", "--timeout", "1s"}, 4, "create a player: Unavailable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errOut := command(t, c.args...)
			if code != c.code || !strings.Contains(errOut, c.want) || out != "" {
				t.Errorf("exit code %d, want %d with %q\n%s\n%s", code, c.code, c.want, out, errOut)
			}
		})
	}
}
