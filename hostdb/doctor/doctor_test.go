package doctor

import (
	"testing"
)

func TestExampleInventory(t *testing.T) {
	s := open(t)
	loadExample(t, s)
	if got := text(examine(t, s.View(), Options{})); got != "" {
		t.Errorf("the example has\n%s", got)
	}
}
