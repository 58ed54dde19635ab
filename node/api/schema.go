package api

// Schemas describes the sections of tags and the facts of hosts.
type Schemas interface {
	// Schemas are sorted by kind, then name.
	Schemas() []Schema
}

// Kinds of a Schema.
const (
	KindTagSection = "tag" // acts on the members of the tag it stands in
	KindHostFact   = "host"
)

// Schema describes one section.
type Schema struct {
	Name    string  `json:"name" doc:"The key in the document"`
	Kind    string  `json:"kind" enum:"tag,host" doc:"Where it belongs: the document of a tag or of a host"`
	Doc     string  `json:"doc"`
	Fields  []Field `json:"fields" nullable:"false"`
	Example string  `json:"example,omitempty" doc:"YAML"`
}

// Field describes one field of a section.
type Field struct {
	Path    string `json:"path" doc:"From the section down, with slashes; <name> stands for any key"`
	Type    string `json:"type" doc:"What may stand there, in words"`
	Default string `json:"default,omitempty"`
	Doc     string `json:"doc,omitempty"`
}
