package section

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// kind is how one type of scalar is read, told of and written.
type kind struct {
	name   string   // in the manual: "duration"
	what   string   // after "is not": "a duration in seconds"
	expect string   // before "such as": "a number of seconds"; empty is "one"
	unit   string   // of a bare number: "seconds"
	values []string // of an enumeration
	low    string   // bounds as people write them; empty for none
	high   string
	parse  func(text string) (any, error)
	format func(v any) string
}

// refuse says why text is not of the kind. example is empty when there is none.
func (k *kind) refuse(text, example string, err error) string {
	switch {
	case !errors.Is(err, errWrong):
		return err.Error()
	case len(k.values) > 0:
		return "is not a known value; expected " + oneOf(k.values)
	}
	expect := k.expect
	if expect == "" {
		expect = "one"
	}
	if between := k.between(); between != "" && k.expect == "" {
		expect += " " + between
	}
	if example != "" {
		expect += " such as " + example
	}
	return "is not " + k.what + "; expected " + expect
}

// between is the range in words, as in "from 1 to 100".
func (k *kind) between() string {
	switch {
	case k.low != "" && k.high != "":
		return "from " + k.low + " to " + k.high
	case k.low != "":
		return "of at least " + k.low
	case k.high != "":
		return "of at most " + k.high
	}
	return ""
}

func oneOf(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return strings.Join(values[:len(values)-1], ", ") + " or " + values[len(values)-1]
}

// enumeration is a type of text with few values. A value is read in any case.
type enumeration interface{ values() []string }

// scalar is a kind of a concrete type.
func scalar[T any](name, what, expect string, parse func(string) (T, error), format func(T) string) *kind {
	return &kind{name: name, what: what, expect: expect,
		parse:  func(text string) (any, error) { return parse(text) },
		format: func(v any) string { return format(v.(T)) },
	}
}

// family narrows parseAddr to IPv4 or IPv6.
func family(is func(netip.Addr) bool) func(string) (netip.Addr, error) {
	return func(text string) (netip.Addr, error) {
		a, err := parseAddr(text)
		if err != nil || !is(a) {
			return netip.Addr{}, errWrong
		}
		return a, nil
	}
}

// parseHostPrefix reads a network, or an address as a network of one.
func parseHostPrefix(text string) (netip.Prefix, error) {
	if a, err := parseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return parsePrefix(text)
}

func parseMAC(text string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(text)
	return mac, wrong(err != nil)
}

// parseSwitch reads what any reader of YAML takes for a truth value, because tools rewrite on as true.
func parseSwitch(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "on", "yes", "true", "y":
		return true, nil
	case "off", "no", "false", "n":
		return false, nil
	}
	return false, errWrong
}

