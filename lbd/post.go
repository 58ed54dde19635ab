package lbd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/nft"
	"hostmesh/lbd/plan"
	"hostmesh/lbd/vip"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/report"
)

// post is this node's part in one virtual address. Its fields are guarded by Daemon.mu.
type post struct {
	d       *Daemon
	vip     plan.VIP
	cancel  context.CancelCauseFunc // of the campaign; nil = it does not run
	ended   chan struct{}           // of the campaign, closed when it has ended
	refusal string                  // why this node does not offer itself
	said    string                  // to the lease
	// claims counts those that are being made or are not over; a new one may begin before the former is over. While there is one there are rules.
	claims int
	grant  Grant       // nil = it is not held
	fence  uint64      // of the last grant
	since  time.Time   // of the grant
	handle *vip.Handle // nil = the address is not claimed
	keep   bool        // of the claim
	kept   bool        // handle was left as it is when its grant was lost: nobody else ends it
}

// Why a campaign ends.
var (
	errGone     = errors.New("nothing is balanced on it any more")
	errUnfit    = errors.New("this node cannot hold it any more")
	errStopping = errors.New("the agent stops")
)

func (d *Daemon) newPost(v plan.VIP) *post { return &post{d: d, vip: v} }

// want begins or ends the campaign.
func (p *post) want(refusal string) {
	p.refusal = refusal
	p.decline(refusal)
	switch {
	case refusal != "" && p.cancel != nil:
		p.cancel(errUnfit)
		p.cancel = nil
	case refusal == "" && p.cancel == nil && p.over():
		ctx, cancel := context.WithCancelCause(context.WithoutCancel(p.d.run))
		p.cancel, p.ended = cancel, make(chan struct{})
		p.d.wg.Go(func() { p.campaign(ctx, p.ended) })
	}
}

// decline says why this node does not offer itself, once.
func (p *post) decline(reason string) {
	if p.d.cfg.Lease == nil || p.said == reason {
		return
	}
	p.said = reason
	p.d.cfg.Lease.Decline(plan.Duty(p.vip.Addr), reason)
}

// over reports whether no campaign runs any more.
func (p *post) over() bool {
	if p.ended == nil {
		return true
	}
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// idle reports whether nothing of it is left.
func (p *post) idle() bool { return p.over() && p.claims == 0 }

// stop ends the campaign: the address goes to another node, or, when nothing is balanced on it, goes.
func (p *post) stop(agent bool) {
	cause := errGone
	if agent {
		cause = errStopping
	}
	if p.cancel != nil {
		p.cancel(cause)
		p.cancel = nil
	}
	// What is kept without a lease, or was until somebody else had it, has nobody to hand it over to.
	if h := p.handle; h != nil && p.kept {
		p.kept = false
		p.d.wg.Go(func() { p.d.release(h) })
	}
}

func (p *post) campaign(ctx context.Context, ended chan struct{}) {
	defer p.d.wake()
	defer close(ended)
	err := p.d.cfg.Lease.Campaign(ctx, plan.Duty(p.vip.Addr), func(held context.Context, g Grant) error {
		return p.hold(ctx, held, g)
	})
	if err != nil && ctx.Err() == nil {
		p.d.log.Error("this node is not offered for a virtual address; it tries again", "vip", p.vip.Addr.String(), "err", err)
	}
	p.d.mu.Lock()
	if p.ended == ended && p.cancel != nil {
		p.cancel(nil)
		p.cancel = nil
	}
	p.d.mu.Unlock()
}

// patience is how long a holder whose address is not here, for the sake of its own box, keeps the duty from others.
const patience = 3 * time.Second

// hold is the duty. campaign tells by its cause why it ends, held when.
func (p *post) hold(campaign, held context.Context, g Grant) error {
	d := p.d
	h, err := p.take(held, g)
	if err != nil {
		return err
	}
	defer func() {
		d.mu.Lock()
		p.grant = nil
		d.mu.Unlock()
		d.wake()
	}()
	began := time.Now() // of a time without the address, or without a program behind it
	timer := time.NewTicker(patience / 3)
	defer timer.Stop()
	for {
		select {
		case <-held.Done():
			p.give(campaign, held, h)
			return nil
		case <-h.Done():
			if !g.Valid() { // the address went with the lease
				<-held.Done()
				continue
			}
			return fmt.Errorf("the address %s is gone: %s", p.vip.Addr, h.State().Why)
		case <-h.Changed():
			d.wake()
		case <-timer.C:
		}
		s, stands := h.State(), p.stands()
		if stands && (s.Here() || s.Phase == vip.Refused) { // elsewhere it would be refused, too
			began = time.Now()
		}
		if time.Since(began) > patience && g.Valid() {
			d.release(h)
			if !stands {
				return fmt.Errorf("%s is not served here: HAProxy does not run", p.vip.Addr)
			}
			return fmt.Errorf("%s cannot be here: %s", p.vip.Addr, s.Why)
		}
	}
}

// stands reports whether something here passes on what arrives at the address, or some of it. HAProxy may have died, and not start again.
func (p *post) stands() bool {
	p.d.mu.Lock()
	v := p.vip
	p.d.mu.Unlock()
	if v.NAT || !v.HAProxy {
		return true
	}
	carries := p.d.cfg.Proxy.Carries()
	return slices.ContainsFunc(v.Services, func(s *plan.Service) bool { return slices.Contains(carries, s.Tag) })
}

// take makes the rules, and then claims the address.
func (p *post) take(ctx context.Context, g Grant) (*vip.Handle, error) {
	d := p.d
	d.mu.Lock()
	v := p.vip
	p.claims++
	d.apply(ctx)
	err := p.servedLocked()
	if err != nil {
		p.claims--
		d.mu.Unlock()
		d.wake()
		return nil, err
	}
	if h := p.handle; h != nil && p.kept && v.Keep {
		p.claims-- // the one that is kept goes on, or begins again where it had to give way
		p.kept = false
		h.Under(g)
		p.holds(g)
		d.mu.Unlock()
		d.wake()
		return h, nil
	}
	former, kept := p.handle, p.kept
	p.kept = false
	d.mu.Unlock()
	if kept {
		d.release(former) // it is not to be kept any more
	}
	// An earlier claim that does not come to its end is no reason to keep the duty from others.
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	h, err := d.cfg.Addresses.Claim(ctx, vip.Claim{Addr: v.Addr, Interface: d.fitLink(v), Owner: plan.Duty(v.Addr), Lease: g, Keep: v.Keep})
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		p.claims--
		d.wake()
		return nil, err
	}
	p.handle, p.keep = h, v.Keep
	p.holds(g)
	d.wake()
	d.wg.Go(func() { // whatever becomes of it, rules go with it
		<-h.Done()
		d.mu.Lock()
		p.claims--
		if p.handle == h {
			p.handle, p.kept = nil, false
		}
		d.mu.Unlock()
		d.wake()
	})
	return h, nil
}

