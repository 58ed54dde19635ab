package mysqlha

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrState is returned for what cannot be done with a cluster as it stands. The text says why, and what to do.
var ErrState = errors.New("it cannot be done with the cluster as it stands")

func cannotDo(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrState, fmt.Sprintf(format, args...))
}

// Done is what became of a command.
type Done struct {
	Epoch   uint64        `json:"epoch,omitempty"`
	Primary string        `json:"primary,omitempty"`
	Took    time.Duration `json:"took,omitempty"`
	Loss    string        `json:"loss,omitempty"`
	// Begun says that it goes on in the background.
	Begun bool     `json:"begun,omitempty"`
	Lines []string `json:"lines,omitempty"`
}

// command runs what a person asked for, between two decisions.
func (w *Watch) command(ctx context.Context, do func(ctx context.Context, c *Cluster, o *Observations, d *Done) error) (Done, error) {
	var d Done
	began := w.clock.Now()
	err := w.ask(ctx, func(ctx context.Context, c *Cluster, o *Observations) error {
		if w.cfg.Observe {
			return cannotDo("the agent that watches over %s only observes (--observe): ask one that does not", c.Tag)
		}
		if c.RecordError != "" {
			return cannotDo("the cluster's record cannot be read: %s", c.RecordError)
		}
		err := do(ctx, c, o, &d)
		d.Epoch, d.Primary, d.Took = w.runner.rec.Epoch, w.runner.rec.Primary, w.clock.Now().Sub(began)
		return err
	})
	if err != nil {
		return Done{}, err // what the goroutine still writes is not looked at
	}
	return d, nil
}

func needRecord(c *Cluster) error {
	if !c.HasRecord {
		return fmt.Errorf("%s: %w", c.Tag, ErrNoRecord)
	}
	return nil
}

// Switchover has another server take the writes, without loss. to "" = the one that is best.
func (w *Watch) Switchover(ctx context.Context, to, by, why string) (Done, error) {
	return w.command(ctx, func(ctx context.Context, c *Cluster, o *Observations, d *Done) error {
		if err := needRecord(c); err != nil {
			return err
		}
		if i := c.Record.Intent; i != nil {
			return cannotDo("a %s is at step %s: wait for it, or see hostmesh mysql explain %s", i.Kind, i.Step, c.Tag)
		}
		if to == "" {
			if to = best(c, o); to == "" {
				return cannotDo("no replica of %s has all that the primary has: see hostmesh mysql status %s", c.Tag, c.Tag)
			}
		}
		old, _ := c.Known(c.Record.Primary)
		next, ok := c.Member(to)
		if !ok {
			return cannotDo("%s is no member of %s: hostmesh tag add %[1]s %[2]s -m WHY makes it one", to, c.Tag)
		}
		// What can be known before is no reason for a change that is taken back.
		if err := w.runner.checkPlanned(ctx, c, o, old, next); err != nil {
			return cannotDo("%v", err)
		}
		if err := w.runner.Begin(ctx, Intent{Kind: Switchover, To: to, Why: cmp.Or(why, "it was asked for"), By: by}); err != nil {
			return err
		}
		err := w.runner.Continue(ctx, c, o)
		w.acts(err)
		if err != nil || w.runner.rec.Intent != nil {
			return w.begun(c.Tag, cmp.Or(err, errLater))
		}
		if w.runner.rec.Primary != to {
			return cannotDo("it was taken back, and %s takes writes as before: %s", w.runner.rec.Primary, lastEvent(w.runner.rec))
		}
		d.Lines = append(d.Lines, lastEvent(w.runner.rec))
		return nil
	})
}

func lastEvent(r Record) string {
	if len(r.History) == 0 {
		return ""
	}
	return r.History[0].What
}

// begun is what a person is told of a change that has begun and did not end at once.
func (w *Watch) begun(tag string, err error) error {
	i := w.runner.rec.Intent
	var stop stopped
	switch {
	case i == nil:
	case errors.As(err, &stop):
		return cannotDo("the %s has begun, and has stopped at step %s: %s. It goes on by itself when they are back, or %s is; hostmesh mysql failover %s --force -m WHY accepts that transactions are lost", i.Kind, i.Step, stop.why, i.Old, tag)
	default:
		return fmt.Errorf("the %s has begun, is at step %s, and goes on in the background, see hostmesh mysql status %s: %w", i.Kind, i.Step, tag, err)
	}
	return err
}

