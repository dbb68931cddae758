package platform_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
)

const good = `
name: rpg # what it is called
environment: test
replication_factor: 3
min_insync_replicas: 2
kafka:
  bootstrap: "one:9092, two:9092"
  extra:
    security.protocol: SASL_SSL
    socket.keepalive.enable: true
concerns:
  - name: player
    partitions: 8
    retention: {process: 2d, storage: forever, error: 90m}
  - name: character
storage:
  targets:
    - name: main
      dsn: postgres://rpg:secret@db:5432/rpg
    - {name: report, type: postgres, role: secondary, dsn: "host=other dbname=rpg"}
edge:
  slots: 4
  http: :8080
  grpc: 0.0.0.0:9090
  max_request_bytes: 512KiB
  max_in_flight: 100
  default_timeout: 2s
  allowed_origins: ["https://game.example"]
processor:
  cache_bytes: 1GiB
  workers: 4
  batch_max: 500
`

const goodJSON = `{
	"name": "rpg", "environment": "test", "replication_factor": 3, "min_insync_replicas": 2,
	"kafka": {"bootstrap": "one:9092, two:9092", "extra": {"security.protocol": "SASL_SSL", "socket.keepalive.enable": true}},
	"concerns": [
		{"name": "player", "partitions": 8, "retention": {"process": "2d", "storage": "forever", "error": "90m"}},
		{"name": "character"}
	],
	"storage": {"targets": [
		{"name": "main", "dsn": "postgres:\/\/rpg:secret@db:5432\/rpg"},
		{"name": "report", "type": "postgres", "role": "secondary", "dsn": "host=other dbname=rpg"}
	]},
	"edge": {"slots": 4, "http": ":8080", "grpc": "0.0.0.0:9090", "max_request_bytes": 524288, "max_in_flight": 100, "default_timeout": "2s", "allowed_origins": ["https://game.example"]},
	"processor": {"cache_bytes": "1GiB", "workers": 4, "batch_max": 500}
}`

func TestParse(t *testing.T) {
	for file, text := range map[string]string{"platform.yaml": good, "platform.json": goodJSON, "as-yaml.yaml": goodJSON} {
		t.Run(file, func(t *testing.T) {
			// The second target makes the default role ambiguous.
			text = strings.Replace(text, "name: main", "name: main\n      role: primary", 1)
			text = strings.Replace(text, `"name": "main"`, `"name": "main", "role": "primary"`, 1)
			c, err := platform.Parse([]byte(text), file)
			if err != nil {
				t.Fatal(err)
			}
			if c.Name != "rpg" || c.Environment != "test" || c.ReplicationFactor != 3 || c.MinInsyncReplicas != 2 {
				t.Errorf("top: %+v", c)
			}
			if c.Kafka.Bootstrap != "one:9092, two:9092" || c.Kafka.Extra["socket.keepalive.enable"] != "true" {
				t.Errorf("kafka: %+v", c.Kafka)
			}
			want := platform.Concern{Name: "player", Partitions: 8, Retention: platform.Retention{
				Process: platform.Duration(48 * time.Hour), Storage: platform.Forever, Error: platform.Duration(90 * time.Minute),
			}}
			if len(c.Concerns) != 2 || c.Concerns[0] != want || c.Concerns[1].Partitions != platform.DefaultPartitions {
				t.Errorf("concerns: %+v", c.Concerns)
			}
			primary, ok := c.Primary()
			if !ok || primary.DSN != "postgres://rpg:secret@db:5432/rpg" || primary.Type != platform.TypePostgres {
				t.Errorf("primary: %+v %v", primary, ok)
			}
			edge := platform.Edge{
				Slots: 4, HTTP: ":8080", GRPC: "0.0.0.0:9090", MaxRequestBytes: 512 << 10, MaxInFlight: 100,
				DefaultTimeout: platform.Duration(2 * time.Second), AllowedOrigins: []string{"https://game.example"},
			}
			if !reflect.DeepEqual(c.Edge, edge) {
				t.Errorf("edge: %+v", c.Edge)
			}
			if c.Processor != (platform.Processor{CacheBytes: 1 << 30, Workers: 4, BatchMax: 500}) {
				t.Errorf("processor: %+v", c.Processor)
			}
			if err := c.CheckServers(); err != nil {
				t.Errorf("servers: %v", err)
			}
		})
	}
}

