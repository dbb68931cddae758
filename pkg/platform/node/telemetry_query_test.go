package node_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/goccy/go-yaml"
	dto "github.com/prometheus/client_model/go"
)

// observe has what the docker stack asks of a platform.
const observe = "../../../docker/compose/kafka_pg/observe"

// query is one that a panel or an alert makes.
type query struct {
	where, expr string
	// named are the labels that texts about the result name.
	named []string
}

// queries returns those of all dashboards and alerts.
func queries(t *testing.T) (out []query) {
	t.Helper()
	label := regexp.MustCompile(`{{\s*(?:\$labels\.)?([a-z_]+)\s*}}`)
	named := func(text string) (out []string) {
		for _, m := range label.FindAllStringSubmatch(text, -1) {
			out = append(out, m[1])
		}
		return out
	}
	boards, err := filepath.Glob(observe + "/grafana/dashboards/*.json")
	if err != nil || len(boards) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	for _, file := range boards {
		var board struct {
			UID    string
			Panels []struct {
				Title      string
				Datasource struct{ UID string }
				Targets    []struct{ Expr, LegendFormat string }
			}
		}
		raw, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(raw, &board)
		}
		if err != nil || board.UID == "" || len(board.Panels) == 0 {
			t.Fatalf("%s: %v, uid %q, %d panels", file, err, board.UID, len(board.Panels))
		}
		for _, p := range board.Panels {
			where := fmt.Sprintf("%s, panel %q", filepath.Base(file), p.Title)
			if p.Datasource.UID != "prometheus" || len(p.Targets) == 0 {
				t.Errorf("%s: datasource %q, %d targets", where, p.Datasource.UID, len(p.Targets))
			}
			for _, target := range p.Targets {
				out = append(out, query{where, strings.ReplaceAll(target.Expr, "$__rate_interval", "1m"), named(target.LegendFormat)})
			}
		}
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	raw, err := os.ReadFile(observe + "/alerts.yaml")
	if err == nil {
		err = yaml.Unmarshal(raw, &rules)
	}
	if err != nil {
		t.Fatal(err)
	}
	alerts := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			alerts++
			out = append(out, query{"alert " + r.Alert, r.Expr, named(r.Annotations["summary"])})
			page, err := os.ReadFile(filepath.Join("../../..", r.Annotations["runbook"]))
			if err != nil || !strings.Contains(string(page), r.Alert) {
				t.Errorf("alert %s: its runbook %q does not tell of it: %v", r.Alert, r.Annotations["runbook"], err)
			}
		}
	}
	if alerts == 0 {
		t.Error("there are no alerts")
	}
	return out
}

// labelsOf returns the labels of a series that Prometheus would have of families.
func labelsOf(families map[string]*dto.MetricFamily, series string) (labels []string, ok bool) {
	f := families[series]
	if f == nil {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			name, cut := strings.CutSuffix(series, suffix)
			if of := families[name]; cut && of.GetType() == dto.MetricType_HISTOGRAM {
				f = of
				if suffix == "_bucket" {
					labels = append(labels, "le")
				}
			}
		}
		if f == nil {
			return nil, false
		}
	} else if f.GetType() == dto.MetricType_HISTOGRAM {
		return nil, false // only its parts exist
	}
	for _, sample := range f.GetMetric() {
		for _, l := range sample.GetLabel() {
			if !slices.Contains(labels, l.GetName()) {
				labels = append(labels, l.GetName())
			}
		}
	}
	return append(labels, "instance", "job"), true // Prometheus adds them
}

// faultsOf returns what a query asks for that does not exist.
func faultsOf(q query, families map[string]*dto.MetricFamily) (faults []string) {
	e, err := metricsql.Parse(q.expr)
	if err != nil {
		return []string{err.Error()}
	}
	asked := 0
	var known, grouped []string
	metricsql.VisitAll(e, func(e metricsql.Expr) {
		switch e := e.(type) {
		case *metricsql.MetricExpr:
			for _, filters := range e.LabelFilterss {
				var labels []string
				for _, f := range filters {
					if f.Label == "__name__" {
						ok := false
						if labels, ok = labelsOf(families, f.Value); !ok {
							faults = append(faults, "there is no metric "+f.Value)
						}
						asked++
						known = append(known, labels...)
						continue
					}
					if !slices.Contains(labels, f.Label) {
						faults = append(faults, fmt.Sprintf("%s has no label %s", filters[0].Value, f.Label))
					}
				}
			}
		case *metricsql.AggrFuncExpr:
			grouped = append(grouped, e.Modifier.Args...)
		}
	})
	for _, l := range grouped {
		if !slices.Contains(known, l) {
			faults = append(faults, "it groups by "+l+", which none of its metrics has")
		}
	}
	for _, l := range q.named {
		if !slices.Contains(known, l) {
			faults = append(faults, "its text names the label "+l+", which none of its metrics has")
		}
	}
	if asked == 0 {
		faults = append(faults, "it asks for no metric")
	}
	return faults
}

func checkQueries(t *testing.T, families map[string]*dto.MetricFamily) {
	for _, q := range queries(t) {
		for _, fault := range faultsOf(q, families) {
			t.Errorf("%s: %s\n%s", q.where, fault, q.expr)
		}
	}
	// Each kind of fault is found.
	for expr, want := range map[string]string{
		"rate(rkcy_nothing_total[1m])":                      "no metric rkcy_nothing_total",
		`rkcy_storage_lag_seconds{partition="1"}`:           "no label partition",
		"sum by (key) (rkcy_holds)":                         "groups by key",
		"rkcy_step_duration_seconds":                        "no metric rkcy_step_duration_seconds",
		"sum by (le) (rate(rkcy_commit_records_total[1m]))": "groups by le",
		"sum(":  "",
		"1 + 1": "asks for no metric",
	} {
		if faults := faultsOf(query{expr: expr}, families); !strings.Contains(strings.Join(faults, "; "), want) || len(faults) == 0 {
			t.Errorf("%s: %q, want %q", expr, faults, want)
		}
	}
	if faults := faultsOf(query{expr: "rkcy_holds", named: []string{"concern"}}, families); len(faults) == 0 {
		t.Error("a text that names what is not there is let through")
	}
}
