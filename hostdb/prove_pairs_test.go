package hostdb_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
)

// line is all that there is, in one line: hosts/web1 {"cpu":2}; tags/web null [web1] (perms), then what is listed as a conflict.
func line(t *testing.T, v hostdb.View) string {
	t.Helper()
	var parts []string
	for _, ns := range v.Namespaces() {
		for key := range v.Keys(ns) {
			if ns == hostdb.Tags && key == hostdb.AllTag {
				continue
			}
			data, err := json.Marshal(v.Data(ns, key))
			if err != nil {
				t.Fatal(err)
			}
			text := ns + "/" + key + " " + strings.ReplaceAll(string(data), `"`, "")
			if raw := v.RawMembers(ns, key); raw != "" {
				text += " [" + strings.ReplaceAll(raw, "\n", " ") + "]"
			}
			if acl, ok := v.Perms(ns, key); ok {
				text += " (" + strings.Join(strings.Fields(acl.YAML()), " ") + ")"
			}
			parts = append(parts, text)
		}
	}
	var listed []string
	for c := range v.AllConflicts() {
		listed = append(listed, strings.TrimSuffix(fmt.Sprintf("%s/%s %s/%s", c.NS, c.Key, c.What, c.At), "/"))
	}
	if len(listed) > 0 {
		parts = append(parts, "conflicts: "+strings.TrimSpace(strings.Join(listed, ", ")))
	}
	return strings.Join(parts, "; ")
}

// pair is two operations that do not know of each other.
type pair struct {
	name       string
	before     string // what both know: commands, separated by semicolons (see command)
	one, two   string
	oneIsLater string // what there is when one has the later stamp
	twoIsLater string // and when two has; "" for the same
}

// command makes one write from a line: put KEY YAML, set KEY/PATH YAML, unset KEY/PATH, delete KEY, rename KEY NAME,
// add KEY MEMBER, remove KEY MEMBER, list KEY MEMBER..., perms KEY YAML. A key is NS/NAME.
func command(t *testing.T, text string) func(*hostdb.Tx) error {
	t.Helper()
	verb, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	place, arg, _ := strings.Cut(rest, " ")
	steps := strings.Split(place, "/")
	if len(steps) == 1 {
		return func(tx *hostdb.Tx) error { return tx.CreateNamespace(place) }
	}
	ns, key := steps[0], steps[1]
	switch verb {
	case "put":
		return put(ns, key, parse(t, arg))
	case "set":
		return func(tx *hostdb.Tx) error { return tx.PutPath(ns, key, steps[2:], parse(t, arg)) }
	case "unset":
		return func(tx *hostdb.Tx) error { return tx.DeletePath(ns, key, steps[2:]) }
	case "delete":
		return remove(ns, key)
	case "rename":
		return rename(ns, key, arg)
	case "add":
		return func(tx *hostdb.Tx) error { return tx.AddMember(ns, key, arg) }
	case "remove":
		return func(tx *hostdb.Tx) error { return tx.RemoveMember(ns, key, arg) }
	case "list":
		var list []hostdb.Member
		for name := range strings.FieldsSeq(arg) {
			list = append(list, hostdb.Member{Name: name})
		}
		return func(tx *hostdb.Tx) error { return tx.SetMembers(ns, key, list) }
	case "perms":
		acl, err := hostdb.ParseACL([]byte(arg))
		if err != nil {
			t.Fatal(err)
		}
		return func(tx *hostdb.Tx) error { return tx.SetPerms(ns, key, acl) }
	}
	t.Fatalf("no command: %s", text)
	return nil
}

