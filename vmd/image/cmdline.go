package image

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Values are what a template of a kernel's command line can name. A zero value stands for nothing: it becomes an empty
// text, as the kernel's ip= takes it.
type Values struct {
	Addr     netip.Prefix // {ip}, {netmask} and {prefix}
	Gateway  netip.Addr   // {gateway}
	Hostname string       // {hostname}
	MAC      net.HardwareAddr
	UUID     string
}

// placeholders are the names that a template can have in braces.
const placeholders = "{ip}, {gateway}, {netmask}, {prefix}, {hostname}, {mac} and {uuid}"

// CheckTemplate reports what is wrong with a template of a kernel's command line.
func CheckTemplate(template string) error {
	_, err := fill(template, func(string) (string, error) { return "", nil })
	return err
}

// Cmdline fills a template of a kernel's command line, such as
// "console=ttyS0 ip={ip}::{gateway}:{netmask}:{hostname}:eth0:off". A value that would be more than a part of one argument
// is refused: it could add arguments of its own.
func Cmdline(template string, v Values) (string, error) {
	out, err := fill(template, func(name string) (string, error) {
		text := v.text(name)
		for _, r := range text {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".:_-", r) {
				return "", fmt.Errorf("{%s}: %q has a %q; want letters, digits, dots, colons, dashes and underscores", name, clip(text), r)
			}
		}
		return text, nil
	})
	if err == nil && len(out) > MaxCmdline {
		err = fmt.Errorf("it is %d bytes long; a kernel takes %d", len(out), MaxCmdline)
	}
	if err != nil {
		return "", fmt.Errorf("command line of the kernel: %w", err)
	}
	return out, nil
}

// text is the value of a placeholder that exists.
func (v Values) text(name string) string {
	switch name {
	case "ip":
		if v.Addr.IsValid() {
			return v.Addr.Addr().String()
		}
	case "prefix":
		if v.Addr.IsValid() {
			return fmt.Sprint(v.Addr.Bits())
		}
	case "netmask":
		if v.Addr.IsValid() {
			return net.IP(net.CIDRMask(v.Addr.Bits(), v.Addr.Addr().BitLen())).String()
		}
	case "gateway":
		if v.Gateway.IsValid() {
			return v.Gateway.String()
		}
	case "hostname":
		return v.Hostname
	case "mac":
		return v.MAC.String()
	case "uuid":
		return v.UUID
	}
	return ""
}

func isPlaceholder(name string) bool {
	switch name {
	case "ip", "prefix", "netmask", "gateway", "hostname", "mac", "uuid":
		return true
	}
	return false
}

// fill replaces each {name} of a template by what value says.
func fill(template string, value func(name string) (string, error)) (string, error) {
	if len(template) > MaxCmdline {
		return "", fmt.Errorf("it is %d bytes long; a kernel takes %d", len(template), MaxCmdline)
	}
	for _, r := range template {
		if r < ' ' || r > '~' {
			return "", fmt.Errorf("it has a %q; want one line of printable ASCII", r)
		}
	}
	var out strings.Builder
	for rest := template; ; {
		before, after, found := strings.Cut(rest, "{")
		if strings.Contains(before, "}") {
			return "", errors.New("it has a } without a {")
		}
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, tail, closed := strings.Cut(after, "}")
		switch {
		case !closed:
			return "", errors.New("it has a { without a }")
		case !isPlaceholder(name):
			return "", fmt.Errorf("{%s} is not known; known are %s", clip(name), placeholders)
		}
		text, err := value(name)
		if err != nil {
			return "", err
		}
		out.WriteString(text)
		rest = tail
	}
}
