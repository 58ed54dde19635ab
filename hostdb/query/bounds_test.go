package query_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/query"
)

// crowd is a tag with many members.
func crowd(t testing.TB) hostdb.View {
	t.Helper()
	s := open(t)
	update(t, s, func(tx *hostdb.Tx) error {
		if err := tx.Put("tags", "crowd", document(t, "{}")); err != nil {
			return err
		}
		for i := range 1500 {
			name := fmt.Sprintf("h%04d", i)
			if err := tx.Put("hosts", name, document(t, "{}")); err != nil {
				return err
			}
			if err := tx.AddMember("tags", "crowd", name); err != nil {
				return err
			}
		}
		return nil
	})
	return s.View()
}

// TestBounds: what would take for ever, or all memory, is refused with the bound.
func TestBounds(t *testing.T) {
	v := crowd(t)
	doubled := `let a = name; ` // 2 to the power of 60 names
	for i := range 60 {
		doubled += fmt.Sprintf("let a%d = a%s + a%[2]s; ", i, strings.TrimPrefix(fmt.Sprint(i-1), "-1"))
	}
	for _, c := range []struct{ ns, where, sel string }{
		{"tags", `any(members, any(members, any(members, false)))`, ""},
		{"tags", `all(members, all(members, all(members, # in members)))`, ""},
		{"tags", `members == map(members, join(members, "xxxxxxxxxxxxxxxx"))`, ""},
		{"hosts", doubled + `a59 == ""`, ""},
		{"tags", ``, `name,x=map(members, join(members, name))`},
		{"tags", ``, `name,x=map(members, members),y=map(members, members),z=map(members, members)`},
	} {
		q, err := query.Compile(c.where, query.Options{In: c.ns, Select: c.sel})
		if err != nil {
			t.Errorf("%.50s: %v", c.where, err)
			continue
		}
		if _, err := q.Run(t.Context(), v); !errors.Is(err, query.ErrTooMuch) {
			t.Errorf("%.50s %s: %v", c.where, c.sel, err)
		}
	}
	// Nested, what the grammar shares would double with each level.
	for _, where := range []string{
		strings.Repeat("1<(", 300) + "1" + strings.Repeat(")<1", 300),
		strings.Repeat("(", 300) + "name" + strings.Repeat("?:name)", 300),
	} {
		var e *query.Error
		if _, err := query.Compile(where, query.Options{}); !errors.As(err, &e) {
			t.Errorf("%.30s: %v", where, err)
		}
	}
}

func TestDeadline(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("it may take 2s"))
	q, err := query.Compile(`has(Box)`, query.Options{Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Run(ctx, crowd(t)); !errors.Is(err, query.ErrTooSlow) || !strings.Contains(err.Error(), "it may take 2s") {
		t.Errorf("%v", err)
	}
}
