// Package integration tests what no single package can: that the house keeps its rules, and that agents as real
// processes do together what the design promises. The demo and the benchmarks live below it.
package integration

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rule says what one package may import of ours, and which libraries it must keep to itself. Standard library and
// small helpers are free.
type rule struct {
	may     []string // of our packages; a trailing /... includes what is below
	never   []string // libraries
	because string
}

// Libraries that only their owners may touch.
const (
	badger     = "github.com/dgraph-io/badger/v4"
	serf       = "github.com/hashicorp/serf/serf"
	memberlist = "github.com/hashicorp/memberlist"
	miekgdns   = "github.com/miekg/dns"
	cobra      = "github.com/spf13/cobra"
	libvirt    = "libvirt.org/go/libvirt"
	huma       = "github.com/danielgtaylor/huma/v2"
	exprlang   = "github.com/expr-lang/expr/vm" // with its parser
	goldap     = "github.com/go-ldap/ldap/v3"
	raft       = "github.com/hashicorp/raft"
	netlink    = "github.com/vishvananda/netlink"
	nftables   = "github.com/google/nftables"
	sqldriver  = "github.com/go-sql-driver/mysql"
)

// forAll may be imported by everybody: pure structs that several daemons share. (hostdb itself cannot, by cycle.)
var forAll = []string{"hostdb/section", "mesh/report"}

