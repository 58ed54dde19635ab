package query

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/parser"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// compile makes a program of an expression. Of expr-lang come the grammar and the machine. Between the two every name,
// operator and function is replaced by a call of ours, so that a member chain becomes a look into the document's
// leaves and nothing is ever converted to a map, and so that each step can be counted.
//
// whole is the text that the person wrote, and expression a part of it that begins at the same column.
func compile(part, whole, expression, ns string, condition bool) (prog *program, err error) {
	p := &program{part: part, text: whole}
	if len(whole) > MaxExpression {
		return nil, p.errorAt(0, "it has %d bytes: at most %d are read", len(whole), MaxExpression)
	}
	defer func() {
		if r := recover(); r != nil { // the library's own slips on odd input
			prog, err = nil, p.errorAt(0, "the expression is not understood: %s", firstLine(fmt.Sprint(r)))
		}
	}()
	c := newRewriter(p, ns)
	tree, err := parser.ParseWithConfig(expression, c.config)
	if err != nil {
		return nil, p.foreign(err)
	}
	tree.Node = c.rewrite(tree.Node)
	if condition && c.err == nil {
		tree.Node = c.truth(tree.Node)
		p.need = required(tree.Node)
	}
	if c.err != nil {
		return nil, c.err
	}
	if _, err := checker.Check(tree, c.config); err != nil {
		return nil, p.foreign(err)
	}
	if p.code, err = compiler.Compile(tree, c.config); err != nil {
		return nil, p.foreign(err)
	}
	return p, nil
}

// path is a way into a document.
type path struct {
	base string // self or effective
	keys []string
}

type rewriter struct {
	*program
	ns     string
	words  *words
	config *conf.Config
	err    error
	seen   map[ast.Node]bool
	lets   []string
	paths  map[ast.Node]*path // calls that look into a document
	tagged map[ast.Node]bool  // calls that give all tags of a host
	truths map[ast.Node]bool  // what gives true or false for sure
}

func newRewriter(p *program, ns string) *rewriter {
	c := &rewriter{program: p, ns: ns, words: wordsOf(ns), config: conf.CreateNew(),
		seen: map[ast.Node]bool{}, paths: map[ast.Node]*path{}, tagged: map[ast.Node]bool{}, truths: map[ast.Node]bool{}}
	c.config.Optimize = false // it folds and shares what we must count
	c.config.MaxNodes = maxNodes
	for name := range c.config.Builtins {
		c.config.Disabled[name] = true
	}
	clear(c.config.Builtins)
	for name, fn := range c.words.all() {
		c.config.Functions[name] = &builtin.Function{Name: name, Func: fn.counted()}
	}
	return c
}

func (c *rewriter) fail(n ast.Node, format string, args ...any) ast.Node {
	if c.err == nil {
		c.err = c.errorAt(position(n.Location().From), format, args...)
	}
	return n
}

// call is a call of one of our functions, which see the row first.
func (c *rewriter) call(at ast.Node, name string, args ...ast.Node) ast.Node {
	env, callee := &ast.IdentifierNode{Value: "$env"}, &ast.IdentifierNode{Value: name}
	n := &ast.CallNode{Callee: callee, Arguments: append([]ast.Node{env}, args...)}
	for _, x := range []ast.Node{env, callee, n} {
		x.SetLocation(at.Location())
	}
	return n
}

func constant(at ast.Node, v any) ast.Node {
	n := &ast.ConstantNode{Value: v}
	n.SetLocation(at.Location())
	return n
}

// truth is n as true or false.
func (c *rewriter) truth(n ast.Node) ast.Node {
	if c.err != nil || c.truths[n] {
		return n
	}
	b := c.call(n, opTruth, n, constant(n, position(n.Location().From)))
	c.truths[b] = true
	return b
}

