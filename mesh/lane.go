package mesh

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// MaxUrgent is the longest request or answer of CallUrgent, in bytes. It crosses a link of 1 Gbit/s in 9 ms, which is how
// long one urgent message may make another wait.
const MaxUrgent = 1 << 20

// lane is a stream that a member has beside its others, with a connection of its own. It is told in a hello; the acceptor
// takes what it does not know for ordinary.
type lane string

const (
	ordinary lane = ""
	urgent   lane = "urgent"
)

var lanes = []lane{ordinary, urgent}

// laneLimits are the times of a lane.
type laneLimits struct {
	dial       time.Duration // bounds a dial with its handshake, if Config.HandshakeTimeout is not less
	backoffMin time.Duration // pause after the first failed dial
	backoffMax time.Duration // it doubles up to this
	fromStart  bool          // whether the pause is counted from the failed dial's beginning
}

func (l lane) limits() laneLimits {
	if l == urgent {
		return laneLimits{
			// A lost SYN is repeated after a second: a new dial is as good. One that begins just before a cut heals ends soon.
			dial:       time.Second,
			backoffMin: 100 * time.Millisecond,
			// Elections are over in a second or two: a member that is back must be found within one. A dial each half second to
			// a box that is off is nothing.
			backoffMax: 500 * time.Millisecond,
			fromStart:  true,
		}
	}
	return laneLimits{
		dial:       math.MaxInt64,
		backoffMin: 100 * time.Millisecond,
		backoffMax: 10 * time.Second,
	}
}

// after returns when to dial again after so many failures in a row. The half that is random keeps nodes that lost the same
// member from dialling it in step.
func (l laneLimits) after(fails int, began, now time.Time) time.Time {
	d := min(l.backoffMin<<min(fails-1, 10), l.backoffMax)
	if l.fromStart {
		now = began
	}
	return now.Add(d/2 + rand.N(d/2))
}

// laneCounts are the counters of one lane. Those of streams count both.
type laneCounts struct {
	callsIn, callsOut   atomic.Uint64
	errorsIn, errorsOut atomic.Uint64
	serving             atomic.Int64
	silent              atomic.Uint64 // connections given up because nothing came
}

func (s *streams) lane(l lane) *laneCounts {
	if l == urgent {
		return &s.lanes[1]
	}
	return &s.lanes[0]
}

// maxFrame is the longest body in a lane.
func (s *streams) maxFrame(l lane) int {
	if l == urgent {
		return min(s.cfg.MaxFrame, MaxUrgent)
	}
	return s.cfg.MaxFrame
}

// begin takes a place for a request that is to be served, unless the lane's are all taken.
func (s *streams) begin(l lane) bool {
	n := &s.lane(l).serving
	if n.Add(1) > int64(s.cfg.MaxRequests) {
		n.Add(-1)
		return false
	}
	return true
}

func (s *streams) end(l lane) { s.lane(l).serving.Add(-1) }

func (c *conn) urgent() bool { return c.lane == urgent }

// urgentSilence is how long nothing must have come over an urgent connection, although something was asked, before it is
// given up: longer than any round trip over which elections work, so that a call with next to no time left condemns nothing.
const urgentSilence = 250 * time.Millisecond

var errSilent = errors.New("nothing came over the connection for as long as a call waited")

// unanswered is what a call returns whose ctx ended. It gives an urgent connection up over which nothing came meanwhile:
// TCP repeats what a cut swallowed ever more rarely, after a cut of a minute perhaps a minute later, and a new dial is faster.
func (c *conn) unanswered(ctx context.Context) error {
	err := ctx.Err()
	if !c.urgent() || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	c.mu.Lock()
	asked, gone := c.asked, c.retired
	silence := time.Duration(time.Now().UnixNano() - asked)
	if gone || asked == 0 || c.heard.Load() >= asked || silence < urgentSilence {
		c.mu.Unlock()
		return err
	}
	c.retired = true
	c.mu.Unlock()
	s := c.s
	s.lane(c.lane).silent.Add(1)
	s.mu.Lock()
	over := s.over
	if !over {
		s.wg.Add(1)
	}
	s.mu.Unlock()
	if over { // all are being closed
		return err
	}
	go func() {
		defer s.wg.Done()
		c.close(fmt.Errorf("%w, %v", errSilent, silence.Round(time.Millisecond)))
	}()
	<-c.done // so that the next call does not find it
	return err
}
