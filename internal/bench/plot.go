package main

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"time"
)

// Sizes of the plot, in its own units, and what it shows.
const (
	plotWidth, plotHeight       = 960, 460
	plotLeft, plotRight         = 70, 20
	plotTop, plotBottom         = 60, 50
	plotWindow                  = 250 * time.Millisecond
	plotLowest, plotHighest     = 0.1, 10_000.0 // ms
	colourOurs, colourOursLight = "#0b6e4f", "#8fcfb6"
	colourTheirs                = "#b5431f"
)

// point is one window of a line: the middle of its time, and a response time in
// ms; NaN if nothing came to its end in it.
type point struct{ at, value float64 }

// line returns a quantile of the response times in each window.
func line(samples []timed, end time.Duration, quantile float64) []point {
	windows := make([][]time.Duration, int(end/plotWindow)+1)
	for _, s := range samples {
		if i := int(s.at / plotWindow); !s.failed && i < len(windows) {
			windows[i] = append(windows[i], s.took)
		}
	}
	points := make([]point, 0, len(windows))
	for i, w := range windows {
		p := point{(float64(i) + 0.5) * plotWindow.Seconds(), math.NaN()}
		if len(w) > 0 {
			slices.Sort(w)
			p.value = ms(w[int(quantile*float64(len(w)-1))])
		}
		points = append(points, p)
	}
	return points
}

// databasePlot draws response times over time while the database fails.
func databasePlot(ours, theirs []timed, bounds []time.Duration) []byte {
	end := bounds[len(bounds)-1]
	x := func(seconds float64) float64 {
		return plotLeft + (plotWidth-plotLeft-plotRight)*seconds/end.Seconds()
	}
	y := func(value float64) float64 {
		value = min(max(value, plotLowest), plotHighest)
		part := math.Log10(value/plotLowest) / math.Log10(plotHighest/plotLowest)
		return plotHeight - plotBottom - (plotHeight-plotTop-plotBottom)*part
	}
	var b bytes.Buffer
	put := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format+"\n", args...) }
	put(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`, plotWidth, plotHeight)
	put(`<rect width="%d" height="%d" fill="white"/>`, plotWidth, plotHeight)
	put(`<text x="%d" y="20" font-size="15">Response time of a trade (ms) while the database fails; %d callers each</text>`, plotLeft, failingInFlight)
	shades := []string{"#ffffff", "#fdf3d8", "#f9dcd5", "#ffffff"}
	from := time.Duration(0)
	for i, to := range bounds {
		name := "database " + phases()[i]
		if i == 1 {
			name += fmt.Sprintf(", %v per statement", slowDelay)
		}
		put(`<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`, x(from.Seconds()), plotTop, x(to.Seconds())-x(from.Seconds()), plotHeight-plotTop-plotBottom, shades[i])
		put(`<text x="%.1f" y="%d" fill="#555">%s</text>`, x(from.Seconds())+6, plotTop-6, name)
		from = to
	}
	for v := plotLowest; v <= plotHighest; v *= 10 {
		put(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`, plotLeft, plotWidth-plotRight, y(v), y(v))
		put(`<text x="%d" y="%.1f" text-anchor="end" fill="#555">%g</text>`, plotLeft-8, y(v)+4, v)
	}
	for s := 0.0; s <= end.Seconds(); s += 5 {
		put(`<text x="%.1f" y="%d" text-anchor="middle" fill="#555">%g s</text>`, x(s), plotHeight-plotBottom+18, s)
	}
	lines := []struct {
		name, colour string
		points       []point
	}{
		{"Rocketcycle, p99", colourOursLight, line(ours, end, 0.99)},
		{"Rocketcycle, p50", colourOurs, line(ours, end, 0.5)},
		{"pgx, rows locked, p50", colourTheirs, line(theirs, end, 0.5)},
	}
	for i, l := range lines {
		var path bytes.Buffer
		pen := false
		for _, p := range l.points {
			if math.IsNaN(p.value) {
				pen = false
				continue
			}
			_, _ = fmt.Fprintf(&path, "%s%.1f %.1f", choose(pen, "L", "M"), x(p.at), y(p.value))
			pen = true
		}
		put(`<path d="%s" fill="none" stroke="%s" stroke-width="1.8" stroke-linecap="round"/>`, path.String(), l.colour)
		put(`<text x="%d" y="%d" fill="%s">%s</text>`, plotLeft+250*i, plotHeight-10, l.colour, l.name)
	}
	put(`</svg>`)
	return b.Bytes()
}
