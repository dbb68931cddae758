package isolation

import "slices"

// edgeType is a set of dependencies; an edge has one.
type edgeType uint8

const (
	ww edgeType = 1 << iota
	wr
	rw
	rt
)

func (t edgeType) String() string {
	switch t {
	case ww:
		return "ww"
	case wr:
		return "wr"
	case rw:
		return "rw"
	default:
		return "rt"
	}
}

// edge leads from a node to another. object and value say by what it is known.
type edge struct {
	from, to int32
	object   int32
	kind     edgeType
	value    int64
}

// graph has the operations as nodes 0 to real-1, and behind them virtual nodes.
// A virtual node stands for many edges: a way from operation to operation
// through virtual nodes is one dependency, of the type of all its edges.
type graph struct {
	real  int
	nodes int
	edges []edge
	// start[n] is where the edges of node n begin, once sorted.
	start []int32
}

func newGraph(operations int) *graph { return &graph{real: operations, nodes: operations} }

func (g *graph) virtual() int32 {
	g.nodes++
	return int32(g.nodes - 1)
}

// add adds an edge, unless it would lead from a node to itself.
func (g *graph) add(kind edgeType, from, to, object int32, value int64) {
	if from != to {
		g.edges = append(g.edges, edge{from: from, to: to, object: object, kind: kind, value: value})
	}
}

// target is where a fan leads.
type target struct {
	node  int32
	value int64
}

// fan adds edges from every source to every target but itself, as many as
// there are nodes: targets hang on two chains, one for those before and one for
// those after the source.
func (g *graph) fan(kind edgeType, sources []int32, targets []target, object int32) {
	if len(sources) == 0 || len(targets) == 0 {
		return
	}
	at := map[int32]int{}
	unique := targets[:0:0]
	for _, t := range targets {
		if _, ok := at[t.node]; !ok {
			at[t.node] = len(unique)
			unique = append(unique, t)
		}
	}
	targets = unique
	if len(sources)*len(targets) <= 4*(len(sources)+len(targets)) {
		for _, s := range sources {
			for _, t := range targets {
				g.add(kind, s, t.node, object, t.value)
			}
		}
		return
	}
	n := len(targets)
	before, after := make([]int32, n), make([]int32, n) // before[i] leads to targets up to i
	for i, t := range targets {
		before[i] = g.virtual()
		g.add(kind, before[i], t.node, object, t.value)
		if i > 0 {
			g.add(kind, before[i], before[i-1], object, 0)
		}
	}
	for i := n - 1; i >= 0; i-- {
		after[i] = g.virtual()
		g.add(kind, after[i], targets[i].node, object, targets[i].value)
		if i < n-1 {
			g.add(kind, after[i], after[i+1], object, 0)
		}
	}
	for _, s := range sources {
		i, ok := at[s]
		if !ok {
			g.add(kind, s, before[n-1], object, 0)
			continue
		}
		if i > 0 {
			g.add(kind, s, before[i-1], object, 0)
		}
		if i < n-1 {
			g.add(kind, s, after[i+1], object, 0)
		}
	}
}

// sort puts the edges of each node together. No edge is added afterwards.
func (g *graph) sort() {
	g.start = make([]int32, g.nodes+1)
	for _, e := range g.edges {
		g.start[e.from+1]++
	}
	for i := range g.nodes {
		g.start[i+1] += g.start[i]
	}
	next := slices.Clone(g.start)
	sorted := make([]edge, len(g.edges))
	for _, e := range g.edges {
		sorted[next[e.from]] = e
		next[e.from]++
	}
	g.edges = sorted
}

func (g *graph) of(node int32) []edge { return g.edges[g.start[node]:g.start[node+1]] }

// components returns the strongly connected components of two nodes and more
// that the edges in mask make, and for each node the number of its component,
// -1 for none (Tarjan 1972, without recursion).
func (g *graph) components(mask edgeType) (sets [][]int32, in []int32) {
	const unseen = -1
	index, low := make([]int32, g.nodes), make([]int32, g.nodes)
	in = make([]int32, g.nodes)
	next := make([]int32, g.nodes) // the edge to look at next
	onStack := make([]bool, g.nodes)
	for i := range index {
		index[i], in[i], next[i] = unseen, -1, g.start[i]
	}
	var stack, path []int32
	count := int32(0)
	enter := func(n int32) {
		index[n], low[n] = count, count
		count++
		stack, path = append(stack, n), append(path, n)
		onStack[n] = true
	}
	for root := range int32(g.nodes) {
		if index[root] != unseen {
			continue
		}
		enter(root)
		for len(path) > 0 {
			n := path[len(path)-1]
			if next[n] < g.start[n+1] {
				e := g.edges[next[n]]
				next[n]++
				switch {
				case e.kind&mask == 0:
				case index[e.to] == unseen:
					enter(e.to)
				case onStack[e.to]:
					low[n] = min(low[n], index[e.to])
				}
				continue
			}
			path = path[:len(path)-1]
			if len(path) > 0 {
				up := path[len(path)-1]
				low[up] = min(low[up], low[n])
			}
			if low[n] != index[n] {
				continue
			}
			at := len(stack) - 1
			for stack[at] != n {
				at--
			}
			for _, m := range stack[at:] {
				onStack[m] = false
			}
			if len(stack)-at > 1 {
				set := slices.Clone(stack[at:])
				for _, m := range set {
					in[m] = int32(len(sets))
				}
				sets = append(sets, set)
			}
			stack = stack[:at]
		}
	}
	return sets, in
}

// finder looks for ways. It keeps its memory from one to the next.
type finder struct {
	g     *graph
	round int32
	met   []int32 // the round for which dist and via hold
	done  []int32 // the round that settled the node
	dist  []int32
	via   []edge
	queue [2][]int32 // of this distance and the next
}

func newFinder(g *graph) *finder {
	return &finder{
		g: g, met: make([]int32, g.nodes), done: make([]int32, g.nodes), dist: make([]int32, g.nodes), via: make([]edge, g.nodes),
	}
}

// way returns the edges of a way of the fewest operations over edges in mask
// and nodes whose inside is comp; nil if there is none. Virtual nodes cost
// nothing.
func (f *finder) way(from, to int32, mask edgeType, inside []int32, comp int32) []edge {
	f.round++
	f.met[from], f.dist[from] = f.round, 0
	f.queue[0], f.queue[1] = append(f.queue[0][:0], from), f.queue[1][:0]
	for d := int32(0); len(f.queue[0]) > 0; d++ {
		for len(f.queue[0]) > 0 {
			last := len(f.queue[0]) - 1
			n := f.queue[0][last]
			f.queue[0] = f.queue[0][:last]
			if f.done[n] == f.round {
				continue
			}
			f.done[n] = f.round
			if n == to {
				return f.trace(from, to)
			}
			for _, e := range f.g.of(n) {
				if e.kind&mask == 0 || inside[e.to] != comp {
					continue
				}
				cost := int32(1)
				if int(e.to) >= f.g.real {
					cost = 0
				}
				if f.met[e.to] == f.round && f.dist[e.to] <= d+cost {
					continue
				}
				f.met[e.to], f.dist[e.to], f.via[e.to] = f.round, d+cost, e
				f.queue[cost] = append(f.queue[cost], e.to)
			}
		}
		f.queue[0], f.queue[1] = f.queue[1], f.queue[0]
	}
	return nil
}

func (f *finder) trace(from, to int32) []edge {
	var way []edge
	for n := to; n != from; n = f.via[n].from {
		way = append(way, f.via[n])
	}
	slices.Reverse(way)
	return way
}
