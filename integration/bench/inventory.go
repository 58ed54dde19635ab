package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// zoneName is the zone of all generated hosts.
const zoneName = "dc1.example.com"

// access lets the user of the bench write.
const access = "ops: {data: RW, members: RW, perms: RW}\n"

func hostName(i int) string { return fmt.Sprintf("host-%05d.%s", i, zoneName) }

func hostAddr(i int) string { return fmt.Sprintf("10.%d.%d.%d", 1+i/62500, i/250%250, 1+i%250) }

// hostText is the document of a host as inventories have them: some twenty facts.
func hostText(i int) string {
	mac := fmt.Sprintf("52:54:%02x:%02x:%02x", i>>16&255, i>>8&255, i&255)
	return fmt.Sprintf(`Hardware:
  CPU: 2 x Intel Xeon E5-2630 v3
  Memory: 8 x 16GB
  Model: PowerEdge R630
  OOB: 10.200.%[1]d.%[2]d
  Purchased: 2016-03-14
  Service Tag: Q%07[3]X
  Storage: 6 x 600GB SAS
  Vendor: Dell
Interfaces:
  eth0:
    IP: %[4]s
    MAC: %[5]s:00
    Port: ge-0/0/%[6]d
    Switch: sw-r%03[7]d-a
  eth1:
    MAC: %[5]s:01
    Port: ge-0/0/%[6]d
    Switch: sw-r%03[7]d-b
Network:
  FQDN: %[8]s
  IP: %[4]s
  MAC: %[5]s:00
Owner: team-%[9]d
Physical Location:
  Datacenter: dc1
  Rack Number: r%03[7]d
  U Number: %02[6]d
Status: active
`, i/250%250, 1+i%250, i, hostAddr(i), mac, 1+i%hostsPerRack, i/hostsPerRack, hostName(i), i%10)
}

const (
	hostsPerRack = 40
	hostsPerApp  = 60 // of which each application has three roles
	hostsPerCell = 13 * hostsPerRack

	cellName = "cell-00" // the tag of the first racks
)

// tag is one generated tag.
type tag struct {
	name, data string
	members    []string
}

// tags groups n hosts as sites do: by rack, by application and its roles, by image; a zone has them all through two
// steps of inheritance. There is about a tenth as many as hosts, and at least one of each kind.
func tags(n int) []tag {
	zone := tag{"dc1", "DNS: {Zone: " + zoneName + ", TTL: 30, Reverse: [10.0.0.0/8], Records: {www: {A: 10.0.0.80}}}\nPriority: -5\n", []string{"@prod"}}
	prod := tag{"prod", "Puppet: {Environment: production, Classes: {ntp: {}, ssh: {permit_root: no}}}\n", nil}
	cell := tag{name: cellName, data: "{}\n"}
	var racks, apps []tag
	for first := 0; first < n; first += hostsPerRack {
		rack := tag{name: fmt.Sprintf("rack-%03d", first/hostsPerRack), data: "{}\n"}
		for i := first; i < min(first+hostsPerRack, n); i++ {
			rack.members = append(rack.members, hostName(i))
		}
		racks = append(racks, rack)
		prod.members = append(prod.members, "@"+rack.name)
		if first < hostsPerCell {
			cell.members = append(cell.members, "@"+rack.name)
		}
	}
	for first := 0; first < n; first += hostsPerApp {
		name := fmt.Sprintf("app-%03d", first/hostsPerApp)
		app := tag{name: name, data: fmt.Sprintf("Priority: 10\nPuppet: {Parameters: {app: %s}}\nMonitoring: {Nagios: {Contacts: [team-%d]}}\n", name, first/hostsPerApp%10)}
		roles := []tag{
			{name: name + "-web", data: "Priority: 20\nService: {Port: 443, Proto: tcp}\nPuppet: {Classes: {nginx: {workers: 4}}}\n"},
			{name: name + "-api", data: "Priority: 20\nService: {Port: 8443, Proto: tcp}\nMonitoring: {Prometheus: {Port: 9404}}\n"},
			{name: name + "-job", data: "Priority: 20\nPuppet: {Classes: {cron: {mail: no}}}\n"},
		}
		for i := first; i < min(first+hostsPerApp, n); i++ {
			r := &roles[i%len(roles)]
			r.members = append(r.members, hostName(i))
		}
		for _, r := range roles {
			app.members = append(app.members, "@"+r.name)
		}
		apps = append(append(apps, roles...), app)
	}
	all := append(append([]tag{zone, prod, cell}, racks...), apps...)
	images := make([]tag, max(1, n/10-len(all)))
	for i := range images {
		images[i] = tag{name: fmt.Sprintf("image-%02d", i), data: "Puppet: {Parameters: {image: debian-12}}\n"}
	}
	for i := range n {
		m := &images[i%len(images)]
		m.members = append(m.members, hostName(i))
	}
	return append(all, images...)
}

// writeInventory makes a directory in Flipkart's layout with n hosts, and returns how many tags it has.
func writeInventory(dir string, n int) (int, error) {
	put := func(text string, path ...string) error {
		return os.WriteFile(filepath.Join(append([]string{dir}, path...)...), []byte(text), 0o644)
	}
	for _, d := range []string{"hosts/.perms", "tags/.perms", "tags/.members"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return 0, err
		}
	}
	for _, ns := range []string{"hosts", "tags"} {
		if err := put(access, ns, ".perms", ".default"); err != nil {
			return 0, err
		}
	}
	for i := range n {
		if err := put(hostText(i), "hosts", hostName(i)); err != nil {
			return 0, err
		}
	}
	all := tags(n)
	for _, t := range all {
		if err := put(t.data, "tags", t.name); err != nil {
			return 0, err
		}
		if err := put(strings.Join(t.members, "\n")+"\n", "tags", ".members", t.name); err != nil {
			return 0, err
		}
	}
	return len(all), nil
}
