package api

import (
	"io"
)

// Zones gives out the DNS zones this node serves.
type Zones interface {
	// Zones are sorted by name.
	Zones() []Zone
	// WriteZone writes a zone as a master file (RFC 1035 section 5). name has no final dot and is in lower case.
	// It returns an error that wraps ErrNotFound, before it writes, when there is no such zone.
	WriteZone(w io.Writer, name string) error
}

// Zone is one DNS zone.
type Zone struct {
	Name    string `json:"name" doc:"Without the final dot"`
	Serial  uint32 `json:"serial"`
	Records int    `json:"records" doc:"Number of resource records"`
	Live    bool   `json:"live,omitempty" doc:"True when its names follow which members are alive; such a zone is not transferable"`
}
