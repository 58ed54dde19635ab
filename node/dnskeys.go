package node

import (
	"context"

	"hostmesh/dnsd/transfer"
	"hostmesh/node/api"
)

// dnsKeys implements api.DNSKeys.
type dnsKeys struct{ keys *transfer.Keys }

func (k dnsKeys) DNSKeys() []api.DNSKey {
	var out []api.DNSKey
	for _, x := range k.keys.List() {
		one := api.DNSKey{Name: x.Name, Algorithm: x.Algorithm, Broken: x.Broken}
		if !x.Modified.IsZero() {
			at := x.Modified.UTC()
			one.Modified = &at
		}
		out = append(out, one)
	}
	return out
}

func (k dnsKeys) AddDNSKey(ctx context.Context, who api.Identity, name string, c api.DNSKeyChange, log string) (api.DNSKeyMade, error) {
	made, commit, err := k.keys.Add(ctx, userWrite(who, log), name, c.Algorithm, c.Secret, c.Replace)
	if err != nil {
		return api.DNSKeyMade{}, err
	}
	out := api.DNSKeyMade{Name: made.Name, Algorithm: made.Algorithm, Secret: made.Secret, Acks: commit.Acks}
	if commit.Changed() {
		out.Revision = commit.Revision.String()
	}
	return out, nil
}

func (k dnsKeys) RemoveDNSKey(ctx context.Context, who api.Identity, name, log string) (api.DNSKeyWritten, error) {
	commit, err := k.keys.Remove(ctx, userWrite(who, log), name)
	if err != nil {
		return api.DNSKeyWritten{}, err
	}
	return api.DNSKeyWritten{Name: name, Revision: commit.Revision.String(), Acks: commit.Acks}, nil
}
