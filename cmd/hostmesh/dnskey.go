package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) dnsKeyCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:   "key",
		Short: "TSIG keys, with which secondaries sign",
		Long: `Lists, makes and removes the TSIG keys (RFC 8945) with which secondaries sign
that they may transfer a zone. They are the same on every node; HostDB keeps
them sealed with the mesh key. A tag names one in DNS/Transfer/Key. Only an
administrator may: root on an agent's box.`,
	})
	cmd.AddCommand(a.dnsKeyListCommand(), a.dnsKeyAddCommand(), a.dnsKeyRemoveCommand())
	return cmd
}

func (a *app) dnsKeyListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the keys",
		Long:    `Lists the TSIG keys, without their secrets, which are told only once.`,
		Example: "  hostmesh dns key list",
		Args:    cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.DNSKeys(ctx)
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				row(w, "NAME", "ALGORITHM", "CHANGED")
				for _, k := range list {
					algorithm, changed := k.Algorithm, ""
					if k.Broken {
						algorithm = "unreadable"
					}
					if k.Modified != nil {
						changed = k.Modified.UTC().Format(time.DateOnly)
					}
					row(w, k.Name, algorithm, orDash(changed))
				}
			})
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func (a *app) dnsKeyAddCommand() *cobra.Command {
	var change api.DNSKeyChange
	var secretFile, file, log string
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a key",
		Long: `Makes a TSIG key with a secret of its own and shows it this once, in the form
of BIND's configuration, which dig -k reads, too. With --file it goes to a new
file that its owner alone can read, and nothing is shown.

--secret-file takes a secret that is there already, in base64, from a file or,
as -, from the standard input: for secondaries that have one. It is no
argument, because everybody on the box can read those.`,
		Example: `  hostmesh dns key add xfer --file /root/xfer.key
  hostmesh dns key add xfer --replace -m "the old one was in a mail" > xfer.key
  hostmesh dns key add ns2.example.com --algorithm hmac-sha512 --secret-file /root/old.secret`,
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = a.ask(func(ctx context.Context, c *api.Client, args []string) error {
		if secretFile != "" {
			text, err := a.readSecret(secretFile)
			if err != nil {
				return fmt.Errorf("--secret-file: %w", err)
			}
			change.Secret = text
		}
		write := func(made api.DNSKeyMade) error {
			return a.print(made, func(w io.Writer) { writeTSIG(w, made) })
		}
		if file != "" {
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("--file: %s exists and is left as it is", file)
			}
			if err != nil {
				return fmt.Errorf("--file: %w", err)
			}
			defer f.Close()
			write = func(made api.DNSKeyMade) error {
				var b bytes.Buffer
				writeTSIG(&b, made)
				_, err := f.Write(b.Bytes())
				return errors.Join(err, f.Sync())
			}
		}
		made, err := c.AddDNSKey(ctx, args[0], change, log)
		if err != nil {
			if file != "" {
				os.Remove(file) // there is nothing in it
			}
			return err
		}
		if err := write(made); err != nil {
			return fmt.Errorf("the key is made, and nobody has its secret (make it again with --replace): %w", err)
		}
		return nil
	})
	flags := cmd.Flags()
	flags.StringVar(&change.Algorithm, "algorithm", "", "`NAME`: hmac-sha256 (default), hmac-sha384, hmac-sha512, hmac-sha224 or hmac-sha1")
	flags.StringVar(&file, "file", "", "write the key to this new `FILE` instead of showing it")
	flags.StringVar(&secretFile, "secret-file", "", "take the secret, in base64, from `FILE`; - is the standard input")
	flags.BoolVar(&change.Replace, "replace", false, "replace a key that is there")
	messageFlag(cmd, &log, "why, for those who read the history (default: the name)")
	a.outputFlag(cmd)
	return cmd
}

// writeTSIG writes a key as BIND's configuration has it.
func writeTSIG(w io.Writer, k api.DNSKeyMade) {
	fmt.Fprintf(w, "key \"%s\" {\n\talgorithm %s;\n\tsecret \"%s\";\n};\n", k.Name, k.Algorithm, k.Secret)
}

// readSecret is the text in a file, or on the standard input for "-".
func (a *app) readSecret(name string) (string, error) {
	in := a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	const most = 1024 // as the agent takes
	text, err := io.ReadAll(io.LimitReader(in, most+1))
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" || len(text) > most || strings.ContainsAny(secret, " \t\n") {
		return "", errors.New("expected one word, the secret in base64")
	}
	return secret, nil
}

func (a *app) dnsKeyRemoveCommand() *cobra.Command {
	var log string
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a key",
		Long: `Removes a TSIG key from the whole mesh. Zones whose tag names it are transferred
to nobody from then on, and hostmesh doctor says so.`,
		Example: `  hostmesh dns key remove xfer -m "ns2 is gone"`,
		Args:    cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			_, err := c.RemoveDNSKey(ctx, args[0], log)
			return err
		}),
	}
	messageFlag(cmd, &log, "why, for those who read the history (default: the name)")
	return cmd
}