// rules is the table of packages in the design. Every package must be in it.
var rules = map[string]rule{
	"hostdb":                  {nil, []string{badger, serf, miekgdns, huma}, "it is the vocabulary: one can read the domain without knowing anything else of ours"},
	"hostdb/section":          {[]string{"hostdb"}, []string{badger, miekgdns}, "sections are pure structs; daemons read them, not they the daemons"},
	"hostdb/doctor":           {[]string{"hostdb"}, []string{badger, serf, miekgdns}, "what is wrong with HostDB is a pure function of a view, the same on every node; DNS's rules on names are restated"},
	"hostdb/badgerdb":         {[]string{"hostdb"}, nil, "a Storage knows bytes, not operations"},
	"hostdb/backup":           {[]string{"hostdb"}, []string{badger, serf, huma}, "a file of rows needs no database, and no network"},
	"hostdb/replica":          {[]string{"hostdb"}, []string{badger, serf, memberlist}, "replication must run over any Peers, so that it can be simulated"},
	"hostdb/rest":             {[]string{"hostdb", "hostdb/auth"}, []string{badger, serf}, "HTTP needs the store and who somebody is, never the mesh"},
	"hostdb/rest/resttest":    {nil, []string{badger, serf}, "the transcript sees /v1 as its clients do: over HTTP"},
	"hostdb/auth":             {[]string{"hostdb"}, []string{badger, serf}, "who somebody is does not depend on which box asks"},
	"hostdb/query":            {[]string{"hostdb"}, []string{badger, serf, huma}, "a question reads one view; who may ask it, and over what, is the business of others"},
	"hostdb/layout":           {[]string{"hostdb"}, []string{badger, serf}, "a directory is read and written without any network"},
	"hostdb/textdiff":         {nil, []string{badger, serf, huma}, "comparing two texts needs no database"},
	"hostdb/hostdbtest":       {[]string{"hostdb"}, []string{badger}, "the fake must not need the real one"},
	"mesh/report":             {nil, []string{badger, serf, memberlist, huma}, "what nodes observe are plain structs that every daemon may read"},
	"mesh":                    {[]string{"mesh/door"}, []string{badger, miekgdns}, "the mesh carries bytes; it must not know what HostDB is"},
	"mesh/door":               {nil, []string{badger, serf, memberlist, miekgdns}, "who may hold how many connections does not depend on what they speak"},
	"mesh/lease":              {[]string{"mesh", "mesh/lease/raftdisk"}, []string{badger, miekgdns}, "who may act must not depend on what HostDB says: it is what decides who may write there"},
	"mesh/lease/leasetest":    {nil, []string{badger, serf, memberlist, raft}, "the contract of a lease must not know how it is kept"},
	"mesh/lease/raftdisk":     {nil, []string{badger, serf, memberlist, miekgdns, huma}, "what a vote rests on is one directory and raft's interfaces: no network, no database, nothing of ours that could change beneath it"},
	"mesh/meshtest":           {[]string{"mesh"}, nil, "a network for tests of whoever uses the mesh"},
	"dnsd":                    {[]string{"dnsd/zone", "hostdb", "mesh", "mesh/door"}, []string{badger, serf}, "answers come from one atomic pointer; HostDB is reached through its View only"},
	"dnsd/transfer":           {[]string{"dnsd/zone", "hostdb", "mesh"}, []string{badger, serf}, "what may be copied follows from zones and their tags; sockets are dnsd's, and who seals keys is node's"},
	"dnsd/zonefile":           {[]string{"hostdb"}, []string{badger, serf}, "what a file becomes is a pure function of it and of a view; zones are made of the result as of any other tag"},
	"dnsd/zone":               {[]string{"hostdb", "hostdb/section", "mesh"}, []string{badger, serf}, "zones are a pure function of two views"},
	"lbd/check":               {nil, []string{badger, serf, memberlist, miekgdns, raft, huma, netlink, nftables}, "whether a member answers does not depend on why it is asked; what two have seen is judged where reports are"},
	"lbd/nft":                 {nil, []string{badger, serf, memberlist, miekgdns, raft, huma}, "the kernel is told a table; who is in it, and whether this box may hold the address, is settled before"},
	"lbd":                     {[]string{"lbd/...", "hostdb", "mesh", "mesh/lease"}, []string{badger, serf, memberlist, miekgdns, raft, huma, netlink}, "it joins what has no part of the others: a plan, an address, the kernel's rules, a proxy, checks"},
	"lbd/plan":                {[]string{"hostdb", "mesh"}, []string{badger, serf, miekgdns}, "what is balanced, and onto what, is a pure function of two views and of what was planned before"},
	"lbd/haproxy":             {[]string{"lbd/plan"}, []string{badger, serf, memberlist, miekgdns}, "what HAProxy is told follows from a plan; who holds an address, and what HostDB says, is settled before"},
	"lbd/mysqlha":             {[]string{"hostdb", "mesh", "mesh/lease", "lbd/vip"}, []string{badger, serf, memberlist, miekgdns, raft, huma, netlink, nftables}, "who is the primary is decided from what servers say, by interfaces; how they are spoken to is below"},
	"lbd/mysqlha/credentials": {nil, []string{badger, serf, memberlist, raft, huma}, "what a file on the box says depends on nothing else"},
	"lbd/mysqlha/mariadb":     {[]string{"lbd/mysqlha", "lbd/mysqlha/credentials"}, []string{badger, serf, memberlist, raft, huma, netlink, nftables}, "how a server is spoken to does not depend on what is decided about it"},
	"lbd/mysqlha/mariadbtest": {[]string{"lbd/mysqlha/credentials", "lbd/mysqlha/mariadb"}, []string{badger, serf, memberlist, raft, huma}, "a server for tests is told what accounts it has, and nothing of who leads"},
	"lbd/mysqlha/servertest":  {[]string{"lbd/mysqlha"}, []string{badger, serf, memberlist, raft, huma, sqldriver}, "the contract of a Server must not know how it is kept"},
	"lbd/vip":                 {nil, []string{badger, serf, memberlist, miekgdns, raft, huma}, "whether an address may be here a lease says, by an interface: neither HostDB nor how leases are kept can make it wrong"},
	"lbd/vip/viptest":         {[]string{"lbd/vip"}, []string{badger, serf, memberlist, netlink}, "the fake must not need the real one"},
	"vmd":                     {[]string{"vmd/...", "hostdb", "mesh", "mesh/lease"}, []string{badger, serf, miekgdns, libvirt}, "it makes machines by interfaces: a hypervisor, a lease, two views"},
	"vmd/image":               {[]string{"hostdb"}, []string{badger, serf, memberlist, libvirt}, "the catalogue is intent, so it reads documents of HostDB; nodes are behind an interface, and hypervisors do not matter to files"},
	"vmd/plan":                {[]string{"hostdb", "mesh"}, []string{badger, serf, libvirt}, "where a machine goes is a pure function of two views"},
	"vmd/vmdtest":             {[]string{"vmd", "vmd/plan"}, []string{badger, serf, miekgdns, libvirt}, "the fake must not need the real one"},
	"vmd/libvirt":             {[]string{"vmd", "vmd/plan"}, []string{badger, serf}, "libvirt stays behind one door"},
	"node/api":                {[]string{"hostdb", "hostdb/auth", "hostdb/layout", "hostdb/query", "mesh"}, []string{badger, serf, cobra, miekgdns}, "wire types and handlers know one small interface an area, not the daemons behind it"},
	"node":                    {[]string{"hostdb/...", "mesh/...", "dnsd/...", "lbd/...", "vmd/...", "node/api"}, []string{cobra}, "node wires everything and is wired by cmd alone"},
	"cmd/hostmesh":            {[]string{"node", "node/api", "hostdb/...", "mesh", "vmd/libvirt"}, []string{badger, serf, memberlist, miekgdns}, "commands parse flags and print; what they do is in the packages"},
	"integration":             {[]string{"..."}, nil, "it may look at everything, and nothing may look at it"},
	"integration/demo":        {[]string{"..."}, nil, "as integration"},
	"integration/bench":       {[]string{"..."}, nil, "as integration"},
	"integration/guest":       {nil, []string{badger, serf, memberlist, libvirt}, "a machine does not know who runs it"},
	"integration/libvirtd":    {nil, []string{badger, serf, memberlist, libvirt}, "it is a program; who speaks to it brings what he speaks with"},
	"integration/powercut":    {nil, []string{badger, serf, memberlist}, "what runs in the virtual machine sees the agent as its clients do"},
	"integration/sim":         {[]string{"hostdb", "hostdb/hostdbtest", "hostdb/replica"}, []string{badger, serf, memberlist}, "it shows that the rules of replication need no real wire, disk or clock"},
	"integration/soak":        {[]string{"..."}, nil, "as integration"},

	"lbd/mysqlha/local":     {[]string{"lbd/mysqlha", "lbd/mysqlha/credentials", "lbd/nft", "lbd/vip"}, []string{badger, serf, memberlist, miekgdns, raft, huma, netlink, nftables}, "it carries orders out on one host: neither HostDB nor the mesh, which is an interface, can make it do more"},
	"lbd/mysqlha/localtest": {[]string{"lbd/mysqlha"}, []string{badger, serf, memberlist, miekgdns, raft, huma, netlink, nftables}, "the contract of a Local must not know how it is kept"},

	"integration/dutybox":   {[]string{"mesh", "mesh/lease", "mesh/lease/leasetest"}, []string{badger, serf, memberlist}, "a process that has nothing but its mesh and its leases shows that they need nothing else"},
	"integration/dutyproof": {[]string{"integration/dutybox", "integration/wires", "mesh", "mesh/lease", "mesh/lease/leasetest"}, []string{badger, serf, memberlist}, "it judges by what processes report, not by what is inside of them"},
	"integration/wires":     {nil, []string{badger, serf, memberlist, raft}, "boxes and links do not know what runs in them"},
}

