package section

import (
	"fmt"
	"io"
	"strings"
)

const manual = `# Facts and sections

<!-- Made from the comments of hostdb/section by: go test ./hostdb/section -run Manual -update -->

A host's document in ` + "`hosts`" + ` carries facts. A tag's document in ` + "`tags`" + ` carries sections: what hostmesh does for the tag, or makes of its members.
` + "`hostmesh schema`" + ` prints this page's tables on a terminal, and as JSON with ` + "`-o json`" + `.

## How values are written

| kind | written as |
|---|---|
| duration | numbers with units, ` + "`1h30m`, `14d`, `500ms`" + `: w, d, h, m, s, ms. Only what is counted in seconds takes a bare number as well. |
| size | a number with a unit, ` + "`2GiB`, `1.5TiB`, `960GB`" + `: KiB, MiB, GiB, TiB, PiB count in 1024, kB, MB, GB, TB, PB in 1000. |
| on or off | on, off, yes, no, true, false |
| list | a YAML list, or a single value for a list of one |
| absent | leave the key out; null and an empty text are the same |

## What is refused

- A value of a section that cannot be read, or does not fit the others: the write is refused, with the path, the value and what was expected.
- An unknown key in a section that looks like a slip of a known one: refused, with the name that was probably meant. Another one is kept, does nothing, and warns.
- An unknown section that looks like a slip of a known one warns. Any other key beside the sections is the site's own.
- Host facts only warn, and so does an import (` + "`hostmesh db import`" + `): inventories are old. What was wrong before a write only warns, too.

What cannot be read counts as absent for everybody who acts on it.

## How the tags of a host combine

Guest, Puppet, Monitoring, Backup, Logs and whatever else a site keeps in its tags reach each member. A host's own document beats a tag that lists the host, which beats a tag
that it inherits; then the higher ` + "`Priority`" + ` wins, then the name that is first in the alphabet. Mappings merge, key by key; a text or a list is taken whole from
the strongest that has one; null says nothing. Two tags of equal strength that say different things are shown by ` + "`hostmesh doctor`" + `: one of them should have a
` + "`Priority`" + `. ` + "`hostmesh explain HOST`" + ` shows where each value comes from.

DNS, Subnet, LB, Group, MySQL and Service describe the tag itself, and never combine.
`

// WriteMarkdown writes the manual of all facts and sections: docs/sections.md.
func WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString(manual)
	for _, d := range Schema() {
		title := d.Name
		switch d.Name {
		case "Host":
			title = "Host facts"
		case "Tag":
			title = "Sections of a tag"
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n```yaml\n%s```\n\n", title, cell(d.Doc), d.yaml())
		b.WriteString("| key | takes | default | example | meaning |\n|---|---|---|---|---|\n")
		for _, f := range d.Fields {
			state := ""
			switch {
			case f.Required != "":
				state = "*" + f.state() + "*"
			case f.Default != "":
				state = code(f.Default)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", code(f.Path), f.limits(), state, code(f.Example), cell(f.Doc))
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing the manual of sections: %w", err)
	}
	return nil
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(text, "|", `\|`) + "`"
}

// cell is prose for Markdown: angle brackets, stars and bars are themselves.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "<", "&lt;").Replace(text)
}