func (w *Watch) acts(err error) {
	w.did(Action{Act: ActContinue, For: IntentOpen}, err)
}

// best is the replica to which a planned change goes.
func best(c *Cluster, o *Observations) string {
	list := slices.Clone(c.Members)
	slices.SortStableFunc(list, func(a, b Member) int {
		return cmp.Or(boolFirst(a.Drained == "", b.Drained == ""), boolFirst(o.Servers[a.Host].able(), o.Servers[b.Host].able()), boolFirst(slices.Contains(c.Record.Ackers, a.Host), slices.Contains(c.Record.Ackers, b.Host)),
			boolFirst(!behind(o.Servers[a.Host]), !behind(o.Servers[b.Host])), boolFirst(!Unapplied(o.Servers[a.Host].Facts), !Unapplied(o.Servers[b.Host].Facts)), cmp.Compare(a.Host, b.Host))
	})
	for _, m := range list {
		if m.Host != c.Record.Primary && fit(c, m, o.Servers[m.Host]) == "" && o.Servers[m.Host].answers(o.Now) && healthy(o.Servers[m.Host].Facts) && o.Busy[m.Host] == "" {
			return m.Host
		}
	}
	return ""
}

// behind reports whether clients would wait for a server in a planned change.
func behind(s Sight) bool {
	r := s.Facts.Replica
	return r != nil && r.Lag != nil && *r.Lag > time.Second
}

// Failover replaces a primary that is gone. With force, a change that has stopped goes on, and what only hosts have that are away may be lost.
func (w *Watch) Failover(ctx context.Context, force bool, by, why string) (Done, error) {
	return w.command(ctx, func(ctx context.Context, c *Cluster, o *Observations, d *Done) error {
		if err := needRecord(c); err != nil {
			return err
		}
		list := Diagnose(c, o)
		if force {
			// A record that is older than what hosts have seen goes on above that.
			if seen := w.runner.seen(ctx, c); (Order{Epoch: c.Record.Epoch, Fence: w.cfg.Fence}).Before(seen) {
				if err := w.runner.store(ctx, func(rec *Record) { rec.Epoch = seen.Epoch + 1 }); err != nil {
					return err
				}
			}
		}
		switch i := c.Record.Intent; {
		case i != nil && i.Step != StepOpen && i.Kind == Failover && force:
			if err := w.runner.store(ctx, func(rec *Record) {
				rec.Intent.Forced, rec.Intent.By, rec.Intent.Stopped = true, by, ""
				if rec.Intent.Step == StepWithdraw {
					rec.beginAnew("a person wants another primary")
				}
			}); err != nil {
				return err
			}
		case i != nil && i.Stopped != "":
			return cannotDo("the %s has stopped: %s. It goes on by itself when they are back, or %s is; --force -m WHY goes on at once, and accepts that transactions are lost", i.Kind, i.Stopped, i.Old)
		case i != nil && i.Step != StepOpen: // the one that opens is the primary, and can be gone like any other
			return cannotDo("a %s is at step %s already: hostmesh mysql explain %s says what it waits for", i.Kind, i.Step, c.Tag)
		default:
			_, down := primaryDown(list)
			_, lost := has(list, PrimaryLost, "")
			_, stuck := hangs(o, c.Record.Primary, list)
			if !down && !lost && !stuck && !force {
				return cannotDo("%s is not gone for sure (%s): hostmesh mysql switchover %s hands over; --force -m WHY kills it", c.Record.Primary, list[0].Text, c.Tag)
			}
			if why := hopeless(c, o, c.Record.Primary); why != "" {
				return cannotDo("no replica could take over from %s: %s", c.Record.Primary, why)
			}
			if why := cannot(c, o); why != "" && !force {
				return cannotDo("%s; --force -m WHY goes on, and accepts that transactions are lost", why)
			}
			if err := w.runner.Begin(ctx, Intent{Kind: Failover, Why: cmp.Or(why, list[0].Text), By: by, Forced: force, Spoilt: lost}); err != nil {
				return err
			}
		}
		cc := *c
		cc.Record = w.runner.rec.Clone()
		err := w.runner.Continue(ctx, &cc, o)
		w.acts(err)
		if err != nil || w.runner.rec.Intent != nil {
			return w.begun(c.Tag, cmp.Or(err, errLater))
		}
		d.Lines = append(d.Lines, lastEvent(w.runner.rec))
		d.Loss = lossOf(w.runner.rec)
		if cc.Record = w.runner.rec; cc.unheard() {
			d.Lines = append(d.Lines, fmt.Sprintf("%s takes no writes before a replica acknowledges, for Durability is strict: bring one back, or give the tag to another host; or let writes stand on %[1]s alone: %s",
				cc.Record.Primary, availableOf(c.Tag)))
		}
		return nil
	})
}