// owners are the packages that may import a library which is a decision of its own.
var owners = map[string][]string{
	badger:     {"hostdb/badgerdb"},
	serf:       {"mesh"},
	memberlist: {"mesh", "mesh/meshtest"},
	miekgdns:   {"dnsd", "dnsd/transfer", "dnsd/zone", "dnsd/zonefile"},
	cobra:      {"cmd/hostmesh"},
	libvirt:    {"vmd/libvirt"},
	huma:       {"node/api"},
	exprlang:   {"hostdb/query"},
	goldap:     {"hostdb/auth"},
	raft:       {"mesh/lease", "mesh/lease/raftdisk"},
	netlink:    {"lbd/vip", "lbd/nft"}, // addresses; flows that are tracked
	nftables:   {"lbd/nft"},
	sqldriver:  {"lbd/mysqlha/mariadb", "lbd/mysqlha/mariadbtest"},
}

type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Doc          string
	Name         string
	Dir          string
	GoFiles      []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-tags", "libvirt_dlopen", "-json=ImportPath,Imports,TestImports,XTestImports,Doc,Name,Dir,GoFiles", "hostmesh/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []goPackage
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func ours(path string) (string, bool) { return strings.CutPrefix(path, "hostmesh/") }

func allowed(may []string, pkg string) bool {
	for _, m := range may {
		below, tree := strings.CutSuffix(m, "...")
		if m == pkg || tree && (strings.HasPrefix(pkg, below) || pkg == strings.TrimSuffix(below, "/")) {
			return true
		}
	}
	return false
}

func TestImportRules(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		name, _ := ours(p.ImportPath)
		r, known := rules[name]
		if !known {
			t.Errorf("%s stands in no rule: add it to the table with the reason for what it may import", name)
			continue
		}
		seen[name] = true
		for _, imp := range p.Imports {
			if of, is := ours(imp); is && !allowed(append(r.may, forAll...), of) {
				t.Errorf("%s imports %s, it may import %q: %s", name, of, r.may, r.because)
			}
			if slices.Contains(r.never, imp) {
				t.Errorf("%s imports %s: %s", name, imp, r.because)
			}
			if who, owned := owners[imp]; owned && !slices.Contains(who, name) && !strings.HasPrefix(name, "integration") {
				t.Errorf("%s imports %s, which is behind %q: a library that is a decision has one owner", name, imp, who)
			}
			if of, is := ours(imp); is && (strings.HasPrefix(of, "integration") || strings.HasSuffix(of, "test")) && !strings.HasPrefix(name, "integration") && !strings.HasSuffix(name, "test") {
				t.Errorf("%s imports %s: only tests import test helpers", name, of)
			}
		}
	}
	for name := range rules {
		if !seen[name] {
			t.Errorf("the table speaks of %s, which does not exist: take it out", name)
		}
	}
}
