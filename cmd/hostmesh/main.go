// Command hostmesh is the agent of one box and the command line to it: one binary, one subcommand for each thing to do.
//
// It owns flags, help, what is printed and exit codes, and the only os.Exit. What an agent is and does is package
// node's; how it is spoken to, package node/api's. `hostmesh help` is the manual.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once: a person who asks twice means it.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, asCalled(os.Args), os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program but for the process around it, and returns the exit code.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{environ: environ, stdin: stdin, stdout: stdout, stderr: stderr}
	return a.run(ctx, args)
}
