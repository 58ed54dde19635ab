package main

import (
	"fmt"
	"strconv"
	"strings"
)

// hostdbOptions are the options of the hostdb command. Which of them a command takes is in its hostdbVerb.
type hostdbOptions struct {
	rev, log, file, name, foreach string
	namespace                     string // "" = tags
	config, ca                    string
	limit                         int
	raw, sure, help               bool
}

// hostdbOption is an option: a text, a number or, with none of them, a switch.
type hostdbOption struct {
	long, short  string
	value, about string
	text         func(*hostdbOptions) *string
	number       func(*hostdbOptions) *int
	flag         func(*hostdbOptions) *bool
}

func allHostdbOptions() []hostdbOption {
	return []hostdbOption{
		{long: "rev", short: "r", value: "REVISION", about: "as it was then: the first word of a line of hostdb revisions", text: func(o *hostdbOptions) *string { return &o.rev }},
		{long: "original", short: "o", about: "a member list as it was written", flag: func(o *hostdbOptions) *bool { return &o.raw }},
		{long: "foreach", value: "LIST", about: "an ID that names a list of keys", text: func(o *hostdbOptions) *string { return &o.foreach }},
		{long: "limit", short: "l", value: "COUNT", about: "at most so many", number: func(o *hostdbOptions) *int { return &o.limit }},
		{long: "namespace", short: "n", value: "NAMESPACE", about: "whose keys are asked; without, tags", text: func(o *hostdbOptions) *string { return &o.namespace }},
		{long: "name", short: "n", value: "NEWNAME", about: "the new name, without what stands before it", text: func(o *hostdbOptions) *string { return &o.name }},
		{long: "file", short: "f", value: "FILE", about: "take the text from a file", text: func(o *hostdbOptions) *string { return &o.file }},
		{long: "log", short: "m", value: "MESSAGE", about: "why, for the history; without, it is asked for", text: func(o *hostdbOptions) *string { return &o.log }},
		{long: "yes", short: "y", about: "do not ask", flag: func(o *hostdbOptions) *bool { return &o.sure }},
		{long: "config", value: "FILE", about: "instead of " + hostdbConfigFile, text: func(o *hostdbOptions) *string { return &o.config }},
		{long: "ca", value: "FILE", about: "the authority that vouches for the server", text: func(o *hostdbOptions) *string { return &o.ca }},
		{long: "help", short: "h", about: "this page", flag: func(o *hostdbOptions) *bool { return &o.help }},
	}
}

// hostdbCommon are the options that every command takes.
var hostdbCommon = []string{"config", "ca", "help"}

// hostdbOptionsOf are those with these long names.
func hostdbOptionsOf(names []string) []hostdbOption {
	var out []hostdbOption
	for _, name := range names {
		for _, o := range allHostdbOptions() {
			if o.long == name {
				out = append(out, o)
			}
		}
	}
	return out
}

// parse reads options as Perl's Getopt::Long does, which scripts rely on: anywhere among the arguments, with one dash or
// two, in any case, cut short where that is clear, the value after "=" or as the next argument. "--" ends them.
func (o *hostdbOptions) parse(names, args []string) (rest []string, err error) {
	known := hostdbOptionsOf(names)
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return append(rest, args[i+1:]...), nil
		case arg == "-" || !strings.HasPrefix(arg, "-"):
			rest = append(rest, arg)
			continue
		}
		name, value, given := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		opt, err := findOption(known, name)
		if err != nil {
			return nil, err
		}
		if opt.flag != nil {
			if given {
				return nil, fmt.Errorf("--%s takes no value", opt.long)
			}
			*opt.flag(o) = true
			continue
		}
		if !given {
			if i++; i == len(args) {
				return nil, fmt.Errorf("--%s needs a value: %s", opt.long, opt.value)
			}
			value = args[i]
		}
		if opt.text != nil {
			*opt.text(o) = value
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("--%s %s: expected a number above 0", opt.long, value)
		}
		*opt.number(o) = n
	}
	return rest, nil
}

func findOption(known []hostdbOption, name string) (hostdbOption, error) {
	name = strings.ToLower(name)
	var found []hostdbOption
	for _, o := range known {
		if name == o.long || name == o.short && name != "" {
			return o, nil
		}
		if name != "" && strings.HasPrefix(o.long, name) {
			found = append(found, o)
		}
	}
	switch len(found) {
	case 0:
		return hostdbOption{}, fmt.Errorf("there is no option %q here", name)
	case 1:
		return found[0], nil
	}
	var names []string
	for _, o := range found {
		names = append(names, "--"+o.long)
	}
	return hostdbOption{}, fmt.Errorf("the option %q is not clear: %s", name, strings.Join(names, " or "))
}

func optionHelp(names []string) string {
	var b strings.Builder
	for _, o := range hostdbOptionsOf(names) {
		text := "    --" + o.long
		if o.short != "" {
			text = "-" + o.short + ", --" + o.long
		}
		fmt.Fprintf(&b, "  %-26s %s\n", strings.TrimRight(text+" "+o.value, " "), o.about)
	}
	return b.String()
}
