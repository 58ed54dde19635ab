package query

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"hostmesh/hostdb"
)

// forms are the forms of an answer.
var forms = []string{"table", "csv", "json", "yaml"}

// Forms are the forms that Write knows.
func Forms() []string { return slices.Clone(forms) }

// MediaType is that of a form; ok is false for a form that is not known.
func MediaType(form string) (media string, ok bool) {
	switch form {
	case "table":
		return "text/plain; charset=utf-8", true
	case "csv":
		return "text/csv; charset=utf-8; header=present", true
	case "json":
		return "application/json", true
	case "yaml":
		return "application/yaml", true
	}
	return "", false
}

// CheckForm refuses a form that Write does not know.
func CheckForm(form string) error {
	if _, ok := MediaType(form); ok {
		return nil
	}
	return fmt.Errorf("%w: the form %q is not known; the forms are %s", hostdb.ErrInvalid, form, strings.Join(forms, ", "))
}

// Write writes an answer in a form: table is aligned for people, csv has a line of names first, json is an array of
// objects, yaml a list of mappings. Values keep the writer's spelling; what is not there is - in a table, empty in csv,
// null in json and yaml. The answer to CountOnly is the number alone.
func Write(w io.Writer, form string, r Result) error {
	if err := CheckForm(form); err != nil {
		return err
	}
	if r.CountOnly {
		text := strconv.Itoa(r.Matched)
		switch form {
		case "json":
			text = `{"count":` + text + "}"
		case "yaml":
			text = "count: " + text
		case "csv":
			text = "count\n" + text
		}
		_, err := io.WriteString(w, text+"\n")
		return err
	}
	switch form {
	case "csv":
		return writeCSV(w, r)
	case "json":
		return writeJSON(w, r)
	case "yaml":
		return writeYAML(w, r)
	}
	return writeTable(w, r)
}

func writeTable(w io.Writer, r Result) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := make([]string, len(r.Columns))
	for i, name := range r.Columns {
		line[i] = plain(strings.ToUpper(name))
	}
	put := func() error {
		_, err := fmt.Fprintln(t, strings.Join(line, "\t"))
		return err
	}
	if err := put(); err != nil {
		return err
	}
	for _, row := range r.Rows {
		for i, cell := range row.Cells {
			if line[i] = plain(cellText(cell)); line[i] == "" {
				line[i] = "-"
			}
		}
		if err := put(); err != nil {
			return err
		}
	}
	return t.Flush()
}

func writeCSV(w io.Writer, r Result) error {
	c := csv.NewWriter(w)
	if err := c.Write(r.Columns); err != nil {
		return err
	}
	line := make([]string, len(r.Columns))
	for _, row := range r.Rows {
		for i, cell := range row.Cells {
			line[i] = cellText(cell)
		}
		if err := c.Write(line); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// cellText is a cell on one line: a scalar as it is, a list of them divided by commas, anything else as JSON.
func cellText(d hostdb.Document) string {
	v, leaf := d.Value()
	switch {
	case !d.Exists():
		return ""
	case leaf && v.IsScalar():
		return v.Scalar()
	case leaf && v.IsSequence():
		var parts []string
		for _, item := range d.Items() {
			iv, ok := item.Value()
			if !ok || !iv.IsScalar() {
				return jsonText(d)
			}
			parts = append(parts, iv.Scalar())
		}
		return strings.Join(parts, ", ")
	}
	return jsonText(d)
}

// jsonText is a document as compact JSON; a document always has one.
func jsonText(d hostdb.Document) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(d.Any()); err != nil {
		return "?"
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func writeJSON(w io.Writer, r Result) error {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, row := range r.Rows {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n  {")
		for j, cell := range row.Cells {
			if j > 0 {
				b.WriteString(", ")
			}
			b.WriteString(jsonText(hostdb.NewDocument(hostdb.Leaf{Value: hostdb.Text(r.Columns[j])})))
			b.WriteString(": ")
			b.WriteString(jsonText(cell))
		}
		b.WriteByte('}')
	}
	if len(r.Rows) > 0 {
		b.WriteByte('\n')
	}
	b.WriteString("]\n")
	_, err := w.Write(b.Bytes())
	return err
}

func writeYAML(w io.Writer, r Result) error {
	if len(r.Rows) == 0 {
		_, err := io.WriteString(w, "[]\n")
		return err
	}
	var b strings.Builder
	for _, row := range r.Rows {
		mark := "- "
		for i, cell := range row.Cells {
			for line := range strings.Lines(under(r.Columns[i], cell).YAML()) {
				if line == "\n" {
					b.WriteByte('\n')
					continue
				}
				b.WriteString(mark + line)
				mark = "  "
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// under is a document with nothing but cell below a key.
func under(key string, cell hostdb.Document) hostdb.Document {
	at := hostdb.PathOf(strings.ReplaceAll(key, "\x00", ""))
	if !cell.Exists() {
		return hostdb.NewDocument(hostdb.Leaf{Path: at, Value: hostdb.Null})
	}
	var leaves []hostdb.Leaf
	for p, v := range cell.Leaves() {
		if p != "" {
			p = at + "\x00" + p
		} else {
			p = at
		}
		leaves = append(leaves, hostdb.Leaf{Path: p, Value: v})
	}
	return hostdb.NewDocument(leaves...)
}