func (c *rewriter) rewrite(n ast.Node) ast.Node {
	if c.err != nil {
		return n
	}
	if c.seen[n] {
		// The parser uses one node twice; nested, that would double the work with each level.
		return c.fail(n, "comparisons cannot be chained: write a < b and b < c")
	}
	c.seen[n] = true
	switch n := n.(type) {
	case *ast.NilNode, *ast.IntegerNode, *ast.FloatNode, *ast.StringNode, *ast.ConstantNode:
		return n
	case *ast.BoolNode:
		c.truths[n] = true
		return n
	case *ast.IdentifierNode:
		return c.identifier(n)
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.ChainNode:
		return c.rewrite(n.Node)
	case *ast.MemberNode:
		return c.member(n)
	case *ast.CallNode:
		return c.function(n)
	case *ast.BuiltinNode:
		return c.predicate(n)
	case *ast.PointerNode:
		if n.Name != "" && n.Name != "index" {
			return c.fail(n, "there is no #%s: # is the item, #index its number", n.Name)
		}
		return n
	case *ast.ConditionalNode:
		if n.Cond == n.Exp1 {
			return c.fail(n, "?: is not offered: write a ?? b")
		}
		n.Cond = c.truth(c.rewrite(n.Cond))
		n.Exp1, n.Exp2 = c.rewrite(n.Exp1), c.rewrite(n.Exp2)
		return n
	case *ast.VariableDeclaratorNode:
		return c.let(n)
	case *ast.ArrayNode:
		for i := range n.Nodes {
			n.Nodes[i] = c.rewrite(n.Nodes[i])
		}
		return n
	case *ast.SliceNode:
		return c.fail(n, "slices are not offered; filter(list, #index < 3) gives the first items")
	case *ast.MapNode, *ast.PairNode:
		return c.fail(n, "mappings cannot be made here; compare the values in it one by one")
	case *ast.SequenceNode:
		return c.fail(n, "only one expression can be asked; join several by and, or")
	}
	return c.fail(n, "this is not offered in queries")
}

func (c *rewriter) identifier(n *ast.IdentifierNode) ast.Node {
	name := n.Value
	if slices.Contains(c.lets, name) {
		return n
	}
	if name == "self" || name == "effective" && c.ns == hostdb.Hosts {
		return c.look(n, &path{base: name})
	}
	if _, ok := c.words.variables[name]; ok {
		v := c.call(n, opVariable+name)
		c.tagged[v] = name == "tags"
		return v
	}
	switch near := section.Nearest(name, c.words.names(c.lets)); {
	case slices.Contains(c.words.keys, name):
	case c.words.functions[name].call != nil || predicates[name]:
		return c.fail(n, "%s is a function: write %s(...)", name, name)
	case strings.HasPrefix(name, "$"):
		return c.fail(n, "there is no %s; the whole document is self", name)
	case near != "":
		return c.fail(n, "there is no %s; did you mean %s? (a key of your own is self.%s)", name, near, name)
	default:
		c.free = append(c.free, use{name, position(n.Location().From)})
	}
	return c.look(n, &path{"self", []string{name}})
}

// look is a call that looks into a document.
func (c *rewriter) look(at ast.Node, p *path) ast.Node {
	n := c.call(at, opLook+p.base, constant(at, p))
	c.paths[n] = p
	return n
}

func (c *rewriter) member(n *ast.MemberNode) ast.Node {
	if n.Method {
		return c.fail(n, "values have no methods; functions are written before: len(tags)")
	}
	base := c.rewrite(n.Node)
	if key, ok := n.Property.(*ast.StringNode); ok {
		if p := c.paths[base]; p != nil {
			return c.look(n, &path{p.base, append(slices.Clip(p.keys), key.Value)})
		}
	}
	return c.call(n, opIndex, base, c.rewrite(n.Property))
}

func (c *rewriter) unary(n *ast.UnaryNode) ast.Node {
	switch n.Operator {
	case "not", "!":
		n.Node = c.truth(c.rewrite(n.Node))
		c.truths[n] = true
		return n
	case "-":
		switch x := n.Node.(type) { // a number, so that calls see a literal
		case *ast.IntegerNode:
			x.Value = -x.Value
			return x
		case *ast.FloatNode:
			x.Value = -x.Value
			return x
		}
		return c.call(n, opMinus, constant(n, 0), c.rewrite(n.Node))
	}
	return c.rewrite(n.Node)
}

func (c *rewriter) binary(n *ast.BinaryNode) ast.Node {
	switch n.Operator {
	case "and", "&&", "or", "||":
		n.Left, n.Right = c.rewrite(n.Left), c.rewrite(n.Right)
		n.Left, n.Right = c.truth(n.Left), c.truth(n.Right)
		c.truths[n] = true
		return n
	case "??":
		n.Left, n.Right = c.rewrite(n.Left), c.rewrite(n.Right)
		return n
	case "matches":
		return c.matches(n)
	case "..":
		return c.fail(n, "ranges are not offered: write x >= 1 and x <= 9")
	}
	name, ok := operators[n.Operator]
	if !ok {
		return c.fail(n, "the operator %s is not offered", n.Operator)
	}
	left, right := c.rewrite(n.Left), c.rewrite(n.Right)
	if tag, ok := left.(*ast.StringNode); ok && n.Operator == "in" && c.tagged[right] {
		return c.tag(n, tag)
	}
	call := c.call(n, name, left, right)
	c.truths[call] = comparisons[n.Operator]
	return call
}

