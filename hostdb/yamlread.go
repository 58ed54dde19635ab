package hostdb

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// maxNodes bounds what aliases may multiply to.
const maxNodes = 200_000

// ParseDocument reads one YAML document and keeps the spelling of its scalars. An empty text is null. Refused, with
// line and reason: more than one document, duplicate keys, mapping keys that are no scalars, merge keys (<<), tags
// other than YAML's own for strings and plain scalars, nesting over MaxDepth, aliases that explode, text that is not UTF-8.
func ParseDocument(text []byte) (Document, error) {
	if len(text) > MaxData {
		return Document{}, refuse(ErrTooLarge, "a document of %d bytes: at most %d are allowed", len(text), MaxData)
	}
	if d, ok := readPlain(string(text)); ok {
		return d, nil
	}
	return parseYAML(text)
}

// parseYAML is ParseDocument by the library.
func parseYAML(text []byte) (Document, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !utf8.Valid(text) {
		return Document{}, refuse(ErrInvalid, "the text is not UTF-8")
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var root yaml.Node
	switch err := dec.Decode(&root); {
	case errors.Is(err, io.EOF):
		return Document{leaves: []Leaf{{Value: Null}}}, nil
	case err != nil:
		return Document{}, refuse(ErrInvalid, "invalid YAML: %s", yamlReason(err))
	}
	var more yaml.Node
	if err := dec.Decode(&more); err == nil {
		return Document{}, refuse(ErrInvalid, "invalid YAML: line %d: a second document begins; one is expected", more.Line)
	} else if !errors.Is(err, io.EOF) {
		return Document{}, refuse(ErrInvalid, "invalid YAML: %s", yamlReason(err))
	}
	r := reader{budget: maxNodes}
	node := &root
	if node.Kind == yaml.DocumentNode {
		if len(node.Content) == 0 {
			return Document{leaves: []Leaf{{Value: Null}}}, nil
		}
		node = node.Content[0]
	}
	if err := r.leaves("", node, 0); err != nil {
		return Document{}, err
	}
	slices.SortFunc(r.out, func(a, b Leaf) int { return strings.Compare(string(a.Path), string(b.Path)) })
	return Document{leaves: r.out}, nil
}

func yamlReason(err error) string {
	return strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", " "), "yaml: ")
}

// reader turns nodes into leaves.
type reader struct {
	out    []Leaf
	budget int
}

func (r *reader) enter(n *yaml.Node, depth int) (*yaml.Node, error) {
	if r.budget--; r.budget < 0 {
		return nil, refuse(ErrInvalid, "invalid YAML: line %d: more than %d nodes; do aliases multiply?", n.Line, maxNodes)
	}
	if depth > MaxDepth || depth == MaxDepth && (n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode) {
		return nil, refuse(ErrInvalid, "invalid YAML: line %d: nested deeper than %d levels", n.Line, MaxDepth)
	}
	if n.Kind == yaml.AliasNode {
		return r.enter(n.Alias, depth+1)
	}
	if n.Style&yaml.TaggedStyle != 0 {
		switch n.ShortTag() {
		case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!map", "!!seq":
		default:
			return nil, refuse(ErrInvalid, "invalid YAML: line %d: tag %s is not supported", n.Line, n.Tag)
		}
	}
	return n, nil
}

func (r *reader) leaves(at Path, n *yaml.Node, depth int) error {
	n, err := r.enter(n, depth)
	if err != nil {
		return err
	}
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		v, err := r.value(n, depth)
		if err != nil {
			return err
		}
		r.out = append(r.out, Leaf{Path: at, Value: v})
		return nil
	}
	return r.pairs(n, func(key string, val *yaml.Node) error {
		p := Path(key)
		if at != "" {
			p = at + "\x00" + p
		}
		return r.leaves(p, val, depth+1)
	})
}

// pairs calls fn for each pair of a mapping, after it has refused what keys must not be.
func (r *reader) pairs(n *yaml.Node, fn func(key string, val *yaml.Node) error) error {
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		for k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			return refuse(ErrInvalid, "invalid YAML: line %d: a mapping key must be a scalar", k.Line)
		}
		if k.Value == "<<" && k.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 {
			return refuse(ErrInvalid, "invalid YAML: line %d: merge keys (<<) are not supported; write the values out", k.Line)
		}
		if err := checkSegment(k.Value); err != nil {
			return refuse(ErrInvalid, "invalid YAML: line %d: %s", k.Line, err)
		}
		if line, dup := seen[k.Value]; dup {
			return refuse(ErrInvalid, "invalid YAML: line %d: key %q stands already on line %d", k.Line, k.Value, line)
		}
		seen[k.Value] = k.Line
		if err := fn(k.Value, n.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// value encodes a node that becomes one leaf, or a part of one.
func (r *reader) value(n *yaml.Node, depth int) (Value, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		plain := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
		if n.Style&yaml.TaggedStyle != 0 && n.ShortTag() == "!!str" {
			plain = false
		}
		if !plain || !ambiguous(n.Value) {
			return Text(n.Value), nil
		}
		if n.Value == "" {
			return Null, nil
		}
		return Value("p" + n.Value), nil
	case yaml.SequenceNode:
		b := []byte{'l'}
		for _, c := range n.Content {
			c, err := r.enter(c, depth+1)
			if err != nil {
				return "", err
			}
			v, err := r.value(c, depth+1)
			if err != nil {
				return "", err
			}
			b = appendPart(b, string(v))
		}
		return Value(b), nil
	case yaml.MappingNode:
		type pair struct {
			key string
			val Value
		}
		var ps []pair
		err := r.pairs(n, func(key string, val *yaml.Node) error {
			c, err := r.enter(val, depth+1)
			if err != nil {
				return err
			}
			v, err := r.value(c, depth+1)
			ps = append(ps, pair{key, v})
			return err
		})
		if err != nil {
			return "", err
		}
		slices.SortFunc(ps, func(a, b pair) int { return strings.Compare(a.key, b.key) })
		b := []byte{'m'}
		for _, p := range ps {
			b = appendPart(appendPart(b, p.key), string(p.val))
		}
		return Value(b), nil
	}
	return "", refuse(ErrInvalid, "invalid YAML: line %d: unexpected kind of node", n.Line)
}
