package haproxy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// maxID bounds ids: HAProxy reads lines of 2,048 bytes and divides them into words.
const maxID = 120

// idOf is a tag as a name that HAProxy takes: letters, digits, dots and dashes as they are, every other byte as _ and two hex
// digits. Different tags have different ids. One that would be too long ends in a hash instead, after two underscores.
func idOf(tag string) string {
	var b strings.Builder
	for i := range len(tag) {
		switch c := tag[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	if id := b.String(); len(id) <= maxID {
		return id
	}
	sum := sha256.Sum256([]byte(tag))
	return b.String()[:maxID-34] + "__" + hex.EncodeToString(sum[:16])
}

// tagOf reads what idOf wrote; false for an id with a hash, which only a list of tags can tell, and for what is none.
func tagOf(id string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(id); i++ {
		if id[i] != '_' {
			b.WriteByte(id[i])
			continue
		}
		if i+2 >= len(id) {
			return "", false
		}
		c, err := strconv.ParseUint(id[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), b.Len() > 0 && idOf(b.String()) == id
}

// proxyID is the id of a tag's port, without the letter that says whether it is the frontend or the backend.
func proxyID(tag string, port uint16) string { return idOf(tag) + ":" + strconv.Itoa(int(port)) }

// serverIDs numbers servers by their addresses, so that HAProxy's consistent hash sends a client to the same one from whichever
// box, and whatever was added before. The numbers are HAProxy's: 1 to 2^31 - 1, unique within a backend.
func serverIDs(addrs []netip.Addr) map[netip.Addr]uint32 {
	addrs = slices.Clone(addrs)
	slices.SortFunc(addrs, netip.Addr.Compare)
	out := make(map[netip.Addr]uint32, len(addrs))
	taken := make(map[uint32]bool, len(addrs))
	for _, a := range addrs {
		sum := sha256.Sum256(a.AsSlice())
		n := (uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])) & (1<<31 - 1)
		for n == 0 || taken[n] {
			n = (n + 1) & (1<<31 - 1)
		}
		taken[n] = true
		out[a] = n
	}
	return out
}

// quote is a text as one word of the file: nothing in it is special.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