// availableOf is the command by which writes go on without a replica.
func availableOf(tag string) string {
	return fmt.Sprintf(`hostmesh db set tags/%s/MySQL/Durability available -m WHY`, tag)
}

func lossOf(r Record) string {
	if len(r.History) == 0 {
		return ""
	}
	return r.History[0].Loss
}

// Ack says that a person knows of the last failover: another may follow within the hour.
func (w *Watch) Ack(ctx context.Context, by, why string) (Done, error) {
	return w.edit(ctx, func(rec *Record) string {
		rec.AckedBy = by
		return "the last failover was acknowledged: " + why
	}, by)
}

// Pause ends automatic acts; a change that has begun is finished. Resume takes that back.
func (w *Watch) Pause(ctx context.Context, by, why string) (Done, error) {
	return w.edit(ctx, func(rec *Record) string {
		rec.Paused = &Paused{By: by, Since: w.clock.Now(), Why: why}
		return "paused: " + why
	}, by)
}

// Resume has it act by itself again.
func (w *Watch) Resume(ctx context.Context, by, why string) (Done, error) {
	return w.edit(ctx, func(rec *Record) string {
		rec.Paused = nil
		return "resumed: " + why
	}, by)
}

func (w *Watch) edit(ctx context.Context, edit func(rec *Record) string, by string) (Done, error) {
	return w.command(ctx, func(ctx context.Context, c *Cluster, _ *Observations, d *Done) error {
		if err := needRecord(c); err != nil {
			return err
		}
		return w.runner.store(ctx, func(rec *Record) {
			what := edit(rec)
			rec.Note(Event{At: w.clock.Now(), Epoch: rec.Epoch, What: what, By: by})
			d.Lines = []string{what}
		})
	})
}

// Rejoin begins to make a server a replica again, in the background: by what it has where that can be, else by a clone.
func (w *Watch) Rejoin(ctx context.Context, host, by string) (Done, error) {
	return w.background(ctx, Action{Act: ActRejoin, Host: host, For: OldPrimary, Why: "asked for by " + by}, by, true)
}

// Clone begins to make a server a copy of another, in the background: its data are replaced. from "" = the best.
func (w *Watch) Clone(ctx context.Context, from, to, by string) (Done, error) {
	return w.background(ctx, Action{Act: ActClone, Host: to, From: from, For: ReplicaNew, Asked: true, Why: "asked for by " + by}, by, false)
}

