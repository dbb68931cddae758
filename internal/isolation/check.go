package isolation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Check looks for anomalies. An error means that the history cannot be
// judged: a value that is written twice to an object, an object that is used
// as a list and as a register.
func Check(h History) (*Report, error) {
	c := &checker{
		h: h, happened: make([]bool, len(h)), byName: map[Object]int32{}, g: newGraph(len(h)),
		report: &Report{history: h, More: map[Kind]int{}, OK: h.Count(OK), Failed: h.Count(Failed), Unknown: h.Count(Unknown)},
	}
	if err := c.collect(); err != nil {
		return nil, err
	}
	for i := range c.objects {
		o := &c.objects[i]
		if o.list {
			c.listOrder(o)
		} else {
			c.registerReads(o)
		}
	}
	for i := range h {
		if h[i].Outcome == Unknown && c.happened[i] {
			c.report.Observed++
		}
	}
	for i := range c.objects {
		if o := &c.objects[i]; o.list {
			c.listEdges(int32(i), o)
		} else {
			c.registerEdges(int32(i), o)
		}
	}
	c.report.Objects, c.report.Edges = len(c.objects), len(c.g.edges)
	c.realtime()
	c.g.sort()
	c.cycles()
	return c.report, nil
}

type checker struct {
	h History
	// happened: took effect for certain, since it was acknowledged or seen.
	happened []bool
	objects  []object
	byName   map[Object]int32
	g        *graph
	report   *Report
}

// object is all that was done to an instance.
type object struct {
	name    Object
	list    bool
	writes  map[int64]write
	ordered []int64 // values in the order of the history
	reads   []read
	// order of the elements of a list, as far as it was seen.
	order []int64
}

type write struct {
	op int32
	// final: the operation's last write to the object.
	final bool
}

// read is what an operation that is OK saw of others: its own elements at the
// end of a list are cut off in base.
type read struct {
	op   int32
	seen []int64
	base []int64
	// agrees: it fits the order of the list.
	agrees bool
}

