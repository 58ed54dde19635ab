package query

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/file"
)

// Error is what is wrong with an expression, and where.
type Error struct {
	// Part is the part of the query: where or select.
	Part string
	// Line and Column count from 1; Column counts characters.
	Line, Column int
	// Message says what is wrong and what to write instead.
	Message string
	// Text is the whole part as it was written.
	Text string
}

// Error is the place and the message, on one line.
func (e *Error) Error() string {
	if strings.Contains(e.Text, "\n") {
		return fmt.Sprintf("%s, line %d, column %d: %s", e.Part, e.Line, e.Column, e.Message)
	}
	return fmt.Sprintf("%s, column %d: %s", e.Part, e.Column, e.Message)
}

// Location is the place for programs, as in where:1:14.
func (e *Error) Location() string { return fmt.Sprintf("%s:%d:%d", e.Part, e.Line, e.Column) }

// Caret is the line that the error is in, and below it a caret at the column.
func (e *Error) Caret() string {
	lines := strings.Split(e.Text, "\n")
	if e.Line < 1 || e.Line > len(lines) {
		return ""
	}
	line := []rune(plain(lines[e.Line-1]))
	at := min(max(e.Column-1, 0), len(line))
	return string(line) + "\n" + strings.Repeat(" ", at) + "^"
}

// position is a place in a text: characters before it.
type position int

func (p *program) errorAt(at position, format string, args ...any) *Error {
	e := &Error{Part: p.part, Line: 1, Column: 1, Message: fmt.Sprintf(format, args...), Text: p.text}
	for i, r := range []rune(p.text) {
		if position(i) >= at {
			break
		}
		e.Column++
		if r == '\n' {
			e.Line, e.Column = e.Line+1, 1
		}
	}
	return e
}

// foreign makes an Error of what expr-lang says.
func (p *program) foreign(err error) error {
	var f *file.Error
	if !errors.As(err, &f) {
		return p.errorAt(0, "%s", firstLine(err.Error()))
	}
	message := firstLine(f.Message)
	switch {
	case strings.HasPrefix(message, "unexpected token EOF"), strings.HasPrefix(message, "unexpected end"):
		message = "the expression ends too early: something is missing here"
	case strings.Contains(message, "exceeds maximum allowed nodes"):
		message = fmt.Sprintf("the expression has more than %d parts: ask in several queries", maxNodes)
	case strings.HasPrefix(message, `unexpected token Operator("=")`):
		message = "one = does not compare: write =="
	}
	return p.errorAt(position(min(f.From, utf8.RuneCountInString(p.text))), "%s", message)
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// plain is text with what could move a terminal's cursor, or a caret, replaced by blanks.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

func didYouMean(name string) string {
	if name == "" {
		return ""
	}
	return "; did you mean " + name + "?"
}
