package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// stopTimeout is how long one service may take to stop before the others are stopped without it. The mesh says goodbye
// for up to 3 s.
const stopTimeout = 10 * time.Second

// services are the parts of an agent that run. They start in the order they were added and stop in the reverse, one
// after the other, so that what a part relies on is there until it has ended.
type services struct {
	log    *slog.Logger
	list   []*service
	failed chan error
}

type service struct {
	name   string
	run    func(ctx context.Context) error
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid once done is closed
}

func (s *services) add(name string, run func(ctx context.Context) error) {
	s.list = append(s.list, &service{name: name, run: run, done: make(chan struct{})})
}

// start runs all. The end of ctx does not stop them: stop does, in order.
func (s *services) start(ctx context.Context) {
	s.failed = make(chan error, len(s.list))
	for _, x := range s.list {
		var own context.Context
		own, x.cancel = context.WithCancel(context.WithoutCancel(ctx))
		go func() {
			defer close(x.done)
			if x.err = x.run(own); x.err == nil && own.Err() == nil {
				x.err = errors.New("it ended by itself")
			}
			if x.err != nil {
				x.err = fmt.Errorf("%s: %w", x.name, x.err)
				s.failed <- x.err
			}
		}()
	}
}

// wait returns when ctx ends, with nil, or when a service fails, with its error.
func (s *services) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

// stop stops all. Its error tells which did not.
func (s *services) stop() error {
	var errs []error
	for i := len(s.list) - 1; i >= 0; i-- {
		x := s.list[i]
		x.cancel()
		select {
		case <-x.done:
		case <-time.After(stopTimeout):
			errs = append(errs, fmt.Errorf("%s does not stop", x.name))
		}
		s.log.Debug("stopped", "service", x.name)
	}
	return errors.Join(errs...)
}
