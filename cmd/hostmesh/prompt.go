package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// errNoAnswer is returned when the input ended where an answer was expected.
var errNoAnswer = errors.New("the input ended before the question was answered")

// prompter asks a person. Questions go where they do not mix with what is printed; the answers are lines of the input.
type prompter struct {
	in   *bufio.Reader
	file *os.File // the terminal; nil when the input is none
	out  io.Writer
}

func (a *app) prompter() *prompter {
	p := &prompter{in: bufio.NewReader(a.stdin), out: a.stderr}
	if f, ok := a.stdin.(*os.File); ok && isTerminal(f) {
		p.file = f
	}
	return p
}

// line asks until the answer is not blank.
func (p *prompter) line(ctx context.Context, question string) (string, error) {
	for {
		fmt.Fprint(p.out, question)
		text, err := p.await(ctx, func() (string, error) { return p.in.ReadString('\n') })
		if text = strings.TrimSpace(text); text != "" {
			return text, nil
		}
		if errors.Is(err, io.EOF) {
			fmt.Fprintln(p.out)
			return "", errNoAnswer
		}
		if err != nil {
			return "", err
		}
	}
}

// secret asks without showing what is typed.
func (p *prompter) secret(ctx context.Context, question string) (string, error) {
	if p.file != nil { // before the question: some answer at once
		show, err := hideInput(p.file)
		if err != nil {
			return "", err
		}
		defer show()
	}
	fmt.Fprint(p.out, question)
	text, err := p.await(ctx, func() (string, error) { return readLine(p.in) })
	fmt.Fprintln(p.out) // the one that was typed is not shown either
	return text, err
}

// yes asks until the answer is yes or no. When sure, it answers itself.
func (p *prompter) yes(ctx context.Context, question string, sure bool) (bool, error) {
	if sure {
		fmt.Fprintf(p.out, "%s y\n", question)
		return true, nil
	}
	for {
		answer, err := p.line(ctx, question+" (y/n) ")
		if err != nil {
			return false, err
		}
		switch answer[0] {
		case 'y', 'Y':
			return true, nil
		case 'n', 'N':
			return false, nil
		}
	}
}

// await ends with ctx, too: whoever interrupts does not have to answer first. The reading ends with the program.
func (p *prompter) await(ctx context.Context, read func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		text, err := read()
		done <- answer{text, err}
	}()
	select {
	case a := <-done:
		return a.text, a.err
	case <-ctx.Done():
		return "", errors.New("interrupted")
	}
}
