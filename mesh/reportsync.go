package mesh

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hostmesh/mesh/report"
)

// How reports travel. A change is told to a few members at once, and passed on by each for whom it was news: within a few
// round trips it is everywhere. What that misses, the comparison with a random member finds.
const (
	// reportFanout is to how many members a node tells news: by 4, a thousand are reached in five hops.
	reportFanout = 4
	// reportGap is how long a node keeps news after it told some: 40 messages a second to each of those few at most, be there
	// ever so many changes.
	reportGap = 25 * time.Millisecond
	// reportCompare is how often a node compares what it has with a random member, give or take a fifth. When all is the same
	// that takes two messages of a few bytes.
	reportCompare = 5 * time.Second
	// reportCompareSoon is the same until the first time it came to an end, because a joiner has nothing, and about how soon it
	// is done after a member came. It is longer in large meshes, where news of members come all the time.
	reportCompareSoon = 500 * time.Millisecond
	// reportTimeout bounds one call.
	reportTimeout = 5 * time.Second
	// reportRest is how long a member is left out that could not be reached, and reportRestOld one that knows no reports.
	reportRest    = time.Second
	reportRestOld = time.Minute
	// reportRounds is how many calls one occasion may lead to: a delta that could not be used, the whole, and what is long.
	reportRounds = 16
	// reportBytes is about how long a message gets. The rest goes with the next.
	reportBytes = 2 << 20
	// reportQuiet is after which time a node that says nothing ends what its former run reported.
	reportQuiet = 30 * time.Second
)

// reportSync tells this node's reports, and hears of the others'.
type reportSync struct {
	board *board
	self  string
	log   *slog.Logger
	clock Clock
	call  func(ctx context.Context, node string, req []byte) ([]byte, error)
	boots func(boot uint64) // keeps the number of this run
	bytes int               // about how long a message gets
	poke  chan struct{}
	fresh atomic.Bool // nothing was compared yet

	editing sync.Mutex // orders edits; before board.mu

	// Guarded by board.mu.
	boot  uint64 // of this run
	heard bool   // that others have a report of a former run

	mu        sync.Mutex // guards the fields below; after board.mu
	hot       map[string]hotReport
	peers     map[string]*reportPeer
	order     []string // whom to tell, best first, of the members in orderOf
	orderOf   *Member
	complete  time.Time // when nothing was missing at last
	rate      []sentAt  // of the last comparisons
	refusedAt time.Time // when that was logged

	counts reportCounts
}

type reportCounts struct {
	sent, received, bytesOut, bytesIn, news, refused atomic.Uint64
}

// hotReport is a report of which others must be told.
type hotReport struct {
	since stamp  // as of when they are taken to have it
	from  string // who told us, "" for nobody or several
}

// reportPeer is what is to be said to a member.
type reportPeer struct {
	busy    bool // a goroutine says it
	rounds  int  // calls that may still follow
	news    map[string]stamp
	want    map[string]bool
	compare bool
	rest    time.Time // until then it is left alone
	old     bool      // because it knows no reports
}

// sentAt is how many bytes had been sent at a time.
type sentAt struct {
	at    time.Time
	bytes uint64
}

// reportRateOver is over how many comparisons the rate of bytes is taken: a minute.
const reportRateOver = 12

func newReportSync(b *board, self string, boot uint64, log *slog.Logger, clock Clock) *reportSync {
	s := &reportSync{
		board: b, self: self, boot: boot, log: log, clock: clock, boots: func(uint64) {}, bytes: reportBytes,
		poke: make(chan struct{}, 1), hot: make(map[string]hotReport), peers: make(map[string]*reportPeer), complete: clock.Now(),
	}
	s.fresh.Store(true)
	return s
}

// edit is Mesh.Report.
func (s *reportSync) edit(edit func(*report.Report)) {
	s.editing.Lock()
	defer s.editing.Unlock()
	s.board.mu.Lock()
	next := report.Report{Node: s.self}
	if h := s.board.reports.held[s.self]; h != nil {
		next = *h.rep
	}
	s.board.mu.Unlock()
	next = report.Clone(next)
	if next.VMs == nil {
		next.VMs = make(map[string]report.VM)
	}
	if next.Checks == nil {
		next.Checks = make(map[string]report.Check)
	}
	edit(&next)
	report.Trim(&next)
	if len(next.VMs) == 0 {
		next.VMs = nil
	}
	if len(next.Checks) == 0 {
		next.Checks = nil
	}
	// What edit keeps of it must not change a View.
	if err := s.say(report.Clone(next)); err != nil {
		s.counts.refused.Add(1)
		s.log.Error("this node's report is not taken; the others keep the last one", "err", err)
	}
}

