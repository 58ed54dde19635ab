package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

func vmURL(name, verb string) string {
	path := "/api/v1/vms/" + url.PathEscape(name)
	if verb != "" {
		path += "/" + verb
	}
	return path
}

// getQuery is getJSON with parameters; empty ones are left out.
func (c *Client) getQuery(ctx context.Context, path string, params map[string]string, out any) error {
	q := url.Values{}
	for name, value := range params {
		setUnlessEmpty(q, name, value)
	}
	body, err := c.get(ctx, path, q)
	if err == nil {
		err = c.decode(body, out)
	}
	return err
}

// VMs lists virtual machines.
func (c *Client) VMs(ctx context.Context, f VMFilter) (VMList, error) {
	var out VMList
	err := c.getQuery(ctx, "/api/v1/vms", map[string]string{"box": f.Box, "tag": f.Tag, "phase": f.Phase}, &out)
	return out, err
}

// VM asks for one virtual machine.
func (c *Client) VM(ctx context.Context, name string) (VM, error) {
	var out VM
	err := c.getJSON(ctx, vmURL(name, ""), &out)
	return out, err
}

// CreateVM enters a virtual machine.
func (c *Client) CreateVM(ctx context.Context, w VMWish) (VMWritten, error) {
	var out VMWritten
	err := c.writeJSON(ctx, http.MethodPost, "/api/v1/vms", w, &out)
	return out, err
}

// SetVMPower enters whether a machine is meant to run.
func (c *Client) SetVMPower(ctx context.Context, name string, p VMPower) (VMWritten, error) {
	var out VMWritten
	err := c.writeJSON(ctx, http.MethodPost, vmURL(name, "power"), p, &out)
	return out, err
}

// DestroyVM deletes a machine.
func (c *Client) DestroyVM(ctx context.Context, name string, o VMOrder) (VMWritten, error) {
	var out VMWritten
	q := url.Values{"log": {o.Log}}
	setUnlessEmpty(q, "override", o.Override)
	body, _, err := c.roundTrip(ctx, http.MethodDelete, vmURL(name, ""), q, "", nil)
	if err == nil {
		err = c.decode(body, &out)
	}
	return out, err
}

// UndeleteVM brings a deleted machine back.
func (c *Client) UndeleteVM(ctx context.Context, name string, o VMOrder) (VMWritten, error) {
	var out VMWritten
	err := c.writeJSON(ctx, http.MethodPost, vmURL(name, "undelete"), o, &out)
	return out, err
}

// RebootVM boots a machine again.
func (c *Client) RebootVM(ctx context.Context, name string, o VMReboot) (VMDone, error) {
	var out VMDone
	err := c.writeJSON(ctx, http.MethodPost, vmURL(name, "reboot"), o, &out)
	return out, err
}

// RetryVM has a machine that failed tried again.
func (c *Client) RetryVM(ctx context.Context, name string) (VMDone, error) {
	var out VMDone
	err := c.postJSON(ctx, vmURL(name, "retry"), nil, &out)
	return out, err
}

// PurgeVM removes what is left of a deleted machine.
func (c *Client) PurgeVM(ctx context.Context, name string, o VMPurge) (VMDone, error) {
	var out VMDone
	err := c.writeJSON(ctx, http.MethodPost, vmURL(name, "purge"), o, &out)
	return out, err
}

// VMConsole reads a machine's console from an offset; see VMCommands.
func (c *Client) VMConsole(ctx context.Context, name string, from int64, wait time.Duration) (VMConsole, error) {
	var out VMConsole
	err := c.getQuery(ctx, vmURL(name, "console"), map[string]string{"from": fmt.Sprint(from), "wait_ms": fmt.Sprint(min(wait, maxConsoleWait).Milliseconds())}, &out)
	return out, err
}

// VMDestroys asks which machines wait to be destroyed.
func (c *Client) VMDestroys(ctx context.Context) (VMDestroys, error) {
	var out VMDestroys
	err := c.getJSON(ctx, "/api/v1/vmdestroys", &out)
	return out, err
}

// ApproveVMs lets machines be destroyed that wait for it.
func (c *Client) ApproveVMs(ctx context.Context, names []string, all bool) (VMApproved, error) {
	var out VMApproved
	err := c.writeJSON(ctx, http.MethodPost, "/api/v1/vmdestroys", ApproveVMs{Names: names, All: all}, &out)
	return out, err
}

// ExplainVM asks why a machine is where it is.
func (c *Client) ExplainVM(ctx context.Context, name string) (VMExplanation, error) {
	var out VMExplanation
	err := c.getJSON(ctx, vmURL(name, "explain"), &out)
	return out, err
}

// VMCapacity asks what boxes have; without are boxes that are thought away.
func (c *Client) VMCapacity(ctx context.Context, without []string) (VMCapacity, error) {
	var out VMCapacity
	err := c.getQuery(ctx, "/api/v1/vmcapacity", map[string]string{"without": strings.Join(without, ",")}, &out)
	return out, err
}