func TestSmallestFile(t *testing.T) {
	c, err := platform.Parse([]byte("name: x\nconcerns: [{name: y}]\n"), "x.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if c.Environment != "dev" || c.Edge.GRPC != platform.DefaultGRPCAddr || c.Concerns[0].Retention.Storage != platform.Forever {
		t.Errorf("defaults: %+v", c)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if err := c.CheckServers(); err == nil || !strings.Contains(err.Error(), "RKCY_KAFKA_BOOTSTRAP") {
		t.Errorf("servers: %v", err)
	}
}

// Every fault of a file is reported at once, with its line and what would be
// allowed.
func TestEveryFaultAtOnce(t *testing.T) {
	const text = `name: RPG
enviroment: dev
environment: 5
replication_factor: 2
min_insync_replicas: 3
kafka:
  bootstrap: nowhere
  extra:
    acks: 1
    list: [1]
concerns:
  - name: player
    partitions: many
  - name: player
    partitions: 5000
    retention:
      process: 1s
      storage: soon
  - partitions: 1.5
  - name: platform
storage:
  targets:
    - name: a
      type: mysql
      role: primary
      dsn: mysql://u:verysecret@h/db
    - name: b
      role: boss
      dsn: verysecret
    - {name: a, role: primary}
edge:
  slots: 0x7fffffffff
  http: here
  max_request_bytes: 3MiB
  max_in_flight: -1
  default_timeout: 1h
  allowed_origins: ["game.example"]
processor: 7
`
	_, err := platform.Parse([]byte(text), "dir/platform.yaml")
	faults, ok := errors.AsType[platform.Faults](err)
	if !ok {
		t.Fatalf("error is %T: %v", err, err)
	}
	for _, want := range []string{
		`dir/platform.yaml:1: name: "RPG" is not allowed; it has 1 to 30 lower-case letters, digits and hyphens, a letter first`,
		`:2: enviroment: there is no such field (did you mean "environment"?); allowed are name, environment, replication_factor,`,
		`:3: environment: 5 is a number where text is wanted`,
		`:5: min_insync_replicas: 3 is more than replication_factor 2`,
		`:7: kafka.bootstrap: "nowhere" is not an address`,
		`:9: kafka.extra.acks: is set by the platform`,
		`:10: kafka.extra.list: a list stands where a value is wanted`,
		`:13: concerns[0].partitions: "many" is not a whole number`,
		`:14: concerns[1].name: "player" is the name of concerns[0] already`,
		`:15: concerns[1].partitions: 5000 is out of range; allowed are 1 to 4096`,
		`:17: concerns[1].retention.process: 1s is too short; allowed are 1h or more`,
		`:18: concerns[1].retention.storage: "soon" is not a duration`,
		`:19: concerns[2].partitions: "1.5" is not a whole number`,
		`:19: concerns[2].name: is missing`,
		`:20: concerns[3].name: "platform" is reserved`,
		`:24: storage.targets[0].type: "mysql" is not known; allowed are postgres`,
		`:26: storage.targets[0].dsn: has the scheme "mysql"`,
		`:28: storage.targets[1].role: "boss" is not known; allowed are primary, secondary`,
		`:29: storage.targets[1].dsn: is not a connection string`,
		`:30: storage.targets[2].name: "a" is the name of storage.targets[0] already`,
		`:30: storage.targets[2].role: is a second primary`,
		`:32: edge.slots: "0x7fffffffff" is not a whole number`,
		`:33: edge.http: "here" is not an address`,
		`:34: edge.max_request_bytes: 3145728 is out of range`,
		`:35: edge.max_in_flight: -1 is out of range`,
		`:36: edge.default_timeout: 1h is out of range`,
		`:37: edge.allowed_origins[0]: "game.example" is not scheme://host[:port]`,
		`:38: processor: a number stands where the fields cache_bytes, workers, batch_max are wanted`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s", want)
		}
	}
	if len(faults) != 28 {
		t.Errorf("%d faults", len(faults))
	}
	if strings.Contains(err.Error(), "secret") {
		t.Error("a password is shown")
	}
	if t.Failed() {
		t.Log(err)
	}
	for i := range faults {
		if i > 0 && faults[i].Line < faults[i-1].Line {
			t.Errorf("fault %d is out of order", i)
		}
	}
}

