package isolation

import (
	"testing"
	"time"
)

func TestLinearizableFinds(t *testing.T) {
	for name, lines := range map[string][]string{
		"stale list":                {"0-1 a x 1", "2-3 r x"},
		"lost element":              {"0-9 a x 1", "0-9 a x 2", "10-11 r x 2"},
		"stale register":            {"0-1 w p 1", "2-3 w p 2", "4-5 g p 1"},
		"value that came back":      {"0-1 w p 1", "2-9 w p 2", "3-4 g p 2", "5-6 g p 1"},
		"two orders of blind sets":  {"0-9 w p 1", "0-9 w p 2", "10-11 g p 1", "12-13 g p 2"},
		"failed write":              {"0-1! w p 1", "2-3 g p 1"},
		"read of the future":        {"0-1 g p 1", "2-3 w p 1"},
		"unknown, seen and unseen":  {"0-1? w p 1", "2-3 g p 1", "4-5 g p"},
		"own append not seen":       {"0-9 a x 1; r x"},
		"order of elements, hashed": {"0-9 a x 1", "0-9 a x 2", "10-11 r x 1 2", "12-13 r x 2 1"},
	} {
		t.Run(name, func(t *testing.T) {
			if l := Linearizable(history(t, lines...), time.Second); l.Valid() {
				t.Error(l)
			}
		})
	}
}

// The parts of a transaction on two instances may take effect apart: that is
// what Check is for.
func TestLinearizableIsLocal(t *testing.T) {
	h := history(t, "0-9 r x; r y 1", "0-9 a x 1; a y 1", "0-9 r x 1")
	if l := Linearizable(h, time.Second); !l.Valid() || l.Objects != 2 {
		t.Error(l)
	}
}