func formatSwitch(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func formatSeconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

func formatFloat(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// kindOf is the kind of a scalar type under a field's tag; nil when t is no scalar.
func kindOf(t reflect.Type, tag reflect.StructTag) *kind {
	k := baseKind(t, tag)
	if k == nil {
		return nil
	}
	if s, ok := tag.Lookup("min"); ok {
		k.low = s
	}
	if s, ok := tag.Lookup("max"); ok {
		k.high = s
	}
	if k.low != "" || k.high != "" {
		k.parse = bounded(k)
	}
	return k
}

func baseKind(t reflect.Type, tag reflect.StructTag) *kind {
	unit := tag.Get("unit")
	switch t {
	case reflect.TypeFor[netip.Addr]():
		switch unit {
		case "ipv4":
			return scalar("IPv4 address", "an IPv4 address", "", family(netip.Addr.Is4), netip.Addr.String)
		case "ipv6":
			return scalar("IPv6 address", "an IPv6 address", "", family(netip.Addr.Is6), netip.Addr.String)
		}
		return scalar("address", "an IP address", "", parseAddr, netip.Addr.String)
	case reflect.TypeFor[netip.Prefix]():
		if unit == "host" {
			return scalar("address or network", "an address or a network", "", parseHostPrefix, netip.Prefix.String)
		}
		return scalar("network", "a network", "an address and a length", parsePrefix, netip.Prefix.String)
	case reflect.TypeFor[netip.AddrPort]():
		return scalar("address, port", "an address, or an address with a port", "", parseAddrPort, formatAddrPort)
	case reflect.TypeFor[net.HardwareAddr]():
		return scalar("MAC address", "a MAC address", "", parseMAC, net.HardwareAddr.String)
	case reflect.TypeFor[time.Duration]():
		if unit == "seconds" {
			k := scalar("seconds", "a duration in seconds", "a number of seconds", parseSeconds, formatSeconds)
			k.unit = unit
			return k
		}
		return scalar("duration", "a duration", "a number with a unit", parseDuration, formatDuration)
	case reflect.TypeFor[time.Time]():
		return scalar("day or instant", "a day or an instant of RFC 3339", "", parseDay,
			func(t time.Time) string { return t.Format(time.RFC3339) })
	case reflect.TypeFor[Size]():
		k := scalar("size", "a size", "a number with a unit", parseSize, Size.String)
		k.unit = "bytes"
		return k
	case reflect.TypeFor[Percent]():
		return scalar("percentage", "a percentage", "", parsePercent, Percent.String)
	case reflect.TypeFor[Port]():
		return scalar("port/protocol", "a port with a protocol", "", parsePort, Port.String)
	case reflect.TypeFor[Units]():
		return scalar("height units", "a height unit or a range of them", "", parseUnits, Units.String)
	case reflect.TypeFor[MX]():
		return scalar("preference, name", "a preference and a name", "", parseMX, MX.String)
	case reflect.TypeFor[SRV]():
		return scalar("priority, weight, port, name", "priority, weight, port and name", "these", parseSRV, SRV.String)
	case reflect.TypeFor[CAA]():
		return scalar("flags, tag, value", "flags, tag and value", "these", parseCAA, CAA.String)
	}
	switch t.Kind() {
	case reflect.Bool:
		k := scalar("on or off", "a switch", "", parseSwitch, formatSwitch)
		k.values = []string{"on", "off"}
		return k
	case reflect.Int:
		return scalar("number", "a whole number", "", func(text string) (int, error) {
			n, err := parseInteger(text)
			return int(n), err
		}, strconv.Itoa)
	case reflect.Uint16:
		k := scalar("number", "a whole number", "", func(text string) (uint16, error) {
			n, err := parseInteger(text)
			if err == nil && (n < 0 || n > math.MaxUint16) {
				err = errRange
			}
			return uint16(n), err
		}, func(n uint16) string { return strconv.Itoa(int(n)) })
		k.low, k.high = "0", "65535"
		return k
	case reflect.Float64:
		return scalar("number", "a number", "", parseNumber, formatFloat)
	case reflect.String:
		if e, ok := reflect.Zero(t).Interface().(enumeration); ok {
			return enumKind(t, e.values())
		}
		return textKind(tag.Get("format"))
	}
	return nil
}

// errRange means that a value of the kind is too small or too large.
var errRange = errors.New("out of range")

// bounded is k's parse with its bounds, which are written as values are.
func bounded(k *kind) func(string) (any, error) {
	parse := k.parse
	magnitude := func(text string, none float64) float64 {
		if text == "" {
			return none
		}
		v, err := parse(text)
		if err != nil {
			panic(fmt.Sprintf("section: bound %q is no %s", text, k.name))
		}
		return toFloat(v)
	}
	low, high := magnitude(k.low, math.Inf(-1)), magnitude(k.high, math.Inf(1))
	return func(text string) (any, error) {
		v, err := parse(text)
		if errors.Is(err, errRange) || err == nil && (toFloat(v) < low || toFloat(v) > high) {
			return v, errors.New("is out of range; expected " + strings.TrimPrefix(strings.TrimPrefix(k.between(), "from "), "of "))
		}
		return v, err
	}
}

func toFloat(v any) float64 {
	r := reflect.ValueOf(v)
	switch {
	case r.CanInt():
		return float64(r.Int())
	case r.CanUint():
		return float64(r.Uint())
	}
	return r.Float()
}

func enumKind(t reflect.Type, values []string) *kind {
	return &kind{name: "one of " + strings.Join(values, ", "), values: values,
		parse: func(text string) (any, error) {
			for _, v := range values {
				if strings.EqualFold(v, text) {
					return reflect.ValueOf(v).Convert(t).Interface(), nil
				}
			}
			return nil, errWrong
		},
		format: func(v any) string { return reflect.ValueOf(v).String() },
	}
}

func textKind(name string) *kind {
	r, ok := rules[name]
	if !ok {
		panic("section: no rule " + name)
	}
	return &kind{name: r.name, what: r.what,
		parse:  func(text string) (any, error) { return text, r.check(text) },
		format: func(v any) string { return reflect.ValueOf(v).String() },
	}
}
