package section

// Placement says which virtual machines should share a box, a rack or a datacenter, and which should not. It counts when
// a place is chosen; machines that run stay where they are.
type Placement struct {
	// Spread is what two members of the tag should not share, as far as there are enough. It beats the Spread of Group.
	Spread Spread `example:"rack"`
	// Apart are tags whose machines the members should not share a place with: what not to share, by tag.
	Apart map[string]Spread `keys:"key" example:"{shop-db: box}"`
	// Together are tags whose machines the members should be near: what to share, by tag.
	Together map[string]Spread `keys:"key" example:"{shop-cache: rack}"`
	// Strict leaves a member without a box rather than break Spread or Apart.
	Strict bool `example:"on"`
}

func (p *Placement) defaults() {
	p.Spread = SpreadBox // the loss of one box should not take two
	p.Strict = false     // a machine in the wrong place mostly beats none
}

func (Placement) example() string {
	return `Spread: rack
Apart: {shop-db: box}
Together: {shop-cache: rack}
Strict: off
`
}
