package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

// hostdbName is what the program is linked as to be Flipkart's command line.
const hostdbName = "hostdb"

// asCalled makes of the arguments of a process those of hostmesh: linked as hostdb, it is its command of that name.
func asCalled(args []string) []string {
	if filepath.Base(args[0]) == hostdbName {
		return append([]string{hostdbName}, args[1:]...)
	}
	return args[1:]
}

// hostdbVerb is one thing that the hostdb command does.
type hostdbVerb struct {
	name, usage, about string
	options            string // those it takes, by their long names
	examples           []string
	writes             bool
	run                func(h *hostdbRun, ctx context.Context, id string) error
}

func hostdbVerbs() []hostdbVerb {
	return []hostdbVerb{
		{name: "get", usage: "[-r REVISION] [-o] ID", about: "print what an ID names", options: "rev original",
			examples: []string{"get hosts/web1.example.com", "get hosts/web1.example.com/Network/IP", "get tags/web/members", "get -o tags/web/members"},
			run:      (*hostdbRun).get},
		{name: "multi_get", usage: "--foreach LIST [-r REVISION] ID", about: "print an ID for each entry of a list", options: "foreach rev",
			examples: []string{"multi_get --foreach hosts hosts/x/Network/IP", "multi_get --foreach tags/web/members hosts/x"},
			run:      (*hostdbRun).multiGet},
		{name: "revisions", usage: "[-l COUNT] ID", about: "print who changed it, when and why", options: "limit",
			examples: []string{"revisions -l 10 hosts/web1.example.com"},
			run:      (*hostdbRun).revisions},
		{name: "parents", usage: "[-n NAMESPACE] HOST", about: "print the keys whose members have the host", options: "namespace",
			examples: []string{"parents web1.example.com"},
			run:      (*hostdbRun).parents},
		{name: "derived", usage: "[-n NAMESPACE] HOST", about: "print those keys with their data", options: "namespace",
			examples: []string{"derived -n tags web1.example.com"},
			run:      (*hostdbRun).derived},
		{name: "add", usage: "[-f FILE] ID", about: "add an object, or a member of a list", options: "file log yes", writes: true,
			examples: []string{"add hosts/web9.example.com", `add -m "one more" tags/web/members/web9.example.com`, `add -m "inherits" tags/web/members/@web-new`},
			run:      (*hostdbRun).add},
		{name: "edit", usage: "[-f FILE] ID", about: "change it in your editor, or to what a file says", options: "file log yes", writes: true,
			examples: []string{"edit hosts/web1.example.com", "edit tags/web/members", `edit -f web1.yaml -m "new address" hosts/web1.example.com`},
			run:      (*hostdbRun).edit},
		{name: "rename", usage: "-n NEWNAME ID", about: "give it another name, in member lists too", options: "name log yes", writes: true,
			examples: []string{"rename -n web10.example.com hosts/web9.example.com"},
			run:      (*hostdbRun).rename},
		{name: "delete", usage: "ID", about: "delete it, from member lists too", options: "log yes", writes: true,
			examples: []string{`delete -m "sold" hosts/web9.example.com`, `delete -y -m "moved" tags/web/members/web9.example.com`},
			run:      (*hostdbRun).delete},
		{name: "rollback", usage: "-r REVISION ID", about: "make it what it was", options: "rev log yes", writes: true,
			examples: []string{`rollback -r 01a204b44a570000.58006e2e6852b54e -m "it was right" hosts/web1.example.com`},
			run:      (*hostdbRun).rollback},
	}
}

func (a *app) hostdbCommand() *cobra.Command {
	return &cobra.Command{
		Use:   hostdbName + " COMMAND [OPTIONS] ID",
		Short: "The command line of Flipkart's HostDB",
		Long: `Linked as "hostdb", this program is the command line of Flipkart's HostDB: the
same commands, options and answers, for the scripts and the fingers that know
it. "hostmesh hostdb" is the same.

` + hostdbHelp(nil) + `
The server is the hostdb_rw of ` + hostdbConfigFile + ` (HOSTDB_CONFIG
or --config names another file), over https; reads ask hostdb_ro if that is
there. hostdb_ca, or --ca, is a file with the authority to trust; without, the
system's are. If there is no such file the agent of this box is asked, through
its socket; HOSTMESH_SOCKET goes before the default file.

The session is kept in ~/.hostdb_session, mode 0600.`,
		Example: `  hostmesh hostdb get hosts/web1.dc1.example.com
  ln -s hostmesh /usr/local/bin/hostdb`,
		DisableFlagParsing: true,
		RunE: a.do(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			if err := a.hostdb(ctx, cmd, args); err != nil {
				if !errors.Is(err, errSilent) {
					fmt.Fprintf(a.stderr, "hostdb: %v\n", err)
				}
				return errSilent
			}
			return nil
		}),
	}
}

