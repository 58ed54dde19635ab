package section

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Size is an amount of memory or disk in bytes.
type Size uint64

// The units of sizes. Those with an i count in powers of 1024.
var sizeUnits = []struct {
	name  string
	bytes float64
}{
	{"PiB", 1 << 50}, {"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"PB", 1e15}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
}

// String is s in the largest unit of 1024 that gives a whole number, as in 2GiB.
func (s Size) String() string {
	for _, u := range sizeUnits[:5] {
		if n := uint64(u.bytes); s >= Size(n) && uint64(s)%n == 0 {
			return strconv.FormatUint(uint64(s)/n, 10) + u.name
		}
	}
	return strconv.FormatUint(uint64(s), 10) + "B"
}

// parseSize reads a number with a unit. The unit must be there: 2048 and 2G mean different things to different people.
func parseSize(text string) (Size, error) {
	for _, u := range sizeUnits {
		number, found := strings.CutSuffix(text, u.name)
		if !found {
			continue
		}
		n, err := parseNumber(strings.TrimRight(number, " "))
		if err != nil || n*u.bytes > 1<<62 {
			return 0, errWrong
		}
		return Size(math.Round(n * u.bytes)), nil
	}
	return 0, errWrong
}

// Percent is a share of a hundred: 60 is 60%.
type Percent float64

// String is p with its sign, as in 60%.
func (p Percent) String() string { return strconv.FormatFloat(float64(p), 'f', -1, 64) + "%" }

func parsePercent(text string) (Percent, error) {
	number, found := strings.CutSuffix(text, "%")
	n, err := parseNumber(strings.TrimRight(number, " "))
	if !found || err != nil {
		return 0, errWrong
	}
	return Percent(n), nil
}

var number = regexp.MustCompile(`^(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,9})?$`)

// parseNumber reads a plain decimal number: no sign, exponent, or leading zero, which some take for octal.
func parseNumber(text string) (float64, error) {
	if !number.MatchString(text) {
		return 0, errWrong
	}
	return strconv.ParseFloat(text, 64)
}

var integer = regexp.MustCompile(`^(?:0|-?[1-9][0-9]{0,17})$`)

func parseInteger(text string) (int64, error) {
	if !integer.MatchString(text) {
		return 0, errWrong
	}
	return strconv.ParseInt(text, 10, 64)
}

// The units of durations, longest first.
var durationUnits = []struct {
	name string
	unit time.Duration
}{
	{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute},
	{"s", time.Second}, {"ms", time.Millisecond},
}

var durationPart = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)(ms|[wdhms])`)

// parseDuration reads 1h30m, 14d and the like. A unit must be there: 14 is seconds to one and days to the next. 0
// needs none.
func parseDuration(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	var sum float64
	for rest := text; rest != "" || text == ""; {
		part := durationPart.FindStringSubmatch(rest)
		if part == nil {
			return 0, errWrong
		}
		n, err := parseNumber(part[1])
		if err != nil {
			return 0, err
		}
		for _, u := range durationUnits {
			if u.name == part[2] {
				sum += n * float64(u.unit)
			}
		}
		rest = rest[len(part[0]):]
	}
	if sum > math.MaxInt64/2 {
		return 0, errWrong
	}
	return time.Duration(math.Round(sum)), nil
}

// parseSeconds reads a number of seconds, or a duration of whole seconds. Time to live is counted in seconds wherever
// DNS is written down, so no unit is needed.
func parseSeconds(text string) (time.Duration, error) {
	if n, err := parseInteger(text); err == nil {
		if n < 0 || n > math.MaxInt32 {
			return 0, errWrong
		}
		return time.Duration(n) * time.Second, nil
	}
	d, err := parseDuration(text)
	if err != nil || d%time.Second != 0 || d > math.MaxInt32*time.Second {
		return 0, errWrong
	}
	return d, nil
}

// formatDuration is d in the units that parseDuration reads. Below a millisecond is cut off.
func formatDuration(d time.Duration) string {
	var b strings.Builder
	for _, u := range durationUnits[1:] { // 14d rather than 2w: people count log files in days
		if n := d / u.unit; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			d -= n * u.unit
		}
	}
	return cmp.Or(b.String(), "0")
}

// Port is a port with its protocol, as in 53/udp.
type Port struct {
	Number uint16
	Proto  Proto
}

// String is p as it is written, as in 53/udp.
func (p Port) String() string { return strconv.Itoa(int(p.Number)) + "/" + string(p.Proto) }

func parsePort(text string) (Port, error) {
	number, proto, _ := strings.Cut(text, "/")
	n, err := parseInteger(number)
	p := Port{uint16(n), Proto(strings.ToLower(proto))}
	if err != nil || n < 1 || n > math.MaxUint16 || p.Proto != TCP && p.Proto != UDP {
		return Port{}, errWrong
	}
	return p, nil
}

// Units are the height units of a rack that a machine fills, counted from below. The zero value is not known.
type Units struct{ From, To int }

// String is u as it is written: 4, or 8-11.
func (u Units) String() string {
	if u.From == u.To {
		return strconv.Itoa(u.From)
	}
	return fmt.Sprintf("%d-%d", u.From, u.To)
}

var units = regexp.MustCompile(`^0{0,2}([1-9][0-9]?)(?: ?- ?0{0,2}([1-9][0-9]?))?$`)

// parseUnits reads one number or a range. Leading zeros are common here and mean nothing.
func parseUnits(text string) (Units, error) {
	m := units.FindStringSubmatch(text)
	if m == nil {
		return Units{}, errWrong
	}
	from, _ := strconv.Atoi(m[1])
	to, _ := strconv.Atoi(cmp.Or(m[2], m[1]))
	if to < from {
		return Units{}, errors.New("ends below where it begins")
	}
	return Units{from, to}, nil
}

func parseAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, errWrong
	}
	return a.Unmap(), nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, errWrong
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("has bits set behind its length; expected %s", p.Masked())
	}
	return p, nil
}

// parseAddrPort reads an address, or an address with a port; the port is 0 when there is none.
func parseAddrPort(text string) (netip.AddrPort, error) {
	if a, err := parseAddr(text); err == nil {
		return netip.AddrPortFrom(a, 0), nil
	}
	p, err := netip.ParseAddrPort(text)
	if err != nil || p.Addr().Zone() != "" || p.Port() == 0 {
		return netip.AddrPort{}, errWrong
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port()), nil
}

func formatAddrPort(p netip.AddrPort) string {
	if p.Port() == 0 {
		return p.Addr().String()
	}
	return p.String()
}

// parseDay reads a day, or an instant in RFC 3339. A day ends at midnight, UTC.
func parseDay(text string) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t.AddDate(0, 0, 1), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, errWrong
	}
	return t.UTC(), nil
}
