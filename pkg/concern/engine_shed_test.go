package concern

import (
	"fmt"
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// While the database has none of it, what was changed stays in memory up to the
// bound, and then new writes are shed; reads, and what has begun, go on. Without
// the bound, memory grows with what is written.
func TestOverlayIsBounded(t *testing.T) {
	const bound = 4096
	for _, off := range []bool{false, true} {
		t.Run(fmt.Sprint("switched off: ", off), func(t *testing.T) {
			x := newTable(t)
			e := x.engines["alpha"].engine
			if !off {
				e.cfg.overlayBytes = bound
			}
			started := x.send(time.Hour, "beta/k0 Append", "alpha/k0 Append <0", "beta/k1 Append <1")
			x.work("beta")
			var largest, accepted, shed int64
			for range 400 {
				s := x.send(time.Hour, "alpha/k1 Append")
				x.work("alpha")
				largest = max(largest, e.cache.pinnedBytes)
				switch code := s.response.GetError().GetCode(); code {
				case rkcyv1.Code_CODE_UNSPECIFIED:
					accepted++
				case txn.CodeResourceExhausted:
					shed++
				default:
					t.Fatalf("%v", s.response)
				}
			}
			if within, all := largest < 2*bound, accepted == 400; off == within || off != all {
				t.Errorf("%d accepted, %d shed, %d bytes in memory", accepted, shed, largest)
			}
			read := x.send(time.Hour, "alpha/k1 Look")
			x.work("alpha")
			wantCode(t, read, 0)
			x.rest()
			wantCode(t, started, 0)
			// Once the database has it, there is room.
			x.persist(true)
			last := x.send(time.Hour, "alpha/k1 Append")
			x.work("alpha")
			wantCode(t, last, 0)
		})
	}
}