func (w *Watch) background(ctx context.Context, a Action, by string, mark bool) (Done, error) {
	return w.command(ctx, func(_ context.Context, c *Cluster, o *Observations, d *Done) error {
		if err := needRecord(c); err != nil {
			return err
		}
		if evidence := c.lost(o); len(evidence) > 0 {
			return cannotDo("%s, the primary, has lost data (%s), and nothing is made like it: hostmesh mysql failover %s has a replica take over", c.Record.Primary, evidence[0], c.Tag)
		}
		_, member := c.Member(a.Host)
		p := o.Servers[c.Record.Primary]
		if a.Act == ActClone && member && a.Host != c.Record.Primary && c.Record.Intent == nil && p.answers(o.Now) && uncopyable(c, o) {
			if from := cmp.Or(a.From, cloneFrom(c, o, a.Host)); from == c.Record.Primary || from == "" && o.lent(c.Record.Primary) { // that does not end, either
				return w.released(c, o, a.Host, by, d)
			}
		}
		switch {
		case !member:
			return cannotDo("%s is no member of %s: hostmesh tag add %[1]s %[2]s -m WHY makes it one", a.Host, c.Tag)
		case a.Host == c.Record.Primary:
			return cannotDo("%s is the primary: hostmesh mysql switchover %s first", a.Host, c.Tag)
		case c.Record.Intent != nil:
			return cannotDo("a %s is at step %s: wait for it", c.Record.Intent.Kind, c.Record.Intent.Step)
		case o.Busy[a.Host] != "":
			return cannotDo("%s: %s", a.Host, o.Busy[a.Host])
		case !p.answers(o.Now) || p.Facts.ReadOnly && !c.unheard(): // one that waits for the first replica has it made
			return cannotDo("the primary, %s, takes no writes: what would be copied or followed is not known", c.Record.Primary)
		case a.Act == ActClone && c.Strict() && slices.Equal(c.Record.Ackers, []string{a.Host}) && o.Servers[a.Host].answers(o.Now):
			// Writes that wait for nobody never end, and no copy can be made of a server that has such.
			return cannotDo("%s alone acknowledges, and Durability is strict: without it writes would wait, and the copy of %s for them. Wait until another acknowledges (hostmesh mysql status %s), or set Durability: available for so long", a.Host, c.Record.Primary, c.Tag)
		case a.Act == ActClone && a.From == "":
			if a.From = cloneFrom(c, o, a.Host); a.From == "" {
				return cannotDo("no server can be copied now: the agents of all others are away, or copies for other hosts are made of them (hostmesh mysql status %s): wait for these, or name the server", c.Tag)
			}
		case a.Act == ActClone && o.lent(a.From):
			return cannotDo("a copy for %s is made of %s: wait until that is done (hostmesh mysql status %s), or name another server", cmp.Or(o.Lends[a.From], "another host"), a.From, c.Tag)
		case a.Act == ActClone && a.From != c.Record.Primary && o.Servers[a.From].unproven() != "":
			return cannotDo("%s is not copied: %s; name another server", a.From, o.Servers[a.From].unproven())
		case a.Act == ActClone && a.From == a.Host:
			return cannotDo("%s cannot be a copy of itself", a.Host)
		}
		if a.Act == ActClone && a.From != c.Record.Primary {
			if _, ok := c.Member(a.From); !ok {
				return cannotDo("%s is no member of %s, so it cannot be copied: name one, or - for the best", a.From, c.Tag)
			}
		}
		// What it had acknowledged goes with its data: it must not count.
		if slices.Contains(c.Record.Ackers, a.Host) {
			m, _ := c.Member(a.Host)
			if o.Servers[a.Host].answers(o.Now) {
				if err := w.runner.silence(w.run, m); err != nil {
					return err
				}
			} else if !o.Servers[a.Host].down() { // in available, too: a failover would not say that what it alone acknowledged is lost
				return cannotDo("%s acknowledges, and does not answer: stop its server first", a.Host)
			}
			if err := w.runner.spared(w.run, c, a.Host); err != nil {
				return cannotDo("%v: try again when one has, see hostmesh mysql status %s", err, c.Tag)
			}
		}
		if slices.Contains(c.Record.Ackers, a.Host) || mark && c.Record.Fenced[a.Host] == "" {
			if err := w.runner.store(w.run, func(rec *Record) {
				rec.Ackers = without2(rec.Ackers, a.Host)
				if mark {
					if rec.Fenced == nil {
						rec.Fenced = map[string]string{}
					}
					rec.Fenced[a.Host] = a.Why
				}
			}); err != nil {
				return err
			}
		}
		cc := *c
		cc.Record = w.runner.rec.Clone()
		w.long(w.run, &cc, a)
		d.Begun = true
		d.Lines = []string{fmt.Sprintf("%s of %s has begun", a.Act, a.Host)}
		return nil
	})
}

// enginesBound is for the look at all tables.
const enginesBound = 10 * time.Second

// Engines are the tables that are not InnoDB's, of the primary, or of the first server that answers where none is known, and whose they are.
func (w *Watch) Engines(ctx context.Context) (host string, engines map[string]string, err error) {
	p := w.Picture()
	if p == nil {
		return "", nil, cannotDo("the servers were not looked at yet")
	}
	var at *Member
	for _, m := range slices.Concat(p.Cluster.Members, p.Cluster.Others) {
		if s := p.Observations.Servers[m.Host]; m.Unfit == "" && s.answers(p.Observations.Now) && (at == nil || m.Host == p.Cluster.Record.Primary) {
			at = &m
		}
	}
	if at == nil {
		return "", nil, cannotDo("no server answers")
	}
	ctx, cancel := context.WithTimeout(ctx, enginesBound)
	defer cancel()
	engines, err = w.cfg.World.Server(*at).Engines(ctx)
	return at.Host, engines, err
}

