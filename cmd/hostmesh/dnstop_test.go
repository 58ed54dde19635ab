package main

import (
	"strings"
	"testing"
)

func TestDNSTop(t *testing.T) {
	code, out, errs := hostmesh(t, "--socket", (&fakeAgent{}).serve(t), "dns", "top", "--most", "1")
	if code != exitDone || errs != "" || !strings.Contains(out, "dc1.example.com") || !strings.Contains(out, "10.1.0.9") || strings.Contains(out, "REFUSED") {
		t.Errorf("exit code %d: %s\n%s", code, errs, out)
	}
}
