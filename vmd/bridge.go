package vmd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// errBridge is returned for a network that this box's configuration keeps from machines.
var errBridge = errors.New("this box connects no machine to it")

// refusedBridge says why no machine is connected to a bridge; "" = one may be.
func (c *Config) refusedBridge(bridge string) string {
	if bridge == "" || len(c.Bridges) == 0 || slices.Contains(c.Bridges, bridge) {
		return ""
	}
	return fmt.Sprintf("vm.bridges in this box's configuration leaves %s out; it has %s", bridge, strings.Join(c.Bridges, ", "))
}

// allowedBridges are those of a list that machines may be connected to.
func (c *Config) allowedBridges(list []string) []string {
	var out []string
	for _, bridge := range list {
		if c.refusedBridge(bridge) == "" {
			out = append(out, bridge)
		}
	}
	return out
}
