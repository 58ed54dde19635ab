package mesh

import "testing"

// TestWeight: nodes of different versions must rank alike.
func TestWeight(t *testing.T) {
	for _, c := range []struct {
		parts []string
		want  uint64
	}{
		{nil, 0xf52a15e9a9b5e89b},
		{[]string{"lb/10.1.0.53", "0123456789abcdef0123456789abcdef"}, 0x21670d85b99baf7c},
		{[]string{"a", "bc"}, 0x437110b80c49f14f},
		{[]string{"ab", "c"}, 0x98a59aeabd442a78},
	} {
		if got := Weight(c.parts...); got != c.want {
			t.Errorf("%q weighs %#x, want %#x", c.parts, got, c.want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { Weight("lb/10.1.0.53", "n") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
