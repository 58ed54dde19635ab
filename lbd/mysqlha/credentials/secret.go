package credentials

import (
	"fmt"
	"log/slog"
)

// Secret is a text that no print, log or encoding shows: all of them have "…" instead. Its zero value is no secret at all.
type Secret struct{ text string }

// NewSecret hides a text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal is the text, for those who hand it to a server. It belongs in no error, log or argument of a program.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether there is none.
func (s Secret) IsZero() bool { return s.text == "" }

const hidden = "…"

// String is "…".
func (Secret) String() string { return hidden }

// Format prints "…" for each verb: %#v would show what is inside.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) } // a print has nobody to tell

// MarshalText encodes "…", in JSON and YAML as well.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue logs "…".
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }
