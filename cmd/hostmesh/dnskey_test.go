package main

import (
	"strings"
	"testing"
)

// A secret that the agent would not take is refused before it is sent anywhere, and without being shown.
func TestSecretOfAFile(t *testing.T) {
	for text, ok := range map[string]bool{
		"c2VjcmV0\n": true, strings.Repeat("A", 1024): true, strings.Repeat("A", 1025): false, "": false, "two words": false,
	} {
		got, err := (&app{stdin: strings.NewReader(text)}).readSecret("-")
		if (err == nil) != ok || ok && got != strings.TrimSpace(text) {
			t.Errorf("%d bytes: %v", len(text), err)
		}
		if err != nil && text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error has the secret: %v", err)
		}
	}
}
