package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/concern"
)

// A child does its work in a process of its own, so that its memory and
// allocations are its own, and is driven by lines of JSON: one request on its
// standard input, one reply on its standard output. It ends when its standard
// input does, so none outlives the benchmark.

// request is a line to a child.
type request struct {
	Op   string `json:"op"`
	File string `json:"file,omitempty"`
}

// Operations of every child.
const (
	opUsage    = "usage"     // reply with a usage
	opCPUStart = "cpu-start" // write a CPU profile to File until opCPUStop
	opCPUStop  = "cpu-stop"
	opMemory   = "memory" // write the profile of allocations so far to File
)

// reply is a line from a child. The first comes unasked, once it is ready.
type reply struct {
	Error string          `json:"error,omitempty"`
	Usage *usage          `json:"usage,omitempty"`
	Ready json.RawMessage `json:"ready,omitempty"`
}

// usage is what a child has used since it started.
type usage struct {
	AllocBytes   uint64        `json:"alloc_bytes"`
	AllocObjects uint64        `json:"alloc_objects"`
	RSSBytes     uint64        `json:"rss_bytes"`
	PeakRSSBytes uint64        `json:"peak_rss_bytes"`
	CPU          time.Duration `json:"cpu_ns"`
	// Processor is there for nodes only.
	Processor concern.Status `json:"processor"`
}

// serveChild answers requests until in ends. more completes a usage.
func serveChild(in io.Reader, out io.Writer, ready any, more func(*usage)) error {
	enc := json.NewEncoder(out)
	raw, err := json.Marshal(ready)
	if err != nil {
		return err
	}
	if err := enc.Encode(reply{Ready: raw}); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var q request
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return err
		}
		var r reply
		if err := answer(q, &r, more); err != nil {
			r.Error = err.Error()
		}
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return lines.Err()
}

func answer(q request, r *reply, more func(*usage)) error {
	switch q.Op {
	case opUsage:
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		u := &usage{AllocBytes: m.TotalAlloc, AllocObjects: m.Mallocs}
		if err := u.readProcess(); err != nil {
			return err
		}
		if more != nil {
			more(u)
		}
		r.Usage = u
		return nil
	case opCPUStart:
		f, err := os.Create(q.File)
		if err != nil {
			return err
		}
		return pprof.StartCPUProfile(f) // the file is closed with the process
	case opCPUStop:
		pprof.StopCPUProfile()
		return nil
	case opMemory:
		runtime.GC() // the profile has what was allocated up to the last collection
		f, err := os.Create(q.File)
		if err != nil {
			return err
		}
		return errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
	default:
		return fmt.Errorf("unknown operation %q", q.Op)
	}
}

// child is a running child, as its parent sees it.
type child struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser

	mu  sync.Mutex
	out *json.Decoder
}

// startChild runs this program again as a child of a kind, with a
// configuration, and decodes into ready what it says when it is.
func startChild(kind string, cfg, ready any) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	c := &child{name: kind, cmd: exec.Command(exe, kind, string(raw))} //nolint:gosec // this program
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	c.out = json.NewDecoder(out)
	var first reply
	if err := c.out.Decode(&first); err != nil {
		return nil, fmt.Errorf("%s did not become ready: %w", kind, errors.Join(err, c.stop()))
	}
	if ready != nil {
		if err := json.Unmarshal(first.Ready, ready); err != nil {
			return nil, errors.Join(err, c.stop())
		}
	}
	return c, nil
}

func (c *child) ask(q request) (reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var r reply
	raw, err := json.Marshal(q)
	if err == nil {
		_, err = c.in.Write(append(raw, '\n'))
	}
	if err == nil {
		err = c.out.Decode(&r)
	}
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		return r, fmt.Errorf("%s: %s: %w", c.name, q.Op, err)
	}
	return r, nil
}

func (c *child) usage() (usage, error) {
	r, err := c.ask(request{Op: opUsage})
	if err != nil {
		return usage{}, err
	}
	return *r.Usage, nil
}

// stop lets the child end in order.
func (c *child) stop() error {
	err := c.in.Close()
	late := time.AfterFunc(30*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	if waitErr := c.cmd.Wait(); waitErr != nil {
		err = errors.Join(err, fmt.Errorf("%s: %w", c.name, waitErr))
	}
	return err
}