// say publishes this node's report, unless it says what it said.
func (s *reportSync) say(next report.Report) error {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	was := s.board.reports.at(s.self)
	h, err := s.board.reports.own(s.self, s.boot, next)
	if h == nil || err != nil {
		return err
	}
	s.board.reports.put(s.self, h)
	s.board.publishReports()
	s.heat(s.self, was, "")
	return nil
}

// rival hears that others have this node's report as of at, and goes above it if that is not of this run, because the directory
// was restored, or the clock fell; or if it is other than what this node said then. board.mu is held.
func (s *reportSync) rival(at stamp, other bool) {
	own := s.board.reports.held[s.self]
	if at.boot < s.boot || own != nil && !at.newer(own.at) && !(other && at == own.at) {
		s.heard = s.heard || at.boot > 0
		return
	}
	s.heard = true
	s.boot = bootAt(s.clock.Now(), at.boot)
	s.boots(s.boot)
	s.log.Warn("others have a later report of this node, or another: its data directory was restored, or its clock fell", "theirs", at.boot, "now", s.boot)
	if own == nil {
		return // it begins above
	}
	h, err := s.board.reports.own(s.self, s.boot, report.Clone(*own.rep))
	if h == nil || err != nil {
		return // it was taken before
	}
	s.board.reports.put(s.self, h)
	s.board.publishReports()
	s.heat(s.self, stamp{}, "")
}

// heat notes that others must be told.
func (s *reportSync) heat(node string, since stamp, from string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := s.hot[node]; ok {
		if h.from != from {
			h.from = ""
			s.hot[node] = h
		}
	} else {
		s.hot[node] = hotReport{since, from}
	}
	poke(s.poke)
}

// run tells and compares until ctx ends.
func (s *reportSync) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	began := s.clock.Now()
	changed, stop := s.board.watch(false)
	defer stop()
	alive := 0
	next := s.clock.After(s.pause(0))
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.poke:
			s.tell(ctx, &wg)
			select {
			case <-ctx.Done():
				return
			case <-s.clock.After(reportGap):
			}
		case <-changed:
			// Who comes, or is back behind a cut, lacks news and has some. All notice it at about the same time.
			now := len(s.others(s.members()))
			if now > alive {
				next = s.clock.After(rand.N(reportCompareSoon + time.Duration(now)*reportCompareSoon/100))
			}
			alive = now
		case <-next:
			next = s.clock.After(s.pause(alive))
			if s.clock.Now().Sub(began) >= reportQuiet {
				s.endFormer()
			}
			s.compareOne(ctx, &wg)
		}
	}
}

// pause is the time until the next comparison.
func (s *reportSync) pause(alive int) time.Duration {
	if s.fresh.Load() && alive > 0 {
		return reportCompareSoon
	}
	return reportCompare*4/5 + rand.N(reportCompare*2/5)
}

// endFormer begins an empty report when nothing in this run reports, but a former one did: what that said is true no more.
func (s *reportSync) endFormer() {
	s.board.mu.Lock()
	needed := s.heard && s.board.reports.held[s.self] == nil
	s.board.mu.Unlock()
	if needed {
		s.edit(func(*report.Report) {})
	}
}

// tell gives the hot news to the members this node tells.
func (s *reportSync) tell(ctx context.Context, wg *sync.WaitGroup) {
	members := s.members()
	s.mu.Lock()
	defer s.mu.Unlock()
	hot := s.hot
	if len(hot) == 0 {
		return
	}
	s.hot = make(map[string]hotReport)
	for _, id := range s.targets(members, reportFanout) {
		p := s.peer(id)
		told := false
		for node, h := range hot {
			if h.from == id || node == id {
				continue // it knows
			}
			if _, ok := p.news[node]; !ok {
				p.news[node] = h.since
			}
			told = true
		}
		if told {
			s.start(ctx, wg, id, p)
		}
	}
}