// Setup makes the record of a cluster that has none, and sets what its servers need. primary "" = the one that others follow, or the only one that takes writes.
// Without apply it only says what it would do.
func (w *Watch) Setup(ctx context.Context, primary string, apply bool, by string) (Done, error) {
	return w.command(ctx, func(ctx context.Context, c *Cluster, o *Observations, d *Done) error {
		o = w.runner.look(ctx, everybody(c), o)
		seen := w.runner.seen(ctx, c)
		lost := c.HasRecord && Order{Epoch: c.Record.Epoch, Fence: w.cfg.Fence}.Before(seen)
		cc := *c
		gone := c.lost(o)
		kept := len(gone) > 0 && primary == c.Record.Primary // what it has now is what a person wants
		if lost || kept {
			cc.HasRecord, cc.Record = false, Record{} // who is the primary, and who acknowledges, only the servers can say
		}
		plan, err := PlanSetup(&cc, o, primary)
		if err != nil {
			return err
		}
		d.Lines = plan.Lines
		if lost {
			d.Lines = append([]string{fmt.Sprintf("the record, at epoch %d and number %d, is older than what hosts have seen, epoch %d and number %d, and they refuse its orders: a later one was lost, as with the group "+
				"that grants duties. It is made anew, by what the servers say, at epoch %d", c.Record.Epoch, w.cfg.Fence, seen.Epoch, seen.Fence, seen.Epoch+1)}, d.Lines...)
		}
		if kept {
			d.Lines = append([]string{fmt.Sprintf("%s has lost data (%s). The cluster goes on with what it has: what replicas have beyond that stays there, until a person has them made copies (hostmesh mysql clone %s - HOST)",
				primary, strings.Join(gone, "; "), c.Tag)}, d.Lines...)
		}
		if !apply {
			return nil
		}
		for _, host := range plan.hosts() {
			m, _ := c.Member(host)
			restart, err := w.applySettings(ctx, m, plan.Settings[host])
			if err != nil {
				return fmt.Errorf("%s: set what is wrong: %w", host, err)
			}
			for _, s := range restart {
				d.Lines = append(d.Lines, fmt.Sprintf("%s: %s = %s belongs into its file, and needs a restart: %s", host, s.Name, s.Want, s.Why))
			}
		}
		if c.HasRecord && !lost && !kept {
			return nil
		}
		epoch := seen.Epoch + 1
		if !c.HasRecord {
			w.runner.rec, w.runner.version, w.runner.loaded = Record{}, 0, true
		}
		return w.runner.store(ctx, func(rec *Record) {
			was := *rec
			*rec = Record{Format: RecordFormat, Epoch: epoch, Primary: plan.Primary, Position: cmp.Or(o.Servers[plan.Primary].Facts.Current, noPosition), Durability: string(c.MySQL.Durability), LastFailover: was.LastFailover, AckedBy: was.AckedBy, Paused: was.Paused, History: was.History, Fenced: was.Fenced}
			delete(rec.Fenced, plan.Primary)
			for _, m := range c.Members {
				if cc.stray(o.Servers[m.Host], m.Host, plan.Primary) && !kept {
					rec.Ackers = append(rec.Ackers, m.Host) // it acknowledges already; that it has all is established later
				}
			}
			rec.Note(Event{At: w.clock.Now(), Epoch: epoch, What: "set up, with " + plan.Primary + " as the primary", By: by})
		})
	})
}

func (w *Watch) applySettings(ctx context.Context, m Member, list []Setting) (restart []Setting, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	err = w.runner.bounded(ctx, planBound, func(ctx context.Context) error {
		restart, err = w.cfg.World.Server(m).Apply(ctx, list)
		return err
	})
	return restart, err
}

// SetupPlan is what Setup would do.
type SetupPlan struct {
	Primary  string
	Settings map[string][]Setting // host -> what is set
	Lines    []string
}

func (p *SetupPlan) hosts() []string {
	var out []string
	for h := range p.Settings {
		out = append(out, h)
	}
	slices.Sort(out)
	return out
}