// tag asks whether a host is in one tag: much less work than listing all it is in.
func (c *rewriter) tag(at ast.Node, name *ast.StringNode) ast.Node {
	c.tags = append(c.tags, use{name.Value, position(name.Location().From)})
	call := c.call(at, "tag", name)
	c.truths[call] = true
	return call
}

// matches compiles the pattern once; it is RE2, which takes time linear in the text.
func (c *rewriter) matches(n *ast.BinaryNode) ast.Node {
	pattern, ok := n.Right.(*ast.StringNode)
	if !ok {
		return c.fail(n.Right, "the pattern after matches must be a text in quotes")
	}
	re, err := regexp.Compile(pattern.Value)
	if err != nil {
		return c.fail(pattern, "the pattern cannot be read: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	call := c.call(n, opMatches, c.rewrite(n.Left), constant(pattern, re))
	c.truths[call] = true
	return call
}

func (c *rewriter) let(n *ast.VariableDeclaratorNode) ast.Node {
	if slices.Contains(c.words.names(c.lets), n.Name) || c.words.functions[n.Name].call != nil {
		return c.fail(n, "%s has a meaning already: choose another name", n.Name)
	}
	n.Value = c.rewrite(n.Value)
	c.lets = append(c.lets, n.Name)
	n.Expr = c.rewrite(n.Expr)
	c.lets = c.lets[:len(c.lets)-1]
	return n
}

func (c *rewriter) function(n *ast.CallNode) ast.Node {
	callee, ok := n.Callee.(*ast.IdentifierNode)
	if !ok {
		return c.fail(n, "values have no methods; functions are written before: len(tags)")
	}
	name := callee.Value
	fn := c.words.functions[name]
	if fn.call == nil {
		hint := didYouMean(section.Nearest(name, c.words.functionNames()))
		if hint == "" {
			hint = "; there are " + strings.Join(c.words.functionNames(), ", ")
		}
		return c.fail(n, "there is no function %s%s", name, hint)
	}
	if k := len(n.Arguments); k < fn.min || k > fn.max {
		return c.fail(n, "%s takes %s, not %d: %s", name, fn.takes(), k, fn.usage)
	}
	literal := true
	values := make([]any, len(n.Arguments))
	for i, arg := range n.Arguments {
		n.Arguments[i] = c.rewrite(arg)
		v, is := literalOf(n.Arguments[i])
		values[i], literal = v, literal && is
	}
	if c.err != nil {
		return n
	}
	if name == "tag" && literal {
		if text, ok := n.Arguments[0].(*ast.StringNode); ok {
			return c.tag(n, text)
		}
	}
	if fn.prepare != nil {
		if v, is := literalOf(n.Arguments[len(n.Arguments)-1]); is {
			ready, err := fn.prepare(v)
			if err != nil {
				return c.fail(n.Arguments[len(n.Arguments)-1], "%s", err)
			}
			n.Arguments[len(n.Arguments)-1] = constant(n.Arguments[len(n.Arguments)-1], ready)
		}
	}
	if fn.folds && literal {
		v, err := fn.call(nil, values)
		if err == nil && v == nil {
			err = fmt.Errorf("%v is not understood: %s", values[0], fn.usage)
		}
		if err != nil {
			return c.fail(n.Arguments[0], "%s", err)
		}
		return constant(n, v)
	}
	call := c.call(n, name, n.Arguments...)
	c.truths[call] = fn.truth
	return call
}

// literalOf is the value that stands in the expression itself.
func literalOf(n ast.Node) (v any, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode:
		return n.Value, true
	case *ast.FloatNode:
		return n.Value, true
	}
	return nil, false
}

// predicates are expr-lang's functions over the items of a list that are offered.
var predicates = map[string]bool{
	"any": true, "all": true, "none": true, "one": true, "filter": true, "find": true, "count": true, "map": true,
}

func (c *rewriter) predicate(n *ast.BuiltinNode) ast.Node {
	if !predicates[n.Name] || len(n.Arguments) != 2 {
		return c.fail(n, "%s is not offered in this form; lists have any, all, none, one, count, filter, find, map (with a condition on #), and len", n.Name)
	}
	n.Arguments[0] = c.call(n, opList, c.rewrite(n.Arguments[0]))
	body, ok := n.Arguments[1].(*ast.PredicateNode)
	if !ok {
		return c.fail(n, "%s takes a list and a condition on its items, as in %s(vms, # startsWith \"web\")", n.Name, n.Name)
	}
	body.Node = c.rewrite(body.Node)
	if n.Name != "map" {
		body.Node = c.truth(body.Node)
	}
	body.Node = c.call(body.Node, opStep, body.Node)
	c.truths[n] = n.Name == "any" || n.Name == "all" || n.Name == "none" || n.Name == "one"
	return n
}
