package query_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/query"
)

// FuzzCompile: whatever is asked, there is an answer or an error that says where; never a panic, and an end.
func FuzzCompile(f *testing.F) {
	for _, where := range []string{
		``, `true`, `Network.IPv6 == nil`, `bytes(Hardware.Memory) >= size("24GB") and "search" in tags`,
		`at("Physical Location/Rack Number") == "r12" and len(vms) == 0`, `zones == []`,
		`any(Interfaces, .IP == "10.9.0.1" and #index < 3)`, `name matches "^[ab]$"`, `cidr(address, "10.0.0.0/8")`,
		`let n = Hardware.CPUs; n > 1 ? effective.x : self["a"][0]`, `if has(Box) { true } else { name == "b" }`,
		`1 < 2 < 3`, `1..1e9`, `name ?: "x"`, `any(members, any(members, # in members))`, `map(tags, map(tags, join(tags, name)))`,
		`Expires - date("2031-12-30") == duration("1d")`, `-Hardware.CPUs == -8 ?? 3 % 0`, `name | upper() | lower()`, "/* x */ b\"x\" == `y` // z",
		`List[-1].x == 2 and List[9223372036854775807] == nil`, `"é" == "\u00e9" and $env.x`, `sum(#) + reduce([1], #acc)`,
	} {
		f.Add(where, "name, x="+where, true)
		f.Add(where, "", false)
	}
	v := small(f)
	f.Fuzz(func(t *testing.T, where, sel string, tags bool) {
		o := query.Options{Select: sel, Sort: "-name"}
		if tags {
			o.In = hostdb.Tags
		}
		q, err := query.Compile(where, o)
		if err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			var r query.Result
			if r, err = q.Run(ctx, v); err == nil {
				for _, form := range query.Forms() {
					if err := query.Write(io.Discard, form, r); err != nil {
						t.Errorf("%s: %v", form, err)
					}
				}
			}
			if _, err := q.Match(v, "hosts", "a"); errors.Is(err, query.ErrTooSlow) {
				t.Error(err)
			}
		}
		var e *query.Error
		switch {
		case err == nil, errors.Is(err, query.ErrTooMuch), errors.Is(err, hostdb.ErrInvalid):
		case errors.As(err, &e):
			if e.Line < 1 || e.Column < 1 || e.Message == "" || e.Caret() == "" && e.Text != "" {
				t.Errorf("%#v", e)
			}
		default:
			t.Errorf("%v", err)
		}
	})
}
