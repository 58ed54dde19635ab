package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestServicesStopInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &services{log: slog.New(slog.DiscardHandler)}
		var stopped []string
		for _, name := range []string{"store", "dns", "http"} {
			s.add(name, func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second)
				stopped = append(stopped, name)
				return nil
			})
		}
		ctx, cancel := context.WithCancel(context.Background())
		s.start(ctx)
		cancel()
		if err := s.wait(ctx); err != nil {
			t.Error(err)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if want := []string{"http", "dns", "store"}; !slices.Equal(stopped, want) {
			t.Errorf("stopped %v, want %v", stopped, want)
		}
	})
}

func TestServicesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, failure := range []error{errors.New("no more file descriptors"), nil} {
			s := &services{log: slog.New(slog.DiscardHandler)}
			s.add("store", func(ctx context.Context) error { <-ctx.Done(); return nil })
			s.add("mesh", func(context.Context) error { return failure })
			s.start(t.Context())
			err := s.wait(t.Context())
			if err == nil || !strings.Contains(err.Error(), "mesh") || failure != nil && !errors.Is(err, failure) {
				t.Errorf("mesh ended with %v: got %v", failure, err)
			}
			if err := s.stop(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestServicesThatDoNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &services{log: slog.New(slog.DiscardHandler)}
		forever := make(chan struct{})
		closed := false
		s.add("store", func(ctx context.Context) error { <-ctx.Done(); closed = true; return nil })
		s.add("wedged", func(context.Context) error { <-forever; return nil })
		s.start(t.Context())
		if err := s.stop(); err == nil || !strings.Contains(err.Error(), "wedged") || !closed {
			t.Errorf("got %v, and the others stopped: %t", err, closed)
		}
		close(forever)
	})
}
