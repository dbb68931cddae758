package isolation

// registerReads judges what reads of a register saw.
func (c *checker) registerReads(o *object) {
	for i := range o.reads {
		r := &o.reads[i]
		if len(r.seen) > 0 {
			r.agrees = c.witness(o, *r, r.seen[0])
			c.final(o, *r)
		}
	}
}

// registerEdges adds the dependencies that a register shows. Of the order of
// its values is known: none comes before the first; and what an operation saw
// comes right before what it wrote then.
func (c *checker) registerEdges(at int32, o *object) {
	readers := map[int64][]int32{} // by value
	var first []int32              // readers of nothing
	for _, r := range o.reads {
		switch {
		case !r.agrees:
		case len(r.seen) == 0:
			first = append(first, r.op)
		default:
			readers[r.seen[0]] = append(readers[r.seen[0]], r.op)
			c.g.add(wr, o.writes[r.seen[0]].op, r.op, at, r.seen[0])
		}
	}
	var all []target
	lastOf := map[int32]int64{} // the last value that an operation wrote
	for _, v := range o.ordered {
		w := o.writes[v]
		if c.happened[w.op] {
			all = append(all, target{w.op, v})
		}
		if w.final {
			lastOf[w.op] = v
		}
	}
	c.g.fan(rw, first, all, at)

	nothing := int64(-1) << 62 // as a version
	replaced := map[int64][]int32{}
	looked := map[int32]bool{}
	for _, r := range o.reads { // in the order of steps: the first of an operation is what it found
		value, writes := lastOf[r.op]
		if !r.agrees || looked[r.op] || !writes {
			continue
		}
		looked[r.op] = true
		if len(r.seen) == 0 {
			replaced[nothing] = append(replaced[nothing], r.op)
			continue
		}
		found := r.seen[0]
		if o.writes[found].op == r.op {
			continue // its own
		}
		replaced[found] = append(replaced[found], r.op)
		c.g.add(ww, o.writes[found].op, r.op, at, value)
	}
	for found, ops := range replaced {
		if found == nothing {
			continue
		}
		var next []target
		for _, op := range ops {
			next = append(next, target{op, lastOf[op]})
		}
		c.g.fan(rw, readers[found], next, at)
	}
	c.lostUpdates(o, replaced)
}
