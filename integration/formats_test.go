package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// formats are all forms that outlive a process or leave it, with their versions. A build reads its own and the one before
// (N-1), refuses a newer one on disk with the remedy, and passes on a newer operation unread.
//
// Whoever changes one: let the new build read the old form, let TestUpgrade prove it, and say in CHANGELOG.md what going
// back takes. Then put the new version here.
var formats = map[string]string{
	// On disk.
	"node.dataFormat":         "1", // layout of the data directory
	"hostdb.storageFormat":    "3", // rows of the replica; 2 has the t rows, 3 joins and logs that begin late
	"badgerdb.formatVersion":  "1", // how Badger is used
	"mesh.peerListVersion":    "1", // peers.json
	"dnsd.serialFileVersion":  "1", // dns-serials.json
	"vip.fileVersion":         "1", // vips.json
	"lbd.planFileVersion":     "1", // balancing.json: the last plan of load balancing
	"local.stateFormat":       "1", // mysql/<tag>.json: what a host has promised about its database server
	"auth.recordVersion":      "1", // a user in HostDB
	"transfer.keyVersion":     "1", // a TSIG key in HostDB
	"auth.sealVersion":        `"1."`,
	"hostdb.OperationVersion": "1", // an operation, on disk and on the wire; hostdb/format_test.go has its bytes
	"backup.Format":           "1", // the file of a backup
	"vmd.MetadataVersion":     "1", // in the XML of a domain
	// Of raft's directory. It never leaves its machine, and going back means to discard it: the box rejoins with a new raft id.
	"raftdisk.fingerprintVersion": "1", // fingerprint.json
	"raftdisk.groupFileVersion":   "1", // group.json
	"raftdisk.segmentVersion":     "1", // segments of the log, header and records
	"raftdisk.snapshotVersion":    "1", // the head of a snapshot; its state is the state machine's
	"raftdisk.voteVersion":        "1", // term and vote
	"mysqlha.RecordFormat":        "1", // the record of a database cluster, in the lease log; who meets a later one does nothing
	"lease.formatVersion":         "1", // entries and snapshots of the lease log, owned.json; a voter that meets a later one stops voting
	// On the wire.
	"mesh.ProtocolMin":       "1", // gossip metadata and frames of the peer streams
	"mesh.ProtocolMax":       "1",
	"hostdb.cursorPlain":     "1", // of a watch
	"hostdb.cursorRetired":   "2", // of a watch in a mesh that retired runs; v0.1.0 does not read it
	"hostdb.headsVersion":    "1", // of replicas that are compared
	"hostdb.DigestAlgorithm": "1", // digests of two algorithms are not compared
	"mesh.callReports":       `"report.sync.1"`,
	"dnsd.exchangeVersion":   "1", // zone serials
	"dnsd.callSerials":       `"dns.serials"`,
	"transfer.callTells":     `"dns.tells.1"`,
	"lease.callAsk":          `"lease.ask.1"`,
	"lease.callName":         `"lease.raft.1"`,
	"lease.callWhere":        `"lease.where.1"`,
	"lease.callServe":        `"lease.serve.1"`,
	"lease.callConfirm":      `"lease.confirm.1"`,
	"lease.callPoke":         `"lease.poke.1"`,
	"replica.pushName":       `"hostdb.push.1"`,
	"replica.pullName":       `"hostdb.pull.1"`,
	"replica.stateName":      `"hostdb.state.1"`,
	"replica.historyName":    `"hostdb.history.1"`,
	"replica.baseName":       `"hostdb.base.1"`, // what history behind a horizon is built on
	"node.callLB":            `"lb.state.1"`,
	"node.callMySQL":         `"mysql.desk.1"`,  // what is asked of who watches over a database cluster
	"node.callFence":         `"mysql.fence.1"`, // the power of a machine whose database is replaced
	"local.CallLocal":        `"mysql.local.1"`, // orders for a database server
	"local.CallClone":        `"mysql.clone.1"`, // a copy of one, in pieces
	// Of virtual machines.
	"vmd.ledgerFormat": "1", // files of the directory vms: what a box promised
	"vmd.recordFormat": "1", // records of machines and of destroys in the lease log
	"vmd.CallReserve":  `"vm.reserve.1"`,
	"vmd.CallReboot":   `"vm.reboot.1"`,
	"vmd.CallConsole":  `"vm.console.1"`,
	"vmd.CallPurge":    `"vm.purge.1"`,
	"vmd.CallRetry":    `"vm.retry.1"`,
}

// formatName is how constants are called that hold a version; wireName is the name of a call between agents.
var (
	formatName = regexp.MustCompile(`(Format|Version|Algorithm|ProtocolMin|ProtocolMax)$|^cursor[A-Z]`)
	wireName   = regexp.MustCompile(`^"([a-z]+\.[a-z]+\.[0-9]+|dns\.serials)"$`)
)

// TestFormatsAreListed: every version of a form stands in the list above.
func TestFormatsAreListed(t *testing.T) {
	found := map[string]string{}
	for _, dir := range []string{"../hostdb", "../mesh", "../dnsd", "../lbd", "../vmd", "../node"} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for name, value := range constants(file) {
				if formatName.MatchString(name) || wireName.MatchString(value) {
					found[file.Name.Name+"."+name] = value
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	delete(found, "api.HeaderVersion") // the name of a header
	all := maps.Clone(found)
	maps.Copy(all, formats)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		is, ok := found[name]
		listed, known := formats[name]
		switch {
		case !known:
			t.Errorf("%s = %s is the version of a form that the list does not have: add it, and say what it is of", name, is)
		case !ok:
			t.Errorf("%s is gone: take it out of the list, and make sure that what was written with it can be read", name)
		case is != listed:
			t.Errorf("%s is %s, the list has %s: read the list's comment before you change that", name, is, listed)
		}
	}
}

// constants are the constants of a file that are written as a literal.
func constants(file *ast.File) map[string]string {
	out := map[string]string{}
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			values := spec.(*ast.ValueSpec)
			for i, name := range values.Names {
				if i < len(values.Values) {
					if literal, ok := values.Values[i].(*ast.BasicLit); ok {
						out[name.Name] = literal.Value
					}
				}
			}
		}
	}
	return out
}