// compareOne compares with one member, chosen at random.
func (s *reportSync) compareOne(ctx context.Context, wg *sync.WaitGroup) {
	members := s.members()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	alive := slices.DeleteFunc(s.others(members), func(id string) bool { return s.resting(id, now) })
	maps.DeleteFunc(s.peers, func(id string, p *reportPeer) bool {
		return !p.busy && !now.Before(p.rest) // made again when needed
	})
	s.rate = append(s.rate, sentAt{now, s.counts.bytesOut.Load()})
	s.rate = s.rate[max(0, len(s.rate)-reportRateOver):]
	if len(alive) == 0 {
		if !slices.ContainsFunc(s.others(members), func(id string) bool { return s.peers[id] == nil || !s.peers[id].old }) {
			s.complete = now // there is nobody to miss anything of
		}
		return
	}
	id := alive[rand.N(len(alive))]
	p := s.peer(id)
	p.compare = true
	s.start(ctx, wg, id, p)
}

// start lets a member be talked to. mu is held.
func (s *reportSync) start(ctx context.Context, wg *sync.WaitGroup, id string, p *reportPeer) {
	p.rounds = reportRounds
	if p.busy {
		return
	}
	p.busy = true
	wg.Go(func() { s.talk(ctx, id, p) })
}

// talk says to a member what is to be said, until that is nothing.
func (s *reportSync) talk(ctx context.Context, id string, p *reportPeer) {
	for {
		req, ok := s.next(p)
		if !ok {
			return
		}
		if err := s.exchange(ctx, id, p, req); err != nil {
			s.giveUp(ctx, id, p, err)
			return
		}
	}
}

