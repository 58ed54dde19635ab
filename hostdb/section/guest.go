package section

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"
)

// Guest is how virtual machines configure themselves at their first boot, by cloud-init. It counts when a machine is made;
// those that are there keep what they have. Who may write it has root on the machines that come.
type Guest struct {
	// User is who gets the keys, and may do everything by sudo. Absent is the image's own default user.
	User string `format:"login" example:"ops"`
	// Keys are public SSH keys by a name of your choice, in the form of authorized_keys.
	Keys map[string]string `format:"sshkey" example:"{alice: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ alice}"`
	// Resolvers are the name servers, the first asked first. Absent is what the image has.
	Resolvers []netip.Addr `example:"[10.1.0.53]"`
	// Search are the domains in which short names are looked up.
	Search []string `format:"domain" example:"[dc1.example.com]"`
	// Commands are run by a shell as root, in the order of their names.
	Commands map[string]string `example:"{10-agent: apt-get install -y puppet-agent}"`
}

func (Guest) example() string {
	return `User: ops
Keys:
  alice: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ alice
Resolvers: [10.1.0.53]
Search: [dc1.example.com]
Commands:
  10-agent: apt-get install -y puppet-agent
`
}

// publicKey is a line of authorized_keys: options, a kind, the key in base64, a comment.
var publicKey = regexp.MustCompile(`^(?:[^\s].*\s)?(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/]+=*(?: .*)?$`)

// checkPublicKey accepts a public key as authorized_keys has it.
func checkPublicKey(s string) error {
	switch {
	case strings.Contains(s, "PRIVATE KEY"):
		return errors.New("is a private key; everybody can read it here, so take it out of use; expected the public one, of the file that ends in .pub")
	case len(s) > 16<<10 || strings.ContainsFunc(s, isControl) || strings.TrimSpace(s) != s:
		return errWrong
	}
	return wrong(!publicKey.MatchString(s))
}