// collect sorts all steps by object.
func (c *checker) collect() error {
	var faults []error
	for i := range c.h {
		op := &c.h[i]
		c.happened[i] = op.Outcome == OK
		mine := map[int32][]int64{} // the operation's view of each object that it knows, own writes included
		wrote := map[int32][]int64{}
		for _, s := range op.Steps {
			list := s.Verb == Append || s.Verb == ReadList
			at, ok := c.byName[s.Object]
			if !ok {
				at = int32(len(c.objects))
				c.byName[s.Object] = at
				c.objects = append(c.objects, object{name: s.Object, list: list, writes: map[int64]write{}})
			}
			o := &c.objects[at]
			if o.list != list {
				faults = append(faults, fmt.Errorf("operation %d: %v is a list and a register", i, s.Object))
				continue
			}
			if !s.Verb.reads() {
				if _, ok := o.writes[s.Value]; ok {
					faults = append(faults, fmt.Errorf("operation %d: %d is written to %v twice", i, s.Value, s.Object))
					continue
				}
				if n := len(wrote[at]); n > 0 {
					last := wrote[at][n-1]
					o.writes[last] = write{op: int32(i)}
				}
				o.writes[s.Value] = write{op: int32(i), final: true}
				o.ordered = append(o.ordered, s.Value)
				wrote[at] = append(wrote[at], s.Value)
				if view, ok := mine[at]; ok && list {
					mine[at] = append(slices.Clip(view), s.Value)
				} else if !list {
					mine[at] = []int64{s.Value}
				}
				continue
			}
			if op.Outcome != OK {
				continue
			}
			c.internal(i, s, list, mine, wrote, at)
			base := s.Seen
			if list {
				for own := wrote[at]; len(own) > 0 && len(base) > 0 && base[len(base)-1] == own[len(own)-1]; own = own[:len(own)-1] {
					base = base[:len(base)-1]
				}
			}
			o.reads = append(o.reads, read{op: int32(i), seen: s.Seen, base: base, agrees: true})
			mine[at] = s.Seen
		}
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	return nil
}

// internal compares a read with what its operation knows already.
func (c *checker) internal(op int, s Step, list bool, mine, wrote map[int32][]int64, at int32) {
	view, known := mine[at]
	own := wrote[at]
	switch {
	case known && !slices.Equal(view, s.Seen):
		c.report.add(Anomaly{Kind: Internal, Operations: []int{op}, Text: fmt.Sprintf(
			"T%d saw %s in %v, and knew that it is %s", op, values(s.Seen), s.Object, values(view))})
	case !known && list && len(own) > 0 && (len(s.Seen) < len(own) || !slices.Equal(s.Seen[len(s.Seen)-len(own):], own)):
		c.report.add(Anomaly{Kind: Internal, Operations: []int{op}, Text: fmt.Sprintf(
			"T%d saw %s in %v, to which it had appended %s", op, values(s.Seen), s.Object, values(own))})
	}
}

// witness judges one value that a read saw. It reports false if nobody wrote it.
func (c *checker) witness(o *object, r read, value int64) bool {
	w, ok := o.writes[value]
	if !ok {
		c.report.add(Anomaly{Kind: Garbage, Operations: []int{int(r.op)}, Text: fmt.Sprintf(
			"T%d saw %d in %v, which nobody put there", r.op, value, o.name)})
		return false
	}
	if c.h[w.op].Outcome == Failed && w.op != r.op {
		c.report.add(Anomaly{Kind: G1a, Operations: []int{int(w.op), int(r.op)}, Text: fmt.Sprintf(
			"T%d saw %d in %v, which T%d put there, and T%d failed", r.op, value, o.name, w.op, w.op)})
	}
	c.happened[w.op] = true
	return true
}

// final judges the newest value that a read saw of others.
func (c *checker) final(o *object, r read) {
	if len(r.base) == 0 {
		return
	}
	value := r.base[len(r.base)-1]
	if w, ok := o.writes[value]; ok && !w.final && w.op != r.op {
		c.report.add(Anomaly{Kind: G1b, Operations: []int{int(w.op), int(r.op)}, Text: fmt.Sprintf(
			"T%d saw %d in %v as the newest, which is not the last that T%d put there", r.op, value, o.name, w.op)})
	}
}

// lostUpdates reports versions that several operations saw and replaced.
// versions has the operations that happened and did so, by version.
func (c *checker) lostUpdates(o *object, versions map[int64][]int32) {
	for _, ops := range versions {
		slices.Sort(ops)
		if ops = slices.Compact(ops); len(ops) > 1 {
			a := Anomaly{Kind: LostUpdate, Text: fmt.Sprintf("all of them saw the same version of %v and wrote the next one", o.name)}
			for _, op := range ops[:min(len(ops), 6)] {
				a.Operations = append(a.Operations, int(op))
			}
			c.report.add(a)
		}
	}
}

// realtime adds an edge from each operation to those that began after its end.
// Each end makes a virtual node, and these make a chain.
func (c *checker) realtime() {
	var ended, began []int32
	for i := range c.h {
		if !c.happened[i] {
			continue
		}
		began = append(began, int32(i))
		if c.h[i].Outcome == OK { // the end of others is not known
			ended = append(ended, int32(i))
		}
	}
	slices.SortFunc(ended, func(a, b int32) int { return cmp.Compare(c.h[a].Return, c.h[b].Return) })
	slices.SortFunc(began, func(a, b int32) int { return cmp.Compare(c.h[a].Invoke, c.h[b].Invoke) })
	next, last := 0, int32(-1)
	for _, op := range began {
		for ; next < len(ended) && c.h[ended[next]].Return < c.h[op].Invoke; next++ {
			v := c.g.virtual()
			c.g.add(rt, ended[next], v, -1, 0)
			if last >= 0 {
				c.g.add(rt, last, v, -1, 0)
			}
			last = v
		}
		if last >= 0 {
			c.g.add(rt, last, op, -1, 0)
		}
	}
}
