package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"text/tabwriter"
)

// compare sets the ratios of a run against those that were recorded, and
// returns an error if one has become worse by more than the tolerance.
func compare(args []string, out io.Writer) error {
	f := flag.NewFlagSet("bench compare", flag.ContinueOnError)
	tolerance := f.Float64("tolerance", 0.15, "by which share a ratio may be worse")
	before := f.String("recorded", "", "recorded run (default: the last in docs/bench)")
	after := f.String("run", "", "run to look at (default: the last in build/bench)")
	if err := f.Parse(args); err != nil {
		return err
	}
	recorded, err := resultOr(*before, "docs/bench")
	if err != nil {
		return err
	}
	run, err := resultOr(*after, "build/bench")
	if err != nil {
		return err
	}
	if recorded.Options.Quick != run.Options.Quick {
		return errors.New("one of the runs is a quick one, the other is not")
	}
	return compareResults(recorded, run, *tolerance, out)
}

func resultOr(file, dir string) (*result, error) {
	if file == "" {
		files, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil || len(files) == 0 {
			return nil, fmt.Errorf("there is no run in %s; make bench makes one", dir)
		}
		slices.Sort(files)
		file = files[len(files)-1]
	}
	return readResult(file)
}

func compareResults(recorded, run *result, tolerance float64, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "broker\tratio\trecorded\tnow\tbetter by\t")
	worse := 0
	for _, old := range recorded.Ratios {
		if old.Absolute {
			continue
		}
		i := slices.IndexFunc(run.Ratios, func(r ratio) bool { return r.Broker == old.Broker && r.Name == old.Name })
		if i < 0 {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t\t\tnot measured now\n", old.Broker, old.Name, number(old.Value))
			continue
		}
		now := run.Ratios[i]
		gain, verdict := better(old, now), ""
		if gain < -tolerance {
			worse++
			verdict = "WORSE"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%+.0f %%\t%s\n", old.Broker, old.Name, number(old.Value), number(now.Value), 100*gain, verdict)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if worse > 0 {
		return fmt.Errorf("%d ratios are worse than recorded by more than %.0f %%", worse, 100*tolerance)
	}
	return nil
}

// better returns by which share a ratio has become better; negative: worse.
func better(old, now ratio) float64 {
	if old.Less {
		if old.Value <= 0 || now.Value <= 0 { // memory below the cache: good
			return 0
		}
		return old.Value/now.Value - 1
	}
	return now.Value/old.Value - 1
}
