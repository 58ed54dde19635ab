package resttest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// answer is an answer with its body read.
type answer struct {
	*http.Response
	body string
}

// send makes the request of a step at the next node.
func (p *player) send(s step) (answer, error) {
	base, client := p.Node(p.asked)
	p.asked++
	target, err := p.fill(s.target)
	if err != nil {
		return answer{}, err
	}
	form, err := p.form(s)
	if err != nil {
		return answer{}, err
	}
	var body io.Reader = http.NoBody
	contentType := ""
	switch {
	case s.body != nil:
		text, err := p.fill(*s.body)
		if err != nil {
			return answer{}, err
		}
		body, target = strings.NewReader(text), withQuery(target, form)
	case s.method == http.MethodPut || s.method == http.MethodPost:
		body, contentType = strings.NewReader(form), "application/x-www-form-urlencoded"
	default:
		target = withQuery(target, form)
	}
	req, err := http.NewRequest(s.method, base+target, body)
	if err != nil {
		return answer{}, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for _, h := range s.header {
		if h, err = p.fill(h); err != nil {
			return answer{}, err
		}
		name, value, _ := strings.Cut(h, ":")
		if value = strings.TrimSpace(value); value == "" {
			req.Header.Del(name)
		} else if name == "Content-Type" {
			req.Header.Set(name, value)
		} else {
			req.Header.Add(name, value)
		}
	}
	if s.from != "" {
		client = from(client, s.from)
		defer client.CloseIdleConnections()
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	text, err := io.ReadAll(res.Body)
	_ = res.Body.Close() // it was read
	return answer{res, string(text)}, err
}

// from is client with another source address.
func from(client *http.Client, addr string) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if own, ok := client.Transport.(*http.Transport); ok {
		transport = own.Clone()
	}
	transport.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}).DialContext
	c := *client
	c.Transport = transport
	return &c
}

func withQuery(target, query string) string {
	switch {
	case query == "":
		return target
	case strings.Contains(target, "?"):
		return target + "&" + query
	}
	return target + "?" + query
}

// form is the form of a step, encoded. A write has a session and a log, unless it says otherwise.
func (p *player) form(s step) (string, error) {
	fields := slices.Clone(s.fields)
	if s.isWrite() {
		who := s.as
		if who == "" {
			who = "alice"
		}
		for _, f := range []string{"session={{" + who + "}}", "log=because"} {
			name, _, _ := strings.Cut(f, "=")
			if slices.Contains(s.without, name) || slices.ContainsFunc(fields, func(f string) bool { return strings.HasPrefix(f, name+"=") }) {
				continue
			}
			fields = append(fields, f)
		}
	}
	for i, f := range fields {
		f, err := p.fill(f)
		if err != nil {
			return "", err
		}
		name, value, _ := strings.Cut(f, "=")
		fields[i] = url.QueryEscape(name) + "=" + url.QueryEscape(value)
	}
	return strings.Join(fields, "&"), nil
}

var variable = regexp.MustCompile(`\{\{(.*?)\}\}`)

// fill puts what is known in the places of {{name}}, and N letters in that of {{x*N}}.
func (p *player) fill(text string) (string, error) {
	var missing error
	text = variable.ReplaceAllStringFunc(text, func(v string) string {
		name := v[2 : len(v)-2]
		if letter, count, ok := strings.Cut(name, "*"); ok {
			if n, err := strconv.Atoi(count); err == nil {
				return strings.Repeat(letter, n)
			}
		}
		value, ok := p.vars[name]
		if !ok {
			missing = fmt.Errorf("nothing is known of %s", v)
		}
		return value
	})
	return text, missing
}

// shapes are patterns that have a name.
var shapes = map[string]string{
	"*":    `.*`,
	"time": `\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000`,
	"unix": `\d{10}`,
	"n":    `\d+`,
}

// matches compares a line with its pattern, and keeps what stands in the places of variables that are not known yet.
func (p *player) matches(pattern, line string) bool {
	var re strings.Builder
	var names []string
	re.WriteString("^")
	rest := pattern
	for {
		at := variable.FindStringIndex(rest)
		if at == nil {
			break
		}
		re.WriteString(regexp.QuoteMeta(rest[:at[0]]))
		name := rest[at[0]+2 : at[1]-2]
		shape, isShape := shapes[name]
		value, known := p.vars[name]
		switch {
		case isShape:
			re.WriteString(shape)
		case known:
			re.WriteString(regexp.QuoteMeta(value))
		default:
			re.WriteString(`(\S+)`)
			names = append(names, name)
		}
		rest = rest[at[1]:]
	}
	re.WriteString(regexp.QuoteMeta(rest) + "$")
	found := regexp.MustCompile(re.String()).FindStringSubmatch(line)
	if found == nil {
		return false
	}
	for i, name := range names {
		p.vars[name] = found[i+1]
	}
	return true
}

// differences say how an answer is not as the step wants it.
func (p *player) differences(s step, r answer) (problems []string) {
	code, _, _ := strings.Cut(r.Header.Get("CallTrace"), ":")
	if r.Status[:3] != s.status || code != s.code || !strings.HasPrefix(r.Status[4:], s.message) {
		return []string{fmt.Sprintf("got %s, code %q\n want %s %s, code %q", r.Status, code, s.status, s.message, s.code)}
	}
	for _, h := range s.wantHeader {
		name, pattern, _ := strings.Cut(h, ":")
		values, there := r.Header[http.CanonicalHeaderKey(name)]
		switch pattern = strings.TrimSpace(pattern); {
		case pattern == "none":
			if there {
				problems = append(problems, fmt.Sprintf("%s is %q, want none", name, values))
			}
		case !there:
			problems = append(problems, "no header "+name)
		case !p.matches(pattern, strings.Join(values, ", ")):
			problems = append(problems, fmt.Sprintf("%s is %q, want %s", name, values, pattern))
		}
	}
	if slices.Equal(s.lines, []string{"..."}) {
		return problems
	}
	body, ended := strings.CutSuffix(r.body, "\n")
	lines := strings.Split(body, "\n")
	if r.body == "" {
		lines = nil
	}
	same := len(lines) == len(s.lines) && ended == s.ended
	for i := 0; same && i < len(lines); i++ {
		same = p.matches(s.lines[i], lines[i])
	}
	if !same {
		problems = append(problems, fmt.Sprintf("body %q\n want %q, newline at the end: %t", r.body, s.lines, s.ended))
	}
	return problems
}
