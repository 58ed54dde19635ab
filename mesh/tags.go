package mesh

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/hashicorp/serf/serf"
)

// maxTags is the most bytes the member metadata may take encoded. memberlist's limit is 512, and serf panics beyond it
// when tags change; the rest is left for versions to come.
const maxTags = 400

// The keys of the metadata are one letter, because all of it rides on every alive message.
const (
	tagMesh       = "m"
	tagName       = "n"
	tagProtocol   = "v"
	tagStream     = "p"
	tagDatacenter = "d"
	tagRack       = "r"
)

func encodeTags(cfg *Config, streamPort uint16) map[string]string {
	t := map[string]string{
		tagMesh:     cfg.MeshID,
		tagName:     cfg.Name,
		tagProtocol: strconv.Itoa(ProtocolMax),
		tagStream:   strconv.Itoa(int(streamPort)),
	}
	if cfg.Datacenter != "" {
		t[tagDatacenter] = cfg.Datacenter
	}
	if cfg.Rack != "" {
		t[tagRack] = cfg.Rack
	}
	return t
}

// tagsSize returns how many bytes serf makes of the tags: a magic byte and a MessagePack map of raw strings.
func tagsSize(tags map[string]string) int {
	str := func(s string) int {
		if len(s) < 32 {
			return 1 + len(s)
		}
		return 3 + len(s)
	}
	n := 2 // magic byte, map of at most 15 pairs
	for k, v := range tags {
		n += str(k) + str(v)
	}
	return n
}

// checkTags refuses metadata that is too long. The mesh id and the stream port may not be known yet, so they count with
// their longest form.
func checkTags(cfg *Config) error {
	c := *cfg
	c.MeshID = string(make([]byte, idLen))
	if n := tagsSize(encodeTags(&c, 65535)); n > maxTags {
		return fmt.Errorf("member metadata takes %d bytes, at most %d are possible: shorten the labels datacenter (%d bytes) or rack (%d bytes), or the name (%d bytes)",
			n, maxTags, len(cfg.Datacenter), len(cfg.Rack), len(cfg.Name))
	}
	return nil
}

// memberOf reads a serf member. What a tag does not say stays zero; state and time are the caller's.
func memberOf(s serf.Member) Member {
	addr, _ := netip.AddrFromSlice(s.Addr)
	port, _ := strconv.ParseUint(s.Tags[tagStream], 10, 16)
	proto, _ := strconv.Atoi(s.Tags[tagProtocol])
	return Member{
		ID:         s.Name,
		Name:       s.Tags[tagName],
		Addr:       addr.Unmap(),
		GossipPort: s.Port,
		StreamPort: uint16(port),
		Datacenter: s.Tags[tagDatacenter],
		Rack:       s.Tags[tagRack],
		Protocol:   proto,
	}
}