// PlanSetup says what makes servers a cluster. It is a pure function. Nobody's role changes by it: the primary is the one that is, and others that are not its replicas
// yet become copies later, unless they have data of their own.
func PlanSetup(c *Cluster, o *Observations, primary string) (SetupPlan, error) {
	p := SetupPlan{Settings: map[string][]Setting{}}
	if c.HasRecord {
		if primary != "" && primary != c.Record.Primary {
			return p, cannotDo("%s has a primary, %s: hostmesh mysql switchover %s --to %s", c.Tag, c.Record.Primary, c.Tag, primary)
		}
		primary = c.Record.Primary
	}
	followed := map[string]bool{}
	var writers []string
	for _, m := range c.Members {
		s := o.Servers[m.Host]
		if !s.answers(o.Now) {
			continue
		}
		if why := Supported(s.Facts); why != "" {
			return p, cannotDo("%s: %s", m.Host, why)
		}
		if s.Facts.Replica == nil && !s.Facts.ReadOnly {
			writers = append(writers, m.Host)
		}
		for _, x := range c.Members {
			if c.follows(s.Facts, x.Host) {
				followed[x.Host] = true
			}
		}
	}
	if primary == "" {
		var roots []string
		for _, m := range c.Members {
			if s := o.Servers[m.Host]; followed[m.Host] && s.answers(o.Now) && s.Facts.Replica == nil {
				roots = append(roots, m.Host)
			}
		}
		switch {
		case len(roots) == 1 && len(writers) <= 1:
			primary = roots[0]
		case len(roots) == 0 && len(writers) == 1:
			primary = writers[0]
		case len(roots) == 0 && len(writers) == 0:
			return p, cannotDo("no server takes writes, and none is followed: name the one that has the data, --primary HOST")
		default:
			return p, cannotDo("%v take writes, %v are followed: which is the primary? Set read_only=1 on the others, and name it, --primary HOST", writers, roots)
		}
	}
	s := o.Servers[primary]
	if _, ok := c.Member(primary); !ok {
		return p, cannotDo("%s is no member of %s: hostmesh tag add %[1]s %[2]s -m WHY makes it one", primary, c.Tag)
	}
	if !s.answers(o.Now) {
		return p, cannotDo("%s does not answer: %s", primary, s.Error)
	}
	if s.Facts.Replica != nil {
		return p, cannotDo("%s follows %s: it is no primary", primary, s.Facts.Replica.SourceHost)
	}
	for _, h := range writers {
		if h != primary {
			return p, cannotDo("%s takes writes, too: set read_only=1 there first, and look whether its data are wanted", h)
		}
	}
	p.Primary = primary
	p.Lines = append(p.Lines, primary+" is the primary")
	for _, m := range c.Members {
		s := o.Servers[m.Host]
		role := OnReplica
		switch {
		case m.Host == primary:
			role = OnPrimary
		case !s.answers(o.Now):
			p.Lines = append(p.Lines, m.Host+" does not answer: nothing is set there; it becomes a replica when it does")
			continue
		case c.follows(s.Facts, primary):
			p.Lines = append(p.Lines, m.Host+" follows it")
		case s.Facts.Binlog == "":
			p.Lines = append(p.Lines, m.Host+" has no transactions: it becomes a copy")
		default:
			extra, err := Errant(s.Facts, o.Servers[primary].Facts, false)
			if err != nil {
				return p, cannotDo("%s: %v", m.Host, err)
			}
			if !extra.Empty() {
				p.Lines = append(p.Lines, fmt.Sprintf("%s has transactions of its own (%s): nothing is done with it before hostmesh mysql clone %s - %s", m.Host, extra, c.Tag, m.Host))
			} else {
				p.Lines = append(p.Lines, m.Host+" is set to follow it")
			}
		}
		for _, x := range Check(s.Facts, role, c.Strict()) {
			if x.Name == "rpl_semi_sync_slave_enabled" || x.Name == "rpl_semi_sync_replica_enabled" || x.Name == "rpl_semi_sync_master_enabled" || x.Name == "rpl_semi_sync_source_enabled" {
				continue // set in the order that is safe, by whoever watches
			}
			p.Settings[m.Host] = append(p.Settings[m.Host], x)
			p.Lines = append(p.Lines, fmt.Sprintf("%s: %s is %s, and is to be %s: %s", m.Host, x.Name, x.Have, x.Want, x.Why))
		}
	}
	switch {
	case !c.Strict():
		p.Lines = append(p.Lines, "Durability is available: a failover may lose the last transactions")
	case c.HasRecord && len(c.Record.Ackers) > 0 || followed[primary]:
	case s.Facts.ReadOnly:
		p.Lines = append(p.Lines, fmt.Sprintf("warning: Durability is strict, and nobody replicates from %s: it takes no writes before a replica has its data and acknowledges. To have it take them at once: %s", primary, availableOf(c.Tag)))
	default:
		p.Lines = append(p.Lines, fmt.Sprintf("warning: Durability is strict, and nobody replicates from %s: what is written stands there alone until the first replica has its data and acknowledges, and if its server is started anew before that "+
			"it takes no writes until then. To have it take them all the same: %s", primary, availableOf(c.Tag)))
	}
	return p, nil
}
