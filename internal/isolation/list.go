package isolation

import (
	"fmt"
	"slices"
)

// listOrder finds the order of a list's elements, which the longest read
// gives, and holds every other read against it.
func (c *checker) listOrder(o *object) {
	longest := -1
	for i, r := range o.reads {
		if longest < 0 || len(r.seen) > len(o.reads[longest].seen) {
			longest = i
		}
	}
	if longest < 0 {
		return
	}
	o.order = c.elements(o, o.reads[longest])
	for i := range o.reads {
		r := &o.reads[i]
		c.final(o, *r)
		if i == longest {
			r.agrees = len(o.order) == len(r.seen)
			continue
		}
		if len(r.seen) <= len(o.order) && slices.Equal(r.seen, o.order[:len(r.seen)]) {
			continue
		}
		r.agrees = false
		c.elements(o, *r)
		c.report.add(Anomaly{Kind: Incompatible, Operations: []int{int(o.reads[longest].op), int(r.op)}, Text: fmt.Sprintf(
			"T%d saw %s in %v, and T%d saw %s", o.reads[longest].op, values(o.reads[longest].seen), o.name, r.op, values(r.seen))})
	}
	c.lostWrites(o)
}

// elements judges what a read saw, and returns it as far as it is sound.
func (c *checker) elements(o *object, r read) []int64 {
	sound := make([]int64, 0, len(r.seen))
	seen := make(map[int64]bool, len(r.seen))
	for _, v := range r.seen {
		if seen[v] {
			c.report.add(Anomaly{Kind: Duplicate, Operations: []int{int(r.op)}, Text: fmt.Sprintf(
				"T%d saw %d in %v twice: %s", r.op, v, o.name, values(r.seen))})
			continue
		}
		seen[v] = true
		if c.witness(o, r, v) {
			sound = append(sound, v)
		}
	}
	return sound
}

// lostWrites finds acknowledged appends that nobody saw who should have.
func (c *checker) lostWrites(o *object) {
	seen := make(map[int64]bool, len(o.order))
	for _, v := range o.order {
		seen[v] = true
	}
	newest := o.reads[0]
	for _, r := range o.reads {
		if c.h[r.op].Invoke > c.h[newest.op].Invoke {
			newest = r
		}
	}
	for _, v := range o.ordered {
		op := o.writes[v].op
		if !seen[v] && c.h[op].Outcome == OK && c.h[op].Return < c.h[newest.op].Invoke {
			c.report.add(Anomaly{Kind: LostWrite, Operations: []int{int(op), int(newest.op)}, Text: fmt.Sprintf(
				"T%d appended %d to %v, and no read saw it, not even T%d's, which began later", op, v, o.name, newest.op)})
		}
	}
}

// listEdges adds the dependencies that a list shows. What happened and was not
// seen comes after all that was.
func (c *checker) listEdges(at int32, o *object) {
	if len(o.reads) == 0 {
		return // nothing is known of the order
	}
	position := make(map[int64]int, len(o.order))
	for i, v := range o.order {
		position[v] = i
		if i > 0 {
			c.g.add(ww, o.writes[o.order[i-1]].op, o.writes[v].op, at, v)
		}
	}
	var unseen []target
	for _, v := range o.ordered {
		if _, ok := position[v]; !ok && c.happened[o.writes[v].op] {
			unseen = append(unseen, target{o.writes[v].op, v})
		}
	}
	if n := len(o.order); n > 0 {
		c.g.fan(ww, []int32{o.writes[o.order[n-1]].op}, unseen, at)
	}
	var newest []int32 // readers of all that was seen
	replaced := map[int64][]int32{}
	writers := map[int32]bool{}
	for _, w := range o.writes {
		writers[w.op] = true
	}
	for _, r := range o.reads {
		if !r.agrees {
			continue
		}
		if n := len(r.base); n > 0 {
			v := r.base[n-1]
			c.g.add(wr, o.writes[v].op, r.op, at, v)
		}
		if n := len(r.seen); n < len(o.order) {
			c.g.add(rw, r.op, o.writes[o.order[n]].op, at, o.order[n])
		} else {
			newest = append(newest, r.op)
		}
		// It appends to what it saw only if it looked first.
		if writers[r.op] && len(r.base) == len(r.seen) {
			replaced[int64(len(r.seen))] = append(replaced[int64(len(r.seen))], r.op)
		}
	}
	c.g.fan(rw, newest, unseen, at)
	c.lostUpdates(o, replaced)
}
