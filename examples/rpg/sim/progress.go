package sim

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far the load has come: a bar on a terminal, else a line
// for every tenth.
func progress(w io.Writer, total int) (tell func(done int), end func()) {
	if f, is := w.(*os.File); is && term.IsTerminal(int(f.Fd())) {
		bar := progressbar.NewOptions(total,
			progressbar.OptionSetWriter(w), progressbar.OptionSetDescription("requests"), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("requests"), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(30))
		return func(int) { _ = bar.Add(1) }, func() { _ = bar.Exit(); _, _ = fmt.Fprintln(w) }
	}
	var mu sync.Mutex
	shown, start := 0, time.Time{}
	return func(done int) {
		mu.Lock()
		defer mu.Unlock()
		if start.IsZero() {
			start = time.Now()
		}
		if tenth := done * 10 / total; tenth > shown {
			shown = tenth
			_, _ = fmt.Fprintf(w, "%d of %d requests after %.1f s\n", done, total, time.Since(start).Seconds())
		}
	}, func() {}
}
