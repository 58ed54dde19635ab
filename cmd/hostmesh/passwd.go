package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
	"golang.org/x/sys/unix"

	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
)

// maxPassword is far more than anybody types, in bytes.
const maxPassword = 4096

func (a *app) passwdCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "passwd [NAME]",
		Short: "Make an entry of the users file",
		Long: `Asks for a password and prints what the users file (auth.users_file) keeps of
it: an argon2id hash. With NAME it is a whole entry; fill in from where the
user may log in, because without that it is nowhere. Nothing is written to any
file, and no agent is asked.

On a terminal the password is asked for twice and not shown. Elsewhere it is
the first line of the standard input. It is no argument, because everybody on
the box can read those.`,
		Example: `  hostmesh passwd alice >> users.yaml
  (umask 077; head -c 18 /dev/urandom | base64 > password); hostmesh passwd bob < password >> users.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
			if len(args) > 0 {
				if err := hostdb.CheckName(args[0]); err != nil {
					return err
				}
			}
			password, err := a.readPassword(ctx)
			if err != nil {
				return err
			}
			hash, err := auth.HashPassword(password)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				_, err = fmt.Fprintln(a.stdout, hash)
				return err
			}
			return writeUser(a.stdout, args[0], hash)
		}),
	}
}

// writeUser writes an entry as it would be typed: its name is quoted only where YAML needs that.
func writeUser(w io.Writer, name, hash string) error {
	key := &yaml.Node{}
	key.SetString(name)
	text, err := yaml.Marshal(key)
	if err != nil {
		return fmt.Errorf("write the entry of %q: %w", name, err)
	}
	_, err = fmt.Fprintf(w, "%s:\n  password: %s\n  allow: []   # networks to log in from, such as 10.0.0.0/8; without any, none\n  groups: []\n",
		strings.TrimSpace(string(text)), hash)
	return err
}

// readPassword asks on a terminal, twice, and takes one line of anything else.
func (a *app) readPassword(ctx context.Context) (string, error) {
	in := bufio.NewReader(a.stdin)
	f, ok := a.stdin.(*os.File)
	if !ok || !isTerminal(f) {
		return readLine(in)
	}
	show, err := hideInput(f)
	if err != nil {
		return "", err
	}
	defer show()
	type typed struct {
		password string
		err      error
	}
	done := make(chan typed, 1)
	go func() {
		password, err := a.askTwice(in)
		done <- typed{password, err}
	}()
	select {
	case t := <-done:
		return t.password, t.err
	case <-ctx.Done(): // whoever interrupts gets a terminal back that shows what is typed
		fmt.Fprintln(a.stderr)
		return "", errors.New("interrupted: no password was read")
	}
}

func (a *app) askTwice(in *bufio.Reader) (string, error) {
	var typed [2]string
	for i, prompt := range []string{"Password: ", "The same again: "} {
		fmt.Fprint(a.stderr, prompt)
		line, err := readLine(in)
		fmt.Fprintln(a.stderr) // the one that was typed is not shown either
		if err != nil {
			return "", err
		}
		typed[i] = line
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two passwords differ: try again")
	}
	return typed[0], nil
}

// readLine is a line without its end; the last one needs none.
func readLine(in *bufio.Reader) (string, error) {
	var line []byte
	for {
		b, err := in.ReadByte()
		switch {
		case err == io.EOF && len(line) > 0:
		case err == io.EOF:
			return "", errors.New("no password was given")
		case err != nil:
			return "", fmt.Errorf("read the password: %w", err)
		case b != '\n':
			if line = append(line, b); len(line) > maxPassword {
				return "", fmt.Errorf("a password has at most %d bytes", maxPassword)
			}
			continue
		}
		return strings.TrimSuffix(string(line), "\r"), nil
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// hideInput has a terminal show nothing of what is typed, until show is called.
func hideInput(f *os.File) (show func(), err error) {
	fd := int(f.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("hide the password: %w", err)
	}
	hidden := *before
	hidden.Lflag &^= unix.ECHO
	hidden.Lflag |= unix.ICANON | unix.ISIG
	hidden.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		return nil, fmt.Errorf("hide the password: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil // what fails has no terminal any more
}
