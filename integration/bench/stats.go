package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// quantile is the value below which the part q of the list lies; the list is not empty.
func quantile[T cmp.Ordered](list []T, q float64) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func median[T cmp.Ordered](list []T) T { return quantile(list, 0.5) }

// pairs holds what two sides did in alternating turns.
type pairs struct{ ours, theirs []float64 }

func (p *pairs) add(ours, theirs float64) {
	p.ours, p.theirs = append(p.ours, ours), append(p.theirs, theirs)
}

// ratio is the median of the turns' ratios: a neighbour that disturbs one turn does not decide.
func (p *pairs) ratio() float64 {
	ratios := make([]float64, len(p.ours))
	for i := range ratios {
		ratios[i] = p.ours[i] / p.theirs[i]
	}
	return median(ratios)
}

// ms is a time as people compare it.
func ms(d time.Duration) string {
	switch v := float64(d) / float64(time.Millisecond); {
	case v < 10:
		return fmt.Sprintf("%.2f ms", v)
	case v < 1000:
		return fmt.Sprintf("%.0f ms", v)
	default:
		return fmt.Sprintf("%.2f s", v/1000)
	}
}

func micros(d float64) string { return fmt.Sprintf("%.1f us", d/float64(time.Microsecond)) }
