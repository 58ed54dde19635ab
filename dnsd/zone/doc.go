// Package zone compiles what HostDB and the mesh say into an immutable table of DNS answers. It owns what the DNS
// sections of tags mean, which names exist, and what each is answered with (RFC 1034 section 4.3.2). It does no I/O:
// sockets, message limits, serial numbers and metrics are left to dnsd.
//
// # Zones
//
// Each tag with a DNS section feeds a zone (Zone) and reverse zones (Reverse). Its members, inherited ones included, get
//
//   - A and AAAA from Network/IP and Network/IPv6 under Network/FQDN, or under the key when there is none;
//   - a CNAME for each name in Network/cname;
//   - a PTR for each address that lies in one of the prefixes of Reverse.
//
// A name without a dot is meant within the zone; any other is absolute. Names outside the zone are left alone. A name
// belongs to the deepest of our zones that contains it, and only tags that feed this zone put anything there. Several
// tags may feed one zone: for reverse zones this is usual; for others it is reported, and all are served. The first tag
// by name gives such a zone its SOA and NS.
//
// Records are written as in a zone file, name -> type -> text or list; names are relative to the zone unless they end in
// a dot or in the zone's own name. A TXT is one string unless it begins with a quote. The entry TTL beside the types is
// the name's time to live.
//
// A prefix of Reverse that does not end on an octet (IPv4) or a nibble (IPv6) is served in the smallest zone that does:
// 10.1.0.0/17 in 1.10.in-addr.arpa, 192.0.2.64/26 in 2.0.192.in-addr.arpa. Only addresses in the prefix get a PTR. This
// needs no delegation as of RFC 2317; two halves of one network share the zone.
//
// NS names are those of the section's NS and of the NS records at "@". When there are none it is ns.<domain>, one name
// that answers with the addresses of up to eight live members of the mesh. It is not the members' own names, so that the
// content of a zone is a function of HostDB alone and a box that comes or goes changes no serial.
//
// # Live names
//
// Below the domain of the mesh, by default mesh.internal:
//
//	<node>.node   A, AAAA of a member: its address in the mesh, and of the other family what HostDB says. <node> is the
//	              first label of its name where that is unambiguous; the whole name works always.
//	<tag>.tag     A, AAAA of the tag's members, inherited ones included. A host that the mesh knows as failed or left, or
//	              that is retired, is left out; when nobody remains, all are answered. Under mass suspicion the filter
//	              stays as it was. If the tag has Service {Port, Proto}, SRV too.
//	_<tag>._<proto>.tag   the same SRV, in the form of RFC 2782. The target is the host's FQDN if we serve its zone,
//	              else its node name if it is a member of the mesh, else its FQDN all the same.
//	<tag>.vip     the addresses in LB/VIP and MySQL/VIP.
//	ns            up to eight live members, the answering one first.
//
// Answers of <tag>.tag are made when somebody asks, and kept until something changes, so a tag of ten thousand members
// costs nothing per change.
//
// # Cost
//
// Zones are persistent maps: Update costs what changed. Only a change of Zone, TTL or Reverse compiles everything anew.
//
// # Bad input
//
// What cannot be served is left out, named in Problems, and harms nothing else. Where records exclude each other, the
// section's stand before those of hosts, addresses before aliases, and then the first host by name.
package zone
