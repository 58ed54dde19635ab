package main

import (
	"fmt"
	"math"
	"strings"
)

// point is one measured or computed value.
type point struct{ x, y float64 }

// series is one line of a plot.
type series struct {
	name   string
	theory bool // drawn dashed and without marks
	points []point
}

// plot is a drawing with logarithmic axes.
type plot struct {
	title, x, y string
	unit        func(float64) string // writes a value of y
	series      []series
}

// The place of the axes within a drawing.
const (
	plotWidth, plotHeight = 900, 420
	plotLeft, plotTop     = 98, 44
	plotRight, plotBottom = 270, 56 // the legend stands at the right
)

// colours are told apart by people who do not see red and green, and on the white card that each plot brings.
func colours() []string {
	return []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56a0d3", "#8a6d00"}
}

// svg draws the plot.
func (p *plot) svg() string {
	loX, hiX, loY, hiY := p.bounds()
	innerW, innerH := float64(plotWidth-plotLeft-plotRight), float64(plotHeight-plotTop-plotBottom)
	px := func(x float64) float64 { return plotLeft + innerW*(math.Log(x)-loX)/(hiX-loX) }
	py := func(y float64) float64 { return plotTop + innerH*(1-(math.Log(y)-loY)/(hiY-loY)) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="13" fill="#222">`+"\n", plotWidth, plotHeight, plotWidth, plotHeight)
	fmt.Fprintf(&b, `<title>%s</title>`+"\n", p.title)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="6" fill="#fff" stroke="#ccc"/>`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<text x="%d" y="26" font-size="15" font-weight="bold">%s</text>`+"\n", plotLeft, p.title)
	for _, x := range []float64{10, 30, 100, 300, 1000, 3000, 5000, 10000} {
		if l := math.Log(x); l < loX-1e-9 || l > hiX+1e-9 || x == 5000 && hiX < math.Log(4999) {
			continue
		}
		fmt.Fprintf(&b, `<path d="M%.1f %d V%.1f" stroke="#e4e4e4"/><text x="%.1f" y="%.1f" text-anchor="middle">%g</text>`+"\n",
			px(x), plotTop, plotTop+innerH, px(x), plotTop+innerH+18, x)
	}
	for e := math.Floor(loY/math.Ln10) - 1; e <= hiY/math.Ln10+1; e++ {
		for _, f := range []float64{1, 2, 5} {
			y := f * math.Pow(10, e)
			if l := math.Log(y); l < loY-1e-9 || l > hiY+1e-9 || f != 1 && hiY-loY > 4*math.Ln10 {
				continue
			}
			fmt.Fprintf(&b, `<path d="M%d %.1f H%.1f" stroke="#e4e4e4"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
				plotLeft, py(y), plotLeft+innerW, plotLeft-8, py(y)+4, p.unit(y))
		}
	}
	fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%.1f" fill="none" stroke="#666"/>`+"\n", plotLeft, plotTop, innerW, innerH)
	fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", plotLeft+innerW/2, plotHeight-12, p.x)
	fmt.Fprintf(&b, `<text transform="translate(20 %.1f) rotate(-90)" text-anchor="middle">%s</text>`+"\n", plotTop+innerH/2, p.y)
	for i, s := range p.series {
		colour := colours()[i%len(colours())]
		dash := ""
		if s.theory {
			dash = ` stroke-dasharray="7 5"`
		}
		var path strings.Builder
		for j, at := range s.points {
			fmt.Fprintf(&path, "%c%.1f %.1f ", "ML"[min(j, 1)], px(at.x), py(at.y))
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", strings.TrimSpace(path.String()), colour, dash)
		if !s.theory {
			for _, at := range s.points {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", px(at.x), py(at.y), colour)
			}
		}
		y := plotTop + 10 + 22*i
		fmt.Fprintf(&b, `<path d="M%d %d h26" stroke="%s" stroke-width="2"%s/><text x="%d" y="%d">%s</text>`+"\n",
			plotWidth-plotRight+14, y, colour, dash, plotWidth-plotRight+46, y+4, s.name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// bounds are the logarithms of the least and the greatest values, with some air.
func (p *plot) bounds() (loX, hiX, loY, hiY float64) {
	loX, loY, hiX, hiY = math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for _, s := range p.series {
		for _, at := range s.points {
			loX, hiX = min(loX, math.Log(at.x)), max(hiX, math.Log(at.x))
			loY, hiY = min(loY, math.Log(at.y)), max(hiY, math.Log(at.y))
		}
	}
	if hiX-loX < 1 {
		loX, hiX = loX-0.5, hiX+0.5
	}
	air := max(0.06*(hiY-loY), 0.2)
	return loX, hiX, loY - air, hiY + air
}

func milliseconds(y float64) string {
	if y >= 1000 {
		return fmt.Sprintf("%g s", y/1000)
	}
	return fmt.Sprintf("%g ms", y)
}

func byteRate(y float64) string {
	switch {
	case y >= 1e6:
		return fmt.Sprintf("%g MB/s", y/1e6)
	case y >= 1e3:
		return fmt.Sprintf("%g kB/s", y/1e3)
	}
	return fmt.Sprintf("%g B/s", y)
}
