package replica

import (
	"context"
	"errors"
	"fmt"

	"hostmesh/hostdb"
)

// servePush takes operations and answers when they are durable here.
func (r *Replica) servePush(ctx context.Context, from string, body []byte) ([]byte, error) {
	var req pushRequest
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	origins := map[uint64]bool{}
	for _, raw := range req.Ops {
		origin, _, err := hostdb.PeekOperation(raw)
		if err != nil {
			return nil, fmt.Errorf("push of node %s: %w", from, err)
		}
		origins[origin] = true
	}
	before := r.cfg.Store.View()
	answer := pushAnswer{Have: map[uint64]uint64{}}
	held := map[uint64]bool{}
	taken, err := r.take(ctx, from, req.Ops, held)
	if err != nil {
		answer.Reason = err.Error()
	} else if len(held) > 0 {
		answer.Reason = "some operations were not taken: operations before them are missing, or their writer's clock runs ahead"
	}
	after := r.cfg.Store.View()
	for origin := range origins {
		answer.Have[origin] = after.Seq(origin)
		if taken > 0 && after.Seq(origin) > before.Seq(origin) {
			r.push(origin, after.OriginNode(origin), from)
		}
	}
	r.count(func(c *Counts) { c.BytesReceived += uint64(len(body)) })
	return encode(answer)
}

// servePull answers with what the asker lacks.
func (r *Replica) servePull(_ context.Context, from string, body []byte) ([]byte, error) {
	var req pullRequest
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	select {
	case r.serving <- struct{}{}:
		defer func() { <-r.serving }()
	default:
		r.count(func(c *Counts) { c.Busy++ })
		return encode(pullAnswer{Busy: true})
	}
	floor := r.cfg.Store.Floor() // before the view: what is written in between has a higher stamp, and is not in the view
	v := r.cfg.Store.View()
	answer := pullAnswer{
		Floor:     floor,
		Version:   v.Version().String(),
		Algorithm: hostdb.DigestAlgorithm,
		Digests:   map[string]string{},
		Vector:    map[uint64]uint64{},
	}
	for _, ns := range v.Namespaces() {
		answer.Digests[ns] = v.Digest(ns)
	}
	budget := min(max(req.Bytes, 1), r.cfg.MessageBytes)
	for origin, seq := range v.Vector() {
		answer.Vector[origin] = seq
		have := req.Vector[origin]
		if have >= seq {
			continue
		}
		if budget <= 0 {
			answer.More = true
			continue
		}
		ops, err := r.cfg.Store.Operations(origin, have, budget)
		if err != nil {
			if errors.Is(err, hostdb.ErrUnavailable) {
				return nil, err
			}
			return nil, fmt.Errorf("pull of node %s: %w", from, err)
		}
		for _, op := range ops {
			budget -= len(op)
		}
		answer.Ops = append(answer.Ops, ops...)
		if have+uint64(len(ops)) < seq {
			answer.More = true
		}
	}
	r.count(func(c *Counts) { c.ServedOps += uint64(len(answer.Ops)) })
	return encode(answer)
}