// run makes one operation of some commands; "undo" takes back the newest one, "drop NS" removes a namespace.
func (p pair) run(t *testing.T, b *box, text string) {
	t.Helper()
	if ns, is := strings.CutPrefix(text, "drop "); is {
		saw := hostdb.Stamp{Time: hostdb.TimeOf(b.clock.now) - 1, Origin: 1}
		raws := foreign(t, 7, hostdb.TimeOf(b.clock.now), nil, []hostdb.Effect{{Kind: hostdb.DeleteKey, NS: ns, Replaces: &saw}})
		if _, err := b.store.Apply(t.Context(), raws); err != nil {
			t.Fatal(err)
		}
		return
	}
	var fns []func(*hostdb.Tx) error
	if text == "undo" {
		list := revisionsOf(t, b)
		rev := list[len(list)-1]
		before, after := at(t, b, rev.ID.Before()), at(t, b, rev.ID)
		fns = append(fns, func(tx *hostdb.Tx) error { return tx.Undo(rev, before, after, false) })
	} else {
		for c := range strings.SplitSeq(text, ";") {
			fns = append(fns, command(t, c))
		}
	}
	_, err := b.store.Update(context.Background(), hostdb.Request{User: "test", Log: text}, func(tx *hostdb.Tx) error {
		for _, fn := range fns {
			if err := fn(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

var pairs = []pair{
	{name: "fields of one document", before: "put hosts/web1 {cpu: 2, disk: 5}",
		one: "set hosts/web1/cpu 4", two: "set hosts/web1/disk 9",
		oneIsLater: "hosts/web1 {cpu:4,disk:9}"},
	{name: "one field", before: "put hosts/web1 {cpu: 2}",
		one: "set hosts/web1/cpu 4", two: "set hosts/web1/cpu 8",
		oneIsLater: "hosts/web1 {cpu:4}; conflicts: hosts/web1 data/cpu",
		twoIsLater: "hosts/web1 {cpu:8}; conflicts: hosts/web1 data/cpu"},
	{name: "two whole documents that differ in other fields", before: "put hosts/web1 {cpu: 2, disk: 5, note: x}",
		one: "put hosts/web1 {cpu: 4, disk: 5, note: x}", two: "put hosts/web1 {cpu: 2, disk: 5}",
		oneIsLater: "hosts/web1 {cpu:4,disk:5}"},
	{name: "set and unset", before: "put hosts/web1 {cpu: 2, disk: 5}",
		one: "set hosts/web1/cpu 4", two: "unset hosts/web1/cpu",
		oneIsLater: "hosts/web1 {cpu:4,disk:5}; conflicts: hosts/web1 data/cpu",
		twoIsLater: "hosts/web1 {disk:5}; conflicts: hosts/web1 data/cpu"},
	{name: "scalar and mapping at one path", before: "put hosts/web1 {disk: 5}",
		one: "set hosts/web1/disk 6", two: "set hosts/web1/disk {size: 7}",
		oneIsLater: "hosts/web1 {disk:6}; conflicts: hosts/web1 data/disk, hosts/web1 data/disk/size",
		twoIsLater: "hosts/web1 {disk:{size:7}}; conflicts: hosts/web1 data/disk"},
	{name: "scalar over a mapping, and a field in it", before: "put hosts/web1 {disk: {size: 5}}",
		one: "set hosts/web1/disk none", two: "set hosts/web1/disk/kind raw",
		oneIsLater: "hosts/web1 {disk:none}; conflicts: hosts/web1 data/disk/kind",
		twoIsLater: "hosts/web1 {disk:{kind:raw}}; conflicts: hosts/web1 data/disk"},
	{name: "a list is one value", before: "put hosts/web1 {names: [a]}",
		one: "set hosts/web1/names [a, b]", two: "set hosts/web1/names [a, c]",
		oneIsLater: "hosts/web1 {names:[a,b]}; conflicts: hosts/web1 data/names",
		twoIsLater: "hosts/web1 {names:[a,c]}; conflicts: hosts/web1 data/names"},
	{name: "empty mapping and a field below it", before: "put hosts/web1 {disk: {size: 5}}",
		one: "set hosts/web1/disk {}", two: "set hosts/web1/disk/kind raw",
		oneIsLater: "hosts/web1 {disk:{kind:raw}}"},
	{name: "the last fields of a mapping go one by one", before: "put hosts/web1 {disk: {size: 5, kind: raw}}",
		one: "unset hosts/web1/disk/size", two: "unset hosts/web1/disk/kind",
		oneIsLater: "hosts/web1 null"},
	{name: "null document and a field", before: "put hosts/web1 {cpu: 2}",
		one: "put hosts/web1 null", two: "set hosts/web1/disk 5",
		oneIsLater: "hosts/web1 null; conflicts: hosts/web1 data/disk",
		twoIsLater: "hosts/web1 {disk:5}; conflicts: hosts/web1 data"},
	{name: "creations of one key", before: "put hosts/other null",
		one: "put hosts/web1 {cpu: 2, a: 1}", two: "put hosts/web1 {cpu: 4, b: 1}",
		oneIsLater: "hosts/other null; hosts/web1 {a:1,b:1,cpu:2}; conflicts: hosts/web1 data/cpu",
		twoIsLater: "hosts/other null; hosts/web1 {a:1,b:1,cpu:4}; conflicts: hosts/web1 data/cpu"},
	{name: "delete and edit", before: "put hosts/web1 {cpu: 2}",
		one: "delete hosts/web1", two: "set hosts/web1/cpu 4",
		oneIsLater: "conflicts: hosts/web1"},
	{name: "delete and an addition to its list", before: "put hosts/web1 null;put tags/web null",
		one: "delete tags/web", two: "add tags/web web1",
		oneIsLater: "hosts/web1 null; conflicts: tags/web"},
	{name: "delete and perms", before: "put hosts/web1 null",
		one: "delete hosts/web1", two: "perms hosts/web1 {ops: {data: RW}}",
		oneIsLater: "conflicts: hosts/web1"},
	{name: "delete and delete", before: "put hosts/web1 {cpu: 2};put tags/web null;add tags/web web1",
		one: "delete hosts/web1", two: "delete hosts/web1",
		oneIsLater: "tags/web null; conflicts: tags/web members/web1"},
	{name: "delete and what deletes and makes anew", before: "put hosts/web1 {cpu: 2}",
		one: "delete hosts/web1", two: "delete hosts/web1;put hosts/web1 {cpu: 8}",
		oneIsLater: "conflicts: hosts/web1",
		twoIsLater: "hosts/web1 {cpu:8}"},
	{name: "made anew twice", before: "put hosts/web1 {cpu: 2}|delete hosts/web1",
		one: "put hosts/web1 {a: 1}", two: "put hosts/web1 {b: 1}",
		oneIsLater: "hosts/web1 {a:1,b:1}"},
	{name: "delete of a host and its addition to a list", before: "put hosts/web1 null;put tags/web null",
		one: "delete hosts/web1", two: "add tags/web web1",
		oneIsLater: "tags/web null [web1]"}, // dangling: no answer has it, and doctor names it
	{name: "rename and edit", before: "put hosts/web1 {cpu: 2, disk: 5};put tags/web null;add tags/web web1",
		one: "rename hosts/web1 www1", two: "set hosts/web1/cpu 4",
		oneIsLater: "hosts/www1 {cpu:2,disk:5}; tags/web null [www1]; conflicts: hosts/web1"},
	{name: "rename and delete", before: "put hosts/web1 {cpu: 2};put tags/web null;add tags/web web1",
		one: "rename hosts/web1 www1", two: "delete hosts/web1",
		oneIsLater: "hosts/www1 {cpu:2}; tags/web null [www1]; conflicts: tags/web members/web1"},
	{name: "renames to two names", before: "put hosts/web1 {cpu: 2};put tags/web null;add tags/web web1",
		one: "rename hosts/web1 www1", two: "rename hosts/web1 srv1",
		oneIsLater: "hosts/srv1 {cpu:2}; hosts/www1 {cpu:2}; tags/web null [srv1 www1]; conflicts: tags/web members/web1"},
	{name: "renames of two to one name", before: "put hosts/web1 {cpu: 2, a: 1};put hosts/web2 {cpu: 4, b: 1};put tags/web null;list tags/web web1 web2",
		one: "rename hosts/web1 www", two: "rename hosts/web2 www",
		oneIsLater: "hosts/www {a:1,b:1,cpu:2}; tags/web null [www]; conflicts: hosts/www data/cpu, tags/web members/www",
		twoIsLater: "hosts/www {a:1,b:1,cpu:4}; tags/web null [www]; conflicts: hosts/www data/cpu, tags/web members/www"},
	{name: "rename and a creation under the new name", before: "put hosts/web1 {cpu: 2}",
		one: "rename hosts/web1 www1", two: "put hosts/www1 {cpu: 8, new: yes}",
		oneIsLater: "hosts/www1 {cpu:2,new:yes}; conflicts: hosts/www1 data/cpu",
		twoIsLater: "hosts/www1 {cpu:8,new:yes}; conflicts: hosts/www1 data/cpu"},
	{name: "rename and a new membership", before: "put hosts/web1 null;put tags/web null;put tags/db null;add tags/web web1",
		one: "rename hosts/web1 www1", two: "add tags/db web1",
		oneIsLater: "hosts/www1 null; tags/db null [web1]; tags/web null [www1]"}, // dangling, as above
	{name: "member added and removed", before: "put hosts/web1 null;put tags/web null;add tags/web web1",
		one: "remove tags/web web1;perms tags/web {a: {data: RO}}", two: "set tags/web/x 1;list tags/web web1",
		oneIsLater: "hosts/web1 null; tags/web {x:1} (a: data: RO)"}, // who puts a list as it is writes nothing of it
	{name: "member removed, and another moved before it", before: "put hosts/web1 null;put hosts/web2 null;put tags/web null;list tags/web web1 web2",
		one: "remove tags/web web1", two: "list tags/web web2 web1",
		oneIsLater: "hosts/web1 null; hosts/web2 null; tags/web null [web2]"},
	{name: "member removed, and moved to the end", before: "put hosts/web1 null;put hosts/a null;put hosts/b null;put tags/web null;list tags/web web1 a b",
		one: "remove tags/web web1", two: "list tags/web a b web1",
		oneIsLater: "hosts/a null; hosts/b null; hosts/web1 null; tags/web null [a b]; conflicts: tags/web members/web1",
		twoIsLater: "hosts/a null; hosts/b null; hosts/web1 null; tags/web null [a b web1]; conflicts: tags/web members/web1"},
	{name: "member removed, and added again by who had removed it", before: "put hosts/web1 null;put tags/web null;add tags/web web1|remove tags/web web1",
		one: "add tags/web web1", two: "set tags/web/x 1",
		oneIsLater: "hosts/web1 null; tags/web {x:1} [web1]"},
	{name: "two members added", before: "put hosts/web1 null;put hosts/web2 null;put tags/web null",
		one: "add tags/web web1", two: "add tags/web web2",
		oneIsLater: "hosts/web1 null; hosts/web2 null; tags/web null [web1 web2]"},
	{name: "a list put as a whole and a member added", before: "put hosts/web1 null;put hosts/web2 null;put tags/web null;add tags/web web1",
		one: "list tags/web", two: "add tags/web web2",
		oneIsLater: "hosts/web1 null; hosts/web2 null; tags/web null [web2]"},
	{name: "keys that inherit from each other", before: "put hosts/web1 null;put tags/a null;put tags/b null;add tags/a web1",
		one: "add tags/a @b", two: "add tags/b @a",
		oneIsLater: "hosts/web1 null; tags/a null [web1 @b]; tags/b null [@a]"}, // a cycle: both have web1, and doctor names it
	{name: "perms and perms", before: "put hosts/web1 null",
		one: "perms hosts/web1 {a: {data: RW}}", two: "perms hosts/web1 {b: {data: RW}}",
		oneIsLater: "hosts/web1 null (a: data: RW); conflicts: hosts/web1 perms",
		twoIsLater: "hosts/web1 null (b: data: RW); conflicts: hosts/web1 perms"},
	{name: "perms and data", before: "put hosts/web1 {cpu: 2}",
		one: "perms hosts/web1 {a: {data: RW}}", two: "set hosts/web1/cpu 4",
		oneIsLater: "hosts/web1 {cpu:4} (a: data: RW)"},
	{name: "a namespace removed and a key made in it", before: "namespace extra",
		one: "drop extra", two: "put extra/k 1",
		oneIsLater: ""}, // the key is kept aside, and there again when the namespace is
	{name: "undo and an edit of the same field", before: "put hosts/web1 {cpu: 2, disk: 5}|set hosts/web1/cpu 64",
		one: "undo", two: "set hosts/web1/cpu 8",
		oneIsLater: "hosts/web1 {cpu:2,disk:5}; conflicts: hosts/web1 data/cpu",
		twoIsLater: "hosts/web1 {cpu:8,disk:5}; conflicts: hosts/web1 data/cpu"},
	{name: "undo and an edit of another field", before: "put hosts/web1 {cpu: 2, disk: 5}|set hosts/web1/cpu 64",
		one: "undo", two: "set hosts/web1/disk 9",
		oneIsLater: "hosts/web1 {cpu:2,disk:9}"},
	{name: "undo of a delete, and the key made anew", before: "put hosts/web1 {cpu: 2}|delete hosts/web1",
		one: "undo", two: "put hosts/web1 {cpu: 8}",
		oneIsLater: "hosts/web1 {cpu:2}; conflicts: hosts/web1 data/cpu",
		twoIsLater: "hosts/web1 {cpu:8}; conflicts: hosts/web1 data/cpu"},
	{name: "transaction and an edit of one of its fields", before: "put hosts/web1 {cpu: 2};put hosts/web2 {cpu: 2}",
		one: "set hosts/web1/cpu 4;set hosts/web2/cpu 4", two: "set hosts/web2/cpu 8",
		oneIsLater: "hosts/web1 {cpu:4}; hosts/web2 {cpu:4}; conflicts: hosts/web2 data/cpu",
		twoIsLater: "hosts/web1 {cpu:4}; hosts/web2 {cpu:8}; conflicts: hosts/web2 data/cpu"}, // names the transaction: it lost a part
}

// Every pair of operations that do not know of each other, with either of them later, delivered in both orders and to
// observers of both: one line tells what there is.
func TestProvePairs(t *testing.T) {
	for _, p := range pairs {
		t.Run(p.name, func(t *testing.T) {
			for _, oneIsLater := range []bool{true, false} {
				want := p.oneIsLater
				if !oneIsLater && p.twoIsLater != "" {
					want = p.twoIsLater
				}
				boxes := []*box{openBox(t, "one"), openBox(t, "two"), openBox(t, "observer"), openBox(t, "other observer")}
				for step := range strings.SplitSeq(p.before, "|") {
					p.run(t, boxes[0], step)
					boxes[0].clock.now = boxes[0].clock.now.Add(10 * time.Millisecond)
				}
				met := boxes[0].clock.now
				for i, b := range boxes {
					deliverAll(t, boxes[0], b)
					b.clock.now = met.Add(time.Second)
					if i == 0 == oneIsLater {
						b.clock.now = b.clock.now.Add(time.Second)
					}
				}
				p.run(t, boxes[0], p.one)
				p.run(t, boxes[1], p.two)
				left := [2]string{}
				for i := range left {
					left[i] = line(t, boxes[i].store.View())
				}
				observer, other := boxes[2], boxes[3]
				deliverAll(t, boxes[0], observer)
				deliverAll(t, boxes[1], observer)
				deliverAll(t, boxes[1], other)
				deliverAll(t, boxes[0], other)
				deliverAll(t, observer, boxes[0])
				deliverAll(t, other, boxes[1])
				for _, b := range boxes {
					if got := line(t, b.store.View()); got != want {
						t.Fatalf("one is later: %t. At %s there is\n%s\nwant\n%s\n(%s and %s before they met)", oneIsLater, b.name, got, want, left[0], left[1])
					}
					if picture(b.store.View())+digests(b.store.View()) != picture(observer.store.View())+digests(observer.store.View()) {
						t.Errorf("%s answers otherwise than the observer", b.name)
					}
					checkIndexes(t, b.store.View())
				}
				for c := range observer.store.View().AllConflicts() {
					winner, loser, err := observer.store.Sides(c)
					if err != nil || !loser.Revision.ID.Less(winner.Revision.ID) && c.What != "" {
						t.Errorf("the sides of %v: %v", c, err)
					}
					if !slices.Contains([]string{p.one, p.two}, loser.Revision.Log) {
						t.Errorf("%v lost %q, which is neither %q nor %q", c, loser.Revision.Log, p.one, p.two)
					}
				}
			}
		})
	}
}
