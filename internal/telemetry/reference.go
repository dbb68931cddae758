package telemetry

import (
	"fmt"
	"strings"
)

// PrometheusName returns what Prometheus calls a metric; of a histogram there are
// more, with _bucket, _sum and _count behind.
func (m Metric) PrometheusName() string {
	name := strings.ReplaceAll(m.Name, ".", "_")
	switch m.Unit {
	case "s":
		name += "_seconds"
	case "By":
		name += "_bytes"
	}
	if m.Unit == "By" && strings.HasSuffix(name, "_bytes_bytes") {
		name = strings.TrimSuffix(name, "_bytes")
	}
	if m.Kind == KindCounter {
		name += "_total"
	}
	return name
}

// Reference returns the catalogue as a page of the documentation.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Metrics

Made from the source (` + "`internal/telemetry/catalogue.go`" + `) by ` + "`go test ./internal/telemetry -update`" + `; a test fails when this page is
stale, another one when a running platform has other metrics or labels than these. How to get them: [telemetry](../guide/telemetry.md).

Besides these there are the usual ` + "`go_*` and `process_*`" + ` of a Go program. No label has a key or an id: each has as many values as the
application, the platform file or the program has names for.
`)
	for _, role := range []string{RoleAll, RoleEdge, RoleProcessor, RoleStorage} {
		fmt.Fprintf(&b, "\n## %s%s\n\n| metric | kind | labels | |\n|---|---|---|---|\n", strings.ToUpper(role[:1]), role[1:])
		for _, m := range Catalogue() {
			if m.Role != role {
				continue
			}
			labels := make([]string, len(m.Labels))
			for i, l := range m.Labels {
				labels[i] = "`" + l + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.PrometheusName(), m.Kind, strings.Join(labels, " "), m.Help)
		}
	}
	return b.String()
}
