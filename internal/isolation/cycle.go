package isolation

import (
	"cmp"
	"slices"
)

// tries bounds how many edges of a component are tried to find a short circle,
// so that a history that is wrong all over is judged as fast as one that is
// not. Past it a G-single may be called G2-item.
func tries(component int) int { return min(200, max(8, 4_000_000/component)) }

// level is a kind of circle: one edge of type with, and a way back over edges
// of rest.
type level struct {
	with, rest edgeType
}

var levels = [...]level{
	{with: ww, rest: ww},
	{with: wr, rest: ww | wr},
	{with: rw, rest: ww | wr},
	{with: rw, rest: ww | wr | rw},
}

// cycles finds circles of each kind, first without and then with rt.
func (c *checker) cycles() {
	f := newFinder(c.g)
	for _, also := range []edgeType{0, rt} {
		single := map[int32]bool{} // nodes of components that have a G-single
		for _, l := range levels {
			mask := l.with | l.rest | also
			sets, in := c.g.components(mask)
			for comp, set := range sets {
				if l.with == rw && l.rest&rw != 0 && single[set[0]] {
					continue // the same component, and a worse kind is known
				}
				cycle := c.shortest(f, l, also, set, in, int32(comp))
				if cycle == nil {
					continue
				}
				if l.with == rw && l.rest&rw == 0 {
					for _, n := range set {
						single[n] = true
					}
				}
				// Without rt it was reported before.
				if slices.ContainsFunc(cycle, func(e edge) bool { return e.kind == rt }) == (also == rt) {
					c.report.add(c.anomaly(cycle))
				}
			}
		}
	}
}

// shortest returns the shortest circle that it finds in a component.
func (c *checker) shortest(f *finder, l level, also edgeType, set, in []int32, comp int32) []edge {
	var best []edge
	left := tries(len(set))
	slices.Sort(set)
	for _, n := range set {
		for _, e := range c.g.of(n) {
			if e.kind != l.with || in[e.to] != comp {
				continue
			}
			if left--; left < 0 {
				return best
			}
			way := f.way(e.to, n, l.rest|also, in, comp)
			if way == nil {
				continue
			}
			cycle := append([]edge{e}, way...)
			if best == nil || c.size(cycle) < c.size(best) {
				best = cycle
			}
			if c.size(best) == 2 {
				return best
			}
		}
	}
	return best
}

// size is the number of operations in a circle.
func (c *checker) size(cycle []edge) int {
	n := 0
	for _, e := range cycle {
		if int(e.from) < c.g.real {
			n++
		}
	}
	return n
}

// anomaly names a circle and makes it readable: virtual nodes go.
func (c *checker) anomaly(cycle []edge) Anomaly {
	// Begin at an operation.
	start := slices.IndexFunc(cycle, func(e edge) bool { return int(e.from) < c.g.real })
	cycle = slices.Concat(cycle[start:], cycle[:start])
	var a Anomaly
	count := map[edgeType]int{}
	for _, e := range cycle {
		if int(e.from) < c.g.real {
			count[e.kind]++
			a.Operations = append(a.Operations, int(e.from))
			a.Cycle = append(a.Cycle, Edge{From: int(e.from), Type: e.kind.String()})
		}
		last := &a.Cycle[len(a.Cycle)-1]
		if int(e.to) < c.g.real {
			last.To, last.Value = int(e.to), e.value
			if e.object >= 0 {
				last.Object = c.objects[e.object].name
			}
		}
	}
	switch {
	case count[rw] > 1:
		a.Kind = G2
	case count[rw] == 1:
		a.Kind = GSingle
	case count[wr] > 0:
		a.Kind = G1c
	default:
		a.Kind = G0
	}
	if count[rt] > 0 {
		a.Kind += Realtime
	}
	// The oldest operation first.
	first := 0
	for i := range a.Cycle {
		if cmp.Less(c.h[a.Cycle[i].From].Invoke, c.h[a.Cycle[first].From].Invoke) {
			first = i
		}
	}
	a.Cycle = slices.Concat(a.Cycle[first:], a.Cycle[:first])
	a.Operations = slices.Concat(a.Operations[first:], a.Operations[:first])
	return a
}