// hostdbRun is one call of the hostdb command.
type hostdbRun struct {
	*app
	hostdbOptions
	reads, writes *api.Client // the same where one server is for both
	session       sessionFile // "" where nobody logs in
	withToken     func(token string) (*api.Client, error)
	ask           *prompter
}

func (a *app) hostdb(ctx context.Context, cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(a.stderr, hostdbHelp(nil))
		return errors.New("a command is missing")
	}
	name, rest := args[0], args[1:]
	if name == "--help" || name == "-h" || name == "help" {
		if len(rest) > 0 {
			name, rest = rest[0], []string{"--help"}
		} else {
			_, err := fmt.Fprintf(a.stdout, "%s\n\nOptions of all commands:\n%s\nMore: hostdb help COMMAND\n", cmd.Long, optionHelp(hostdbCommon))
			return err
		}
	}
	var verb *hostdbVerb
	for _, v := range hostdbVerbs() {
		if v.name == name {
			verb = &v
		}
	}
	if verb == nil {
		fmt.Fprint(a.stderr, hostdbHelp(nil))
		return fmt.Errorf("there is no command %q", name)
	}
	h := &hostdbRun{app: a, ask: a.prompter()}
	ids, err := h.parse(append(strings.Fields(verb.options), hostdbCommon...), rest)
	switch {
	case err != nil:
	case h.help:
		fmt.Fprint(a.stdout, hostdbHelp(verb))
		return nil
	case len(ids) == 0:
		err = errors.New("the ID is missing")
	case len(ids) > 1:
		err = fmt.Errorf("one ID is expected, and %q follows it", ids[1])
	default:
		err = h.complete(verb)
	}
	if err == nil {
		err = checkID(ids[0])
	}
	if err != nil {
		fmt.Fprintf(a.stderr, "Usage: hostdb %s %s\nSee: hostdb %s --help\n", verb.name, verb.usage, verb.name)
		return err
	}
	if err := h.connect(); err != nil {
		return err
	}
	defer h.close()
	return verb.run(h, ctx, ids[0])
}

// complete refuses what a command cannot do without.
func (h *hostdbRun) complete(verb *hostdbVerb) error {
	switch {
	case verb.name == "multi_get" && h.foreach == "":
		return errors.New("the list is missing: name it with --foreach")
	case verb.name == "rename" && h.name == "":
		return errors.New("the new name is missing: say it with -n")
	case verb.name == "rollback" && h.rev == "":
		return errors.New("the revision is missing: name it with -r; hostdb revisions ID lists them")
	}
	return nil
}

// checkID refuses an id with nothing between two slashes: an empty variable of a script must not reach something else.
func checkID(id string) error {
	if strings.Contains(strings.Trim(id, "/"), "//") {
		return fmt.Errorf("the ID %s has an empty part: two slashes follow each other", id)
	}
	return nil
}

// hostdbHelp is the manual of one command, or of all.
func hostdbHelp(only *hostdbVerb) string {
	var b strings.Builder
	b.WriteString("Usage:\n")
	if only != nil {
		fmt.Fprintf(&b, "  hostdb %s %s\n      %s\n", only.name, only.usage, only.about)
		b.WriteString("\nOptions:\n")
		b.WriteString(optionHelp(append(strings.Fields(only.options), hostdbCommon...)))
		b.WriteString("\nExamples:\n")
		for _, e := range only.examples {
			fmt.Fprintf(&b, "  hostdb %s\n", e)
		}
		return b.String()
	}
	for _, v := range hostdbVerbs() {
		fmt.Fprintf(&b, "  hostdb %-11s%s\n      %s\n", v.name, v.usage, v.about)
	}
	b.WriteString("\nWhat writes takes -m MESSAGE, else asks for it; -y answers its questions.\n")
	return b.String()
}
