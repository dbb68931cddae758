package chaos

import (
	"crypto/rand"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

// session is how long a dead process keeps its partitions. It is generous: the
// machine may be busy.
const session = 3 * time.Second

// arena is a platform of its own, on servers that others may use, too.
type arena struct {
	t    testing.TB
	site site
	// directKafka and directDSN lead to the servers, not through a proxy.
	directKafka, directDSN string
	processes              []*process
}

// newArena makes topics and tables.
func newArena(t testing.TB, bootstrap, dsn string) *arena {
	t.Helper()
	a := &arena{
		t: t, directKafka: bootstrap, directDSN: dsn,
		site: site{Bootstrap: bootstrap, DSN: dsn, Name: "chaos-" + strings.ToLower(rand.Text()[:8]), Session: session},
	}
	if err := a.site.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a
}

// The roles of processes.
var (
	processor = node.Roles{Processor: true}
	storer    = node.Roles{Storage: true}
	edger     = node.Roles{Edge: true}
	both      = node.Roles{Processor: true, Storage: true}
)

// launch starts a process with some roles; change may change where it finds
// everything. It does not wait.
func (a *arena) launch(name string, roles node.Roles, change ...func(*site)) *process {
	a.t.Helper()
	s := a.site
	s.Roles = roles
	for _, fn := range change {
		fn(&s)
	}
	text, err := json.Marshal(s)
	if err != nil {
		a.t.Fatal(err)
	}
	p := launch(a.t, name, envChild+"="+string(text))
	a.processes = append(a.processes, p)
	return p
}

// throughKafka returns a proxy to the brokers, and what makes a process use it.
func (a *arena) throughKafka() (*kafkaProxy, func(*site)) {
	a.t.Helper()
	p, err := newKafkaProxy(a.directKafka)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(p.close)
	return p, func(s *site) { s.Bootstrap = p.bootstrap() }
}

// throughPostgres is the same for the database.
func (a *arena) throughPostgres() (*tcpProxy, func(*site)) {
	a.t.Helper()
	u, err := url.Parse(a.directDSN)
	if err != nil {
		a.t.Fatal(err)
	}
	p, err := newTCPProxy(u.Host)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(p.close)
	u.Host = p.addr()
	return p, func(s *site) { s.DSN = u.String() }
}
