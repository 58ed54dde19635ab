package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// confirmer asks a majority of the voters, for many who wait at once, whether they still know no later term than the
// leader's. A voter that says so after the question came in has not voted for another leader before it came in; a leader
// elected before that would have had the votes of a majority, and two majorities share a voter. So a confirmed leader was
// the only one at some time after the question.
//
// Raft's own VerifyLeader will not do: it counts an answer to a heartbeat that was sent before the question. A leader that was
// stopped finds such answers, long out of date, in its sockets when it goes on.
type confirmer struct {
	o    *office
	wait chan waiter
}

type waiter struct {
	hurry bool
	done  chan error
}

func newConfirmer(o *office) *confirmer { return &confirmer{o: o, wait: make(chan waiter)} }

// confirm returns nil when this node was the leader at some time after the call. Who is in no hurry waits for others, so that
// a confirmation serves many.
func (c *confirmer) confirm(ctx context.Context, hurry bool) error {
	w := waiter{hurry, make(chan error, 1)}
	select {
	case c.wait <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.o.ctx.Done():
		return errOffice
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-c.o.ctx.Done():
		return errOffice
	}
}

var errOffice = errors.New("this node does not lead the group any more")

// run serves who waits. Who comes while a majority is asked waits for the next round.
func (c *confirmer) run() {
	round := make(chan error, 1)
	var asking, waiting []waiter
	var late <-chan time.Time // when those that are in no hurry have waited long enough
	hurry := false
	for {
		if asking == nil && len(waiting) > 0 && (hurry || late == nil) {
			asking, waiting, hurry, late = waiting, nil, false, nil
			go func() { round <- c.ask() }()
		}
		select {
		case <-c.o.ctx.Done():
			return // they see that themselves
		case w := <-c.wait:
			if len(waiting) == 0 && !w.hurry {
				late = time.After(c.o.l.times.Confirm)
			}
			waiting = append(waiting, w)
			hurry = hurry || w.hurry
		case <-late:
			late = nil
		case err := <-round:
			for _, w := range asking {
				w.done <- err
			}
			asking = nil
		}
	}
}

// ask asks every voter, and returns when a majority has answered or cannot any more.
func (c *confirmer) ask() error {
	o := c.o
	o.mu.Lock()
	leading := o.leading
	o.mu.Unlock()
	if leading {
		return errOffice
	}
	f := o.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return err
	}
	var others []raft.Server
	all := 0
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			all++
			if string(s.Address) != o.l.cfg.NodeID {
				others = append(others, s)
			}
		}
	}
	if t := o.raft.CurrentTerm(); t != o.term {
		return fmt.Errorf("%w: term %d began", errOffice, t)
	}
	need := all/2 + 1 - (all - len(others)) // beside this node, if it has a vote
	if need <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(o.ctx, o.l.times.Election)
	defer cancel()
	g := o.l.group()
	answers := make(chan error, len(others))
	req := must(encoding.Marshal(confirming{Group: g.ID, Epoch: g.epoch()}))
	for _, s := range others {
		go func() {
			b, err := o.l.cfg.Mesh.CallUrgent(ctx, string(s.Address), callConfirm, req)
			var a confirmed
			if err == nil {
				err = decoding.Unmarshal(b, &a)
			}
			switch {
			case err != nil:
			case a.RaftID != string(s.ID):
				err = fmt.Errorf("voter %s has become %s", s.ID, clip(a.RaftID))
			case a.Term > o.term:
				err = fmt.Errorf("%w: voter %s knows of term %d", errOffice, s.Address, a.Term)
			}
			answers <- err
		}()
	}
	left := len(others)
	for {
		err := <-answers
		left--
		if err == nil {
			need--
		}
		switch {
		case need == 0:
			return nil
		case errors.Is(err, errOffice):
			return err
		case left < need:
			return fmt.Errorf("no majority of the voters answers: %w", err)
		}
	}
}
