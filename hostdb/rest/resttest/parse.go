package resttest

import (
	"fmt"
	"net/http"
	"strings"
)

// block is the steps under one title.
type block struct {
	title string
	steps []step
}

// step is a request and the answer it must get, or a switch of read-only mode.
type step struct {
	line     int
	readOnly string // "on WHY" or "off"; "" for a request

	method, target string
	as             string   // whose session a write has; "" is alice's
	from           string   // the address that the request comes from; "" is whatever it is
	header         []string // "Name: value"
	fields         []string // "name=value" of the form
	without        []string // fields that are left out
	body           *string  // in place of a form

	status, code, message string
	wantHeader            []string // "Name: pattern"
	lines                 []string // patterns
	ended                 bool     // by a newline
}

func (s *step) isWrite() bool {
	return (s.method == http.MethodPut || s.method == http.MethodPost || s.method == http.MethodDelete) && !strings.Contains(s.target, "/auth/")
}

// parse reads a transcript. The text itself says what its lines mean.
func parse(text string) ([]block, error) {
	var blocks []block
	var s *step
	for i, line := range strings.Split(text, "\n") {
		mark, rest, _ := strings.Cut(line, " ")
		if mark == "" || mark[0] == '#' {
			continue
		}
		if mark == "==" {
			blocks = append(blocks, block{title: rest})
			s = nil
			continue
		}
		if len(blocks) == 0 {
			return nil, fmt.Errorf("line %d stands before the first title", i+1)
		}
		steps := &blocks[len(blocks)-1].steps
		switch {
		case mark == "!":
			how, ok := strings.CutPrefix(rest, "read-only ")
			if !ok {
				return nil, fmt.Errorf("line %d: %q is no command", i+1, rest)
			}
			*steps = append(*steps, step{line: i + 1, readOnly: how})
		case mark == ">":
			*steps = append(*steps, step{line: i + 1})
			s = &(*steps)[len(*steps)-1]
			words := strings.Fields(rest)
			if len(words) < 2 || len(words)%2 != 0 {
				return nil, fmt.Errorf("line %d: expected METHOD TARGET [as NAME] [from ADDRESS]", i+1)
			}
			s.method, s.target = words[0], words[1]
			for w := 2; w < len(words); w += 2 {
				switch words[w] {
				case "as":
					s.as = words[w+1]
				case "from":
					s.from = words[w+1]
				default:
					return nil, fmt.Errorf("line %d: %q", i+1, words[w])
				}
			}
		case s == nil:
			return nil, fmt.Errorf("line %d belongs to no request", i+1)
		default:
			if err := s.add(mark, rest); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
		}
	}
	for _, b := range blocks {
		for _, s := range b.steps {
			if s.readOnly == "" && s.status == "" {
				return nil, fmt.Errorf("line %d: a request without an answer", s.line)
			}
		}
	}
	return blocks, nil
}

// add takes one line of a step.
func (s *step) add(mark, rest string) error {
	switch mark {
	case ">>":
		s.header = append(s.header, rest)
	case "+":
		s.fields = append(s.fields, unescape.Replace(rest))
	case "-":
		s.without = append(s.without, rest)
	case ">>>":
		body := unescape.Replace(rest)
		s.body = &body
	case "<":
		s.status, s.message, _ = strings.Cut(rest, " ")
		if s.status >= "400" {
			s.code, s.message, _ = strings.Cut(s.message, " ")
		}
	case "<<":
		s.wantHeader = append(s.wantHeader, rest)
	case "|", ":":
		s.lines = append(s.lines, rest)
		s.ended = mark == "|"
	default:
		return fmt.Errorf("%q begins no line of a transcript", mark)
	}
	return nil
}

var unescape = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r", `\t`, "\t")
