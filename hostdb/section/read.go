package section

import (
	"reflect"
	"strings"

	"hostmesh/hostdb"
)

// HostOf reads the document of a host. A document that is not there is a host without facts. All problems are
// warnings. Sections that configure members may stand beside the facts and are looked at too; other sections act only
// in tags.
func HostOf(doc hostdb.Document) (Host, []Problem) {
	d := decoder{bad: Warning, free: true}
	tag := layoutFor[Tag]()
	d.beside = func(key string, sub hostdb.Document) bool {
		i, known := tag.byKey[key]
		if !known || key == "Priority" {
			return false
		}
		if f := tag.fields[i]; f.combine {
			inner := decoder{bad: Warning, path: d.path}
			inner.value(sub, reflect.New(f.node.typ).Elem(), f.node)
			d.problems = append(d.problems, inner.problems...)
		} else {
			d.report(Warning, "", "acts only in tags, and does nothing in a host")
		}
		return true
	}
	var h Host
	read(&d, doc, &h)
	return h, d.problems
}

// TagOf reads the document of a tag. A document that is not there is a tag without sections.
func TagOf(doc hostdb.Document) (Tag, []Problem) {
	d := decoder{bad: Error}
	var t Tag
	read(&d, doc, &t)
	return t, d.problems
}

// NetworkOf reads the Network of a host, without the rest: for who reads all hosts.
func NetworkOf(host hostdb.Document) (Network, []Problem) {
	d := decoder{bad: Warning, free: true, path: []string{"Network"}}
	var n Network
	read(&d, host.At("Network"), &n)
	return n, d.problems
}

// VMOf reads the VM of a host, without the rest; nil when it has none, or one that is no mapping.
func VMOf(host hostdb.Document) (*VM, []Problem) { return factOf[VM](host, "VM") }

// BoxOf reads the Box of a host, without the rest; nil when it has none, or one that is no mapping.
func BoxOf(host hostdb.Document) (*Box, []Problem) { return factOf[Box](host, "Box") }

// StatusOf reads the Status of a host, without the rest.
func StatusOf(host hostdb.Document) Status {
	for _, s := range Status("").values() {
		if text := host.Text("Status"); strings.EqualFold(strings.TrimSpace(text), s) {
			return Status(s)
		}
	}
	return Active
}

// DNSOf reads the DNS section of a tag; nil when it has none, or one that is no mapping. So it is with all sections.
func DNSOf(tag hostdb.Document) (*DNS, []Problem) { return sectionOf[DNS](tag, "DNS") }

// SubnetOf reads the Subnet section of a tag.
func SubnetOf(tag hostdb.Document) (*Subnet, []Problem) { return sectionOf[Subnet](tag, "Subnet") }

// LBOf reads the LB section of a tag.
func LBOf(tag hostdb.Document) (*LB, []Problem) { return sectionOf[LB](tag, "LB") }

// GroupOf reads the Group section of a tag.
func GroupOf(tag hostdb.Document) (*Group, []Problem) { return sectionOf[Group](tag, "Group") }

// PlacementOf reads the Placement section of a tag.
func PlacementOf(tag hostdb.Document) (*Placement, []Problem) {
	return sectionOf[Placement](tag, "Placement")
}

// MySQLOf reads the MySQL section of a tag.
func MySQLOf(tag hostdb.Document) (*MySQL, []Problem) { return sectionOf[MySQL](tag, "MySQL") }

// ServiceOf reads the Service section of a tag.
func ServiceOf(tag hostdb.Document) (*Service, []Problem) {
	return sectionOf[Service](tag, "Service")
}

func layoutFor[T any]() *layout { return layouts()[reflect.TypeFor[T]()] }

func read[T any](d *decoder, doc hostdb.Document, into *T) {
	l := layoutFor[T]()
	v := reflect.ValueOf(into).Elem()
	v.Set(l.zero)
	if len(d.path) == 0 && !absent(doc) && !doc.IsMapping() {
		d.report(Warning, "", "the document is no mapping, so nothing in it acts") // HostDB keeps any YAML
		return
	}
	d.structure(doc, v, l)
}

func sectionOf[T any](tag hostdb.Document, key string) (*T, []Problem) {
	return partOf[T](tag, key, decoder{bad: Error, path: []string{key}})
}

func factOf[T any](host hostdb.Document, key string) (*T, []Problem) {
	return partOf[T](host, key, decoder{bad: Warning, free: true, path: []string{key}})
}

func partOf[T any](of hostdb.Document, key string, d decoder) (*T, []Problem) {
	doc := of.At(key)
	if absent(doc) {
		return nil, nil
	}
	var t T
	read(&d, doc, &t)
	if !doc.IsMapping() {
		return nil, d.problems
	}
	return &t, d.problems
}
