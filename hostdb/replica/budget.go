package replica

import (
	"math/rand/v2"
	"sync"
	"time"
)

// budget is a token bucket of bytes for what nobody waits for. It holds one second's worth. One message may overdraw it, so
// that an operation larger than the bucket gets through; then everybody waits until that is made good.
type budget struct {
	rate int // bytes a second

	mu    sync.Mutex // guards the fields below
	left  float64
	since time.Time
}

func newBudget(rate int) *budget {
	return &budget{rate: rate, left: float64(rate), since: time.Now()}
}

// ask returns how many of want bytes may be sent now, or for how long there are none. A little is nothing: a bucket that is
// almost empty would be spent on headers.
func (b *budget) ask(want int) (bytes int, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.left = min(b.left+now.Sub(b.since).Seconds()*float64(b.rate), float64(b.rate))
	b.since = now
	least := min(float64(want), 32<<10, float64(b.rate))
	if b.left < least {
		return 0, time.Duration((least - b.left) / float64(b.rate) * float64(time.Second))
	}
	return min(want, int(b.left)), 0
}

// spend takes what was sent.
func (b *budget) spend(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left -= float64(bytes)
}

// jitter is a random time around d, so that nodes that started together do not stay in step.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(max(d, 1)) }

// backoff is the pause after so many failures: it doubles from 50 ms to 5 s.
func backoff(fails int) time.Duration {
	return jitter(min(50*time.Millisecond<<min(max(fails-1, 0), 10), 5*time.Second))
}
