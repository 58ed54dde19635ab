package node

import "hostmesh/node/api"

// Where DNS joins the agent: its listeners, its place in the loop and among the services, its metrics, its zones.

func (a *Agent) openDNS() error                     { return nil }
func (a *Agent) addDNS(*services)                   {}
func (a *Agent) registerDNS()                       {}
func (a *Agent) dnsListeners() []api.ListenerStatus { return nil }
func (a *Agent) zones() api.Zones                   { return nil }
