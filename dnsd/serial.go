package dnsd

import (
	"sync"
	"time"

	"hostmesh/dnsd/zone"
)

// Serials gives zones their SOA serial numbers, so that they grow with every change of content, never fall, and are the
// same on nodes with the same content after one exchange between them:
//
//   - at the start: the highest serial heard for this content, else max(unix time, heard + 1);
//   - when the content changes: max(own, heard) + 1, or what was heard for the new content if that is as high;
//   - when the own content is heard with a higher serial: that one.
//
// What is known of the past comes from a serialFile. All numbers compare as RFC 1982 says. The methods are safe for
// concurrent use.
type Serials struct {
	now func() time.Time

	mu    sync.Mutex // guards zones and what they point at
	zones map[string]*zoneSerial
}

// zoneSerial is what is known of one zone's serials.
type zoneSerial struct {
	started bool // serial is ours; else it was only heard of
	serial  uint32
	hash    zone.Hash
	saved   *serialRow // what the file says; nil for nothing

	heard    bool
	highest  uint32               // heard, of any content
	versions map[zone.Hash]uint32 // highest heard of each content, at most maxVersions
}

// Bounds of what is remembered of what others tell.
const (
	maxVersions   = 16     // contents of each zone: those that nodes have while they converge
	maxHeardZones = 20_000 // zones, ours included, beyond which no new ones are heard of
	maxOrigin     = 1024   // bytes of a zone's name as text, in which each of 255 may take four
)

// NewSerials knows of no zone. now is the wall clock; nil is the system's.
func NewSerials(now func() time.Time) *Serials {
	if now == nil {
		now = time.Now
	}
	return &Serials{now: now, zones: map[string]*zoneSerial{}}
}

// newer reports whether a comes after b (RFC 1982 section 3.2). Where that is undefined it does not.
func newer(a, b uint32) bool { return a != b && a-b < 1<<31 }

// next is the serial after s. 0 is left out, because some servers take it for none.
func next(s uint32) uint32 {
	if s++; s == 0 {
		s = 1
	}
	return s
}

func (s *Serials) zone(origin string) *zoneSerial {
	z := s.zones[origin]
	if z == nil {
		z = &zoneSerial{versions: map[zone.Hash]uint32{}}
		s.zones[origin] = z
	}
	return z
}

// Set tells what a zone contains now, and returns its serial.
func (s *Serials) Set(origin string, content zone.Hash) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	z := s.zone(origin)
	if z.started && z.hash == content {
		return z.serial
	}
	same, known := z.versions[content]
	switch {
	case !z.started && known:
		z.serial = same
	case !z.started:
		z.serial = max(1, uint32(s.now().Unix()))
		if z.heard && !newer(z.serial, z.highest) {
			z.serial = next(z.highest)
		}
	case known && newer(same, z.serial) && !newer(z.highest, same):
		z.serial = same
	case z.heard && newer(z.highest, z.serial):
		z.serial = next(z.highest)
	default:
		z.serial = next(z.serial)
	}
	z.started, z.hash = true, content
	return z.serial
}

// Heard tells what another node serves. It reports whether that changed the serial of ours.
func (s *Serials) Heard(origin string, content zone.Hash, serial uint32) (adopted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.zones[origin]; !known && (len(s.zones) >= maxHeardZones || len(origin) > maxOrigin) {
		return false // who tells of so many zones tells of none that anybody serves
	}
	z := s.zone(origin)
	if !z.heard || newer(serial, z.highest) {
		z.heard, z.highest = true, serial
	}
	if was, ok := z.versions[content]; !ok || newer(serial, was) {
		z.versions[content] = serial
	}
	if len(z.versions) > maxVersions {
		z.forget()
	}
	if z.started && z.hash == content && newer(serial, z.serial) {
		z.serial = serial
		return true
	}
	return false
}

// forget drops the content with the lowest serial.
func (z *zoneSerial) forget() {
	var lowest zone.Hash
	first := true
	for h, n := range z.versions {
		if first || newer(z.versions[lowest], n) {
			lowest, first = h, false
		}
	}
	delete(z.versions, lowest)
}

// Serial is one zone's serial and the content that it names.
type Serial struct {
	Zone   string    `json:"zone"`
	Serial uint32    `json:"serial"`
	Hash   zone.Hash `json:"hash"`
}

// Own lists the serials of the zones that were Set, in no particular order.
func (s *Serials) Own() []Serial {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Serial, 0, len(s.zones))
	for origin, z := range s.zones {
		if z.started && z.hash != (zone.Hash{}) {
			out = append(out, Serial{origin, z.serial, z.hash})
		}
	}
	return out
}
