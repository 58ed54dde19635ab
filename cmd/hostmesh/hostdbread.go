package main

import (
	"context"
	"fmt"
	"strings"

	"hostmesh/node/api"
)

// print reads an id and prints it as Flipkart's command does: with one more newline than the server sends.
func (h *hostdbRun) print(ctx context.Context, id string, l api.Lookup) error {
	text, err := within(h, ctx, func(ctx context.Context) (api.Text, error) { return h.reads.Lookup(ctx, id, l) })
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(h.stdout, text.Text)
	return err
}

func (h *hostdbRun) get(ctx context.Context, id string) error {
	return h.print(ctx, id, api.Lookup{Revision: h.rev, Raw: h.raw})
}

func (h *hostdbRun) multiGet(ctx context.Context, id string) error {
	return h.print(ctx, id, api.Lookup{Foreach: h.foreach, Revision: h.rev})
}

func (h *hostdbRun) revisions(ctx context.Context, id string) error {
	return h.print(ctx, id, api.Lookup{Meta: "revisions", Limit: h.limit})
}

func (h *hostdbRun) parents(ctx context.Context, host string) error {
	return h.about(ctx, host, "parents")
}

func (h *hostdbRun) derived(ctx context.Context, host string) error {
	return h.about(ctx, host, "derived")
}

func (h *hostdbRun) about(ctx context.Context, host, meta string) error {
	from := h.namespace
	if from == "" {
		from = "tags"
	}
	return h.print(ctx, "hosts/"+strings.TrimPrefix(host, "hosts/"), api.Lookup{Meta: meta, From: from})
}
