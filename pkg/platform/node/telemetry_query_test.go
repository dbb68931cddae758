package node_test

import (
	"testing"

	dto "github.com/prometheus/client_model/go"
)

func checkQueries(t *testing.T, families map[string]*dto.MetricFamily) {}