func TestUnreadableFiles(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"empty":         {"x.yaml", "", "the file is empty"},
		"only comment":  {"x.yaml", "# nothing\n", "the file is empty"},
		"syntax":        {"x.yaml", "name: x\nconcerns: [\n", "x.yaml:2:"},
		"tab":           {"x.yaml", "name: x\nkafka:\n\tbootstrap: y\n", "x.yaml:3:"},
		"twice":         {"x.yaml", "name: x\nname: y\n", "x.yaml:2:"},
		"two documents": {"x.yaml", "name: x\nconcerns: [{name: a}]\n---\nname: y\n", "a second document starts here"},
		"a list":        {"x.yaml", "- a\n", "a list stands where the fields name, environment"},
		"text":          {"x.yaml", "hello\n", "text stands where the fields name, environment"},
		"lone alias":    {"x.yaml", "name: *x\n", "alias *x has no anchor"},
		"json comma":    {"x.json", "{\n \"name\": \"x\",\n}", "x.json:3: not valid JSON"},
		"yaml as json":  {"x.json", "name: x\nconcerns: [{name: y}]\n", "x.json:1: not valid JSON"},
		"binary":        {"x.yaml", "\x00\xff\xfe", "x.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := platform.Parse([]byte(c.text), c.file)
			if _, ok := errors.AsType[platform.Faults](err); !ok || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %T %v\nwant    %s", err, err, c.want)
			}
		})
	}
	if _, err := platform.Load(filepath.Join(t.TempDir(), "none.yaml"), os.Getenv); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestAnchors(t *testing.T) {
	c, err := platform.Parse([]byte("name: x\nconcerns:\n  - name: a\n    retention: &r {process: 1d}\n  - name: b\n    retention: *r\n"), "x.yaml")
	if err != nil || c.Concerns[1].Retention.Process != platform.Duration(24*time.Hour) {
		t.Errorf("%+v %v", c.Concerns, err)
	}
}

func TestEnvironmentOverrides(t *testing.T) {
	file := filepath.Join(t.TempDir(), "platform.yaml")
	if err := os.WriteFile(file, []byte("name: x\nconcerns: [{name: y}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{platform.EnvKafkaBootstrap: "k:1", platform.EnvPostgresDSN: "postgres://p/db"}
	c, err := platform.Load(file, func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := c.Primary(); !ok || p.DSN != "postgres://p/db" || c.Kafka.Bootstrap != "k:1" {
		t.Errorf("%+v", c)
	}
	env[platform.EnvKafkaBootstrap] = "bad"
	if _, err = platform.Load(file, func(name string) string { return env[name] }); err == nil || !strings.HasPrefix(err.Error(), "kafka.bootstrap:") {
		t.Errorf("bad value from the environment: %v", err)
	}
}

func TestQuantities(t *testing.T) {
	for text, want := range map[string]time.Duration{"30s": 30 * time.Second, "1.5d": 36 * time.Hour, "0": 0, "1h30m": 90 * time.Minute} {
		if d, err := platform.ParseDuration(text); err != nil || time.Duration(d) != want {
			t.Errorf("ParseDuration(%q) = %v, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "-1s", "d", "-1d", "1", "1e9d", "x"} {
		if d, err := platform.ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v", text, d)
		}
	}
	for text, want := range map[string]platform.Size{"0": 0, "1KiB": 1024, "2 MB": 2e6, "7B": 7} {
		if s, err := platform.ParseSize(text); err != nil || s != want {
			t.Errorf("ParseSize(%q) = %v, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "-1", "KiB", "1.5MiB", "9999999999TiB", "x"} {
		if s, err := platform.ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %v", text, s)
		}
	}
	for _, d := range []string{"forever", "7d", "1h", "30m", "1h30m", "10s", "500ms"} {
		if parsed, err := platform.ParseDuration(d); err != nil || parsed.String() != d {
			t.Errorf("%q reads back as %q (%v)", d, parsed, err)
		}
	}
	for _, s := range []string{"1KiB", "512MiB", "3GiB", "1000"} {
		if parsed, err := platform.ParseSize(s); err != nil || parsed.String() != s {
			t.Errorf("%q reads back as %q (%v)", s, parsed, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add(goodJSON)
	f.Add("a: &x [*x]\nname: *x\n")
	f.Fuzz(func(_ *testing.T, text string) {
		_, err := platform.Parse([]byte(text), "f.yaml")
		if err != nil {
			_ = err.Error()
		}
	})
}
