package mariadb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"testing"

	"hostmesh/lbd/mysqlha"
)

// partial is a server that answers a query with some rows, and then not any more.
type partial struct {
	rows [][2]string
	end  error
}

func (p *partial) Connect(context.Context) (driver.Conn, error) { return p, nil }
func (p *partial) Driver() driver.Driver                        { return nil }
func (p *partial) Prepare(string) (driver.Stmt, error)          { return nil, errors.ErrUnsupported }
func (p *partial) Begin() (driver.Tx, error)                    { return nil, errors.ErrUnsupported }
func (p *partial) Close() error                                 { return nil }
func (p *partial) Columns() []string                            { return []string{"Variable_name", "Value"} }
func (p *partial) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return p, nil
}

func (p *partial) Next(into []driver.Value) error {
	if len(p.rows) == 0 {
		return p.end
	}
	into[0], into[1] = p.rows[0][0], p.rows[0][1]
	p.rows = p.rows[1:]
	return nil
}

// TestLearnCutOff: an answer that ends too early says that the server stands still, and not that it is of another flavour, which would count as alive.
func TestLearnCutOff(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		end     error
		flavour bool
	}{{"cut off", context.DeadlineExceeded, false}, {"without variables", io.EOF, true}} {
		db := sql.OpenDB(&partial{rows: [][2]string{{"max_connections", "100"}}, end: c.end})
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o := &observer{conn: conn, d: maria(version{})}
		if err := o.learn(t.Context()); err == nil || errors.Is(err, mysqlha.ErrFlavour) != c.flavour {
			t.Errorf("%s: %v, of another flavour: %t", c.name, err, !c.flavour)
		}
		if err := errors.Join(conn.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	}
}