// giveUp leaves a member alone for a while. What was to be said is dropped: comparing finds it.
func (s *reportSync) giveUp(ctx context.Context, id string, p *reportPeer, err error) {
	rest, old := reportRest, errors.Is(err, ErrNoHandler)
	if old || errors.Is(err, errReport) {
		rest = reportRestOld
	}
	if ctx.Err() == nil && !old {
		s.log.Debug("reports were not exchanged", "node", id, "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(p.news)
	clear(p.want)
	p.compare, p.busy = false, false
	p.rest, p.old = s.clock.Now().Add(rest), old
}

// next makes the next message to a member; false when there is none.
func (s *reportSync) next(p *reportPeer) (reportMessage, bool) {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	var m reportMessage
	if p.rounds--; p.rounds < 0 { // it makes us talk in circles
		clear(p.news)
		clear(p.want)
		p.compare = false
	}
	room := s.bytes
	for node, since := range p.news {
		d, ok := s.board.reports.delta(node, since)
		if n := d.bytes(); ok && n > room && len(m.News) > 0 {
			continue
		} else if ok {
			room -= n
			m.News = append(m.News, d.wire())
		}
		delete(p.news, node)
	}
	for node := range p.want {
		if len(m.Want) < maxReportEntries {
			m.Want = append(m.Want, s.board.reports.wire(node))
			delete(p.want, node)
		}
	}
	if p.compare {
		m.Compare, m.Sum, p.compare = true, s.board.reports.sum, false
	}
	if len(m.News)+len(m.Want) == 0 && !m.Compare {
		p.busy = false
		return m, false
	}
	return m, true
}

// exchange sends one message, and takes what comes back.
func (s *reportSync) exchange(ctx context.Context, id string, p *reportPeer, m reportMessage) error {
	req := m.encode()
	s.counts.sent.Add(1)
	s.counts.bytesOut.Add(uint64(len(req)))
	cctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	b, err := s.call(cctx, id, req)
	if err != nil {
		return err
	}
	s.counts.bytesIn.Add(uint64(len(b)))
	ans, err := decodeReports(b)
	if err != nil {
		s.refuse(id, err)
		return err
	}
	s.take(id, ans.News)

	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := make(map[string]bool, len(ans.Have))
	for _, h := range ans.Have {
		node, _ := nodeOf(h.Node)
		theirs, mine := stamp{h.Boot, h.N}, s.board.reports.at(node)
		seen[node] = true
		switch {
		case node == s.self && theirs != (stamp{}) && !mine.newer(theirs):
			s.mu.Unlock()
			s.rival(theirs, h.Sum != s.board.reports.wire(node).Sum)
			s.mu.Lock()
		case theirs.newer(mine) && s.board.takesReport(node):
			p.want[node] = true
		case mine.newer(theirs):
			p.news[node] = theirs
		}
	}
	if m.Compare && !ans.Same {
		for _, r := range s.board.reports.list {
			if !seen[r.Node] {
				p.news[r.Node] = stamp{}
			}
		}
	}
	// A member with more than one message can hold gives the rest when it is asked again.
	for _, w := range m.Want {
		node, _ := nodeOf(w.Node)
		if len(ans.News) > 0 && s.board.reports.at(node) == (stamp{w.Boot, w.N}) && !s.answered(ans.News, node) {
			p.want[node] = true
		}
	}
	if (m.Compare || len(m.Want) > 0) && len(p.want) == 0 {
		s.complete = s.clock.Now()
		s.fresh.Store(false)
	}
	return nil
}

func (s *reportSync) answered(news []wireDelta, node string) bool {
	return slices.ContainsFunc(news, func(d wireDelta) bool { id, _ := nodeOf(d.Node); return id == node })
}

// take applies news from a member, and returns what is here of those that it could not use.
func (s *reportSync) take(from string, news []wireDelta) (have []wireStamp) {
	if len(news) == 0 {
		return nil
	}
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	changed := false
	for i := range news {
		d := news[i].delta()
		if d.node == s.self {
			// Nobody but this node says what it observes.
			s.rival(d.at, false)
			if now := s.board.reports.at(s.self); now != d.at && now != (stamp{}) {
				have = append(have, s.board.reports.wire(d.node))
			}
			continue
		}
		if !s.board.takesReport(d.node) {
			continue
		}
		was := s.board.reports.at(d.node)
		took, err := s.board.reports.apply(&d)
		switch {
		case err != nil:
			s.refuse(from, err)
		case took:
			changed = true
			s.counts.news.Add(1)
			s.heat(d.node, was, from)
		default:
			now := s.board.reports.wire(d.node)
			if h := s.board.reports.held[d.node]; h != nil && h.rep == nil && h.at.newer(d.at) {
				// It said more before it left. Where it is the one who tells, it must go above that.
				now.Boot, now.N = h.at.boot, h.at.n
			}
			if was != d.at {
				have = append(have, now)
			}
		}
	}
	if changed {
		s.board.publishReports()
	}
	return have
}

// handle answers a member.
func (s *reportSync) handle(_ context.Context, from Caller, req []byte) ([]byte, error) {
	s.counts.received.Add(1)
	s.counts.bytesIn.Add(uint64(len(req)))
	m, err := decodeReports(req)
	if err != nil {
		s.refuse(from.ID, err)
		return nil, err
	}
	var ans reportMessage
	ans.Have = s.take(from.ID, m.News)
	s.board.mu.Lock()
	room := s.bytes
	asked := make(map[string]bool, len(m.Want))
	for _, w := range m.Want {
		node, _ := nodeOf(w.Node)
		if asked[node] {
			continue
		}
		asked[node] = true
		d, ok := s.board.reports.delta(node, stamp{w.Boot, w.N})
		if n := d.bytes(); ok && (n <= room || len(ans.News) == 0) {
			room -= n
			ans.News = append(ans.News, d.wire())
		}
	}
	if m.Compare {
		if ans.Same = m.Sum == s.board.reports.sum; !ans.Same {
			for _, r := range s.board.reports.list {
				ans.Have = append(ans.Have, s.board.reports.wire(r.Node))
			}
		}
	}
	s.board.mu.Unlock()
	b := ans.encode()
	s.counts.bytesOut.Add(uint64(len(b)))
	return b, nil
}

// refuse counts what broke the rules, and logs it once a minute.
func (s *reportSync) refuse(from string, err error) {
	s.counts.refused.Add(1)
	s.mu.Lock()
	now := s.clock.Now()
	tell := s.refusedAt.IsZero() || now.Sub(s.refusedAt) >= time.Minute
	if tell {
		s.refusedAt = now
	}
	s.mu.Unlock()
	if tell {
		s.log.Warn("a member's reports are refused: it may be of a later build, or broken", "node", from, "err", err)
	}
}
