package integration

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.parallel").DefValue == flag.Lookup("test.parallel").Value.String() {
		// The tests wait for sessions and servers more than they work.
		if err := flag.Set("test.parallel", "4"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := devpostgres.Main(m)
	if err := os.RemoveAll(built.dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// built is the program under test, built once per test process.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// program returns the path of the rpg binary.
func program(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "rpg-binary-"); built.err != nil {
			return
		}
		args := []string{"build", "-o", filepath.Join(built.dir, "rpg")}
		if raceEnabled {
			args = append(args, "-race")
		}
		if out, err := exec.Command("go", append(args, "github.com/rocketcycle/rocketcycle/examples/rpg")...).CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build rpg: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "rpg")
}
