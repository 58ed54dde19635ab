package haproxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"hostmesh/lbd/plan"
)

// bad is a service that was refused.
type bad struct {
	form  string // of it
	err   error
	until time.Time // when it is tried again: a port may be free by then
}

// badTime is for how long the same is not tried again.
const badTime = time.Minute

// accept carries services, and leaves out or keeps as they were those to blame if HAProxy refuses.
func (b *Balancer) accept(ctx context.Context, services []*plan.Service) error {
	before := map[string]*plan.Service{}
	for _, s := range b.want {
		before[s.Tag] = s
	}
	for tag := range b.bad {
		if !slices.ContainsFunc(services, func(s *plan.Service) bool { return s.Tag == tag }) {
			delete(b.bad, tag)
		}
	}
	services, _ = b.without(services, before, b.knownBad)
	for {
		if len(services) == 0 {
			refused := maps.Clone(b.refused)
			b.halt()
			b.refused = refused
			return nil
		}
		err := b.carry(ctx, services)
		if err == nil {
			b.want = services
			return nil
		}
		if !errors.Is(err, ErrRefused) {
			return err
		}
		b.counts.refusals++
		kept := len(before)
		next, found := b.without(services, before, func(s *plan.Service) error { return b.blame(ctx, s, err) })
		switch {
		case !found:
			return fmt.Errorf("%w; what was carried before goes on", err)
		case b.now != nil && kept == len(before) && b.carriesMore(next):
			// What it carried could not be started again, as where a certificate was deleted. It is not stopped for that.
			return b.standStill(ctx, services)
		}
		services = next
	}
}

// carriesMore reports whether the process carries a service that is not among these.
func (b *Balancer) carriesMore(services []*plan.Service) bool {
	return slices.ContainsFunc(b.want, func(w *plan.Service) bool {
		return !slices.ContainsFunc(services, func(s *plan.Service) bool { return s.Tag == w.Tag })
	})
}

// standStill leaves the process as it is, but for backends.
func (b *Balancer) standStill(ctx context.Context, services []*plan.Service) error {
	next := make([]*plan.Service, 0, len(b.want))
	for _, w := range b.want {
		if i := slices.IndexFunc(services, func(s *plan.Service) bool { return s.Tag == w.Tag }); i >= 0 {
			c := *w
			c.Backends = services[i].Backends
			w = &c
		}
		next = append(next, w)
	}
	b.want = next
	return b.adjust(ctx, next)
}

// without replaces services that are to blame by what they were before, with the backends of now, or by nothing.
func (b *Balancer) without(services []*plan.Service, before map[string]*plan.Service, blame func(*plan.Service) error) (next []*plan.Service, found bool) {
	for _, s := range services {
		why := blame(s)
		if why == nil {
			next = append(next, s)
			continue
		}
		found = true
		if b.refused[s.Tag] == nil {
			b.refused[s.Tag] = why
			if known, ok := b.bad[s.Tag]; !ok || known.form != b.formOf(s) {
				b.log.Warn("a service is refused by haproxy", "tag", s.Tag, "err", why)
			}
			if known := b.bad[s.Tag]; known.err != why {
				b.bad[s.Tag] = bad{b.formOf(s), why, b.cfg.Clock.Now().Add(badTime)}
			}
		}
		if old := before[s.Tag]; old != nil {
			delete(before, s.Tag) // once: it may be what is wrong
			kept := *old
			kept.Backends = s.Backends
			next = append(next, &kept)
		}
	}
	return next, found
}

// formOf is what a service is but for its backends; with the same form it is refused again.
func (b *Balancer) formOf(s *plan.Service) string {
	form, err := shape(b.settings(""), []*plan.Service{s})
	if err != nil {
		return err.Error()
	}
	return form
}

// knownBad is why a service was refused a moment ago, if it is the same still.
func (b *Balancer) knownBad(s *plan.Service) error {
	known, ok := b.bad[s.Tag]
	if !ok || known.form != b.formOf(s) || !b.cfg.Clock.Now().Before(known.until) {
		return nil
	}
	return known.err
}

// blame says what is wrong with one service, if it is one that a refusal is about.
func (b *Balancer) blame(ctx context.Context, s *plan.Service, refusal error) error {
	for _, f := range s.Ports {
		id := proxyID(s.Tag, f.Port)
		if namesProxy(refusal.Error(), "f."+id) || namesProxy(refusal.Error(), "b."+id) {
			return refusal
		}
	}
	set := b.settings("")
	text, err := Render(set, []*plan.Service{s})
	if err != nil {
		return err
	}
	if err := b.certificate(s); err != nil {
		return err
	}
	file := b.path("alone.cfg")
	defer os.Remove(file)
	if err := writeFile(file, text); err != nil {
		return nil // a full disk is nobody's fault
	}
	if err := b.tryFile(ctx, file); errors.Is(err, ErrRefused) {
		return err
	}
	return nil
}

// namesProxy reports whether a text has an id as a whole word.
func namesProxy(text, id string) bool {
	for rest := text; ; {
		i := strings.Index(rest, id)
		if i < 0 {
			return false
		}
		end := rest[i+len(id):]
		if (i == 0 || !idByte(rest[i-1])) && (end == "" || !idByte(end[0])) {
			return true
		}
		rest = end
	}
}

func idByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}

// refusals are what Apply says of services that were refused.
func (b *Balancer) refusals() error {
	var list []error
	for _, tag := range sortedKeys(b.refused) {
		err := b.refused[tag]
		kept := "it is not carried"
		if slices.ContainsFunc(b.want, func(s *plan.Service) bool { return s.Tag == tag }) {
			kept = "it stays as it was"
		}
		list = append(list, fmt.Errorf("tags/%s: %s: %w", tag, kept, err))
	}
	return errors.Join(list...)
}
