package telemetry

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// Scope is the name of the meters and tracers of the platform.
const Scope = "github.com/rocketcycle/rocketcycle"

// Instruments makes instruments of the catalogue. It is used by one goroutine.
type Instruments struct {
	meter    metric.Meter
	byName   map[string]Metric
	observed []func(context.Context, metric.Observer)
	used     []metric.Observable
	faults   []error
}

// New returns the maker of a provider's instruments; nil: they do nothing.
func New(provider metric.MeterProvider) *Instruments {
	if provider == nil {
		provider = noop.NewMeterProvider()
	}
	i := &Instruments{meter: provider.Meter(Scope), byName: map[string]Metric{}}
	for _, m := range Catalogue() {
		i.byName[m.Name] = m
	}
	return i
}

func (i *Instruments) find(name string, kind Kind) Metric {
	m, ok := i.byName[name]
	if !ok || m.Kind != kind {
		i.faults = append(i.faults, fmt.Errorf("telemetry: the catalogue has no %s %s", kind, name))
	}
	return m
}

// buckets are those of durations, seconds.
func buckets() []float64 {
	return []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
}

// Histogram returns a histogram of durations.
func (i *Instruments) Histogram(name string) metric.Float64Histogram {
	m := i.find(name, KindHistogram)
	h, err := i.meter.Float64Histogram(name, metric.WithUnit(m.Unit), metric.WithDescription(m.Help), metric.WithExplicitBucketBoundaries(buckets()...))
	i.faults = append(i.faults, err)
	return h
}

// Sample takes a value of a counter or gauge and its labels.
type Sample func(value float64, labels ...attribute.KeyValue)

// Observe makes a counter or gauge whose values read tells whenever they are
// asked for.
func (i *Instruments) Observe(name string, read func(Sample)) {
	var at metric.Float64Observable
	switch m := i.byName[name]; m.Kind {
	case KindCounter:
		c, err := i.meter.Float64ObservableCounter(name, metric.WithUnit(m.Unit), metric.WithDescription(m.Help))
		i.faults, at = append(i.faults, err), c
	case KindGauge:
		g, err := i.meter.Float64ObservableGauge(name, metric.WithUnit(m.Unit), metric.WithDescription(m.Help))
		i.faults, at = append(i.faults, err), g
	case KindHistogram:
		fallthrough
	default:
		i.find(name, KindGauge)
		return
	}
	i.used = append(i.used, at)
	i.observed = append(i.observed, func(_ context.Context, o metric.Observer) {
		read(func(value float64, labels ...attribute.KeyValue) {
			o.ObserveFloat64(at, value, metric.WithAttributes(labels...))
		})
	})
}

// Start makes the observed metrics known to the provider, until stop is called.
// before, where set, is called first whenever they are asked for.
func (i *Instruments) Start(before func()) (stop func() error, err error) {
	if err := i.Err(); err != nil {
		return nil, err
	}
	r, err := i.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		if before != nil {
			before()
		}
		for _, f := range i.observed {
			f(ctx, o)
		}
		return nil
	}, i.used...)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return r.Unregister, nil
}

// Err returns what was wrong with the instruments made so far.
func (i *Instruments) Err() error { return errors.Join(i.faults...) }