func (p *post) holds(g Grant) {
	p.grant, p.fence, p.since = g, g.Number(), p.d.clock.Now()
	p.d.log.Info("virtual address is this node's to hold", "vip", p.vip.Addr.String(), "fence", g.Number(), "version", p.d.applied.version)
}

// servedLocked is why what arrives at the address could not be passed on.
func (p *post) servedLocked() error {
	switch a := p.d.applied; {
	case p.vip.NAT && a.natErr != nil:
		return a.natErr
	case !p.vip.HAProxy && len(a.refused) > 0 && !slices.ContainsFunc(a.nat.Services, func(x nft.Service) bool { return x.VIP == p.vip.Addr }):
		return refusals(a.refused)
	case p.vip.HAProxy && a.proxyErr != nil:
		// It may have refused another address's alone.
		carries := p.d.cfg.Proxy.Carries()
		for _, s := range p.vip.Services {
			if s.Mode != section.NAT && !slices.Contains(carries, s.Tag) {
				return a.proxyErr
			}
		}
	}
	return nil
}

// give ends a grant.
func (p *post) give(campaign, held context.Context, h *vip.Handle) {
	d := p.d
	cause, why := context.Cause(held), context.Cause(campaign)
	lost := errors.Is(cause, lease.ErrExpired) || errors.Is(cause, lease.ErrLost)
	d.mu.Lock()
	p.kept = lost && p.keep && p.handle == h && campaign.Err() == nil
	kept := p.kept
	d.mu.Unlock()
	d.log.Info("virtual address is this node's no longer", "vip", p.vip.Addr.String(), "reason", cause)
	switch {
	case errors.Is(why, errGone):
		d.release(h)
	case kept: // it is left where it is
	case lost:
		d.release(h)
	default:
		// Another node is asked to take it, or would: the rules stay, so that what arrives here until then is served.
		h.HandOver()
	}
}

// release removes the address. The kernel does where it does not end.
func (d *Daemon) release(h *vip.Handle) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.Release(ctx); err != nil {
		d.log.Warn("virtual address is not released yet", "err", err)
	}
}

// report is what others hear of it.
func (p *post) report() report.VIP {
	r := report.VIP{Fence: p.fence}
	if p.handle != nil {
		s := p.handle.State()
		r.Phase, r.Why = string(s.Phase), s.Why
	}
	return r
}
