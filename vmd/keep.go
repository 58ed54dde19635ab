package vmd

import "time"

// saveWaited is how often it is written down for how long a deleted machine was kept, at most: a restart loses as much.
const saveWaited = time.Hour

// wall is the time of day: by the median of the clocks of the mesh where enough of them are known (checked), else by this box's.
func (b *Box) wall() (now time.Time, checked bool) {
	now = b.cfg.Clock.Now()
	const judges = 3 // of two clocks nobody can tell which is wrong
	if db, ok := b.cfg.DB.(interface {
		Skew() (ahead time.Duration, clocks int)
	}); ok {
		if ahead, clocks := db.Skew(); clocks >= judges {
			return now.Add(-ahead), true
		}
	}
	return now, false
}

// keepFor is how long the disks of a deleted machine stay.
func (b *Box) keepFor(e Entry) time.Duration {
	if e.KeepFor > 0 {
		return time.Duration(e.KeepFor) * time.Millisecond
	}
	return b.cfg.Keep
}

// keptEnough reports whether the disks of a deleted machine may go. Its own clock alone does not decide that, for it may leap: either
// the clocks of the mesh say so too, or this agent saw the time pass, look by look.
func (m *machine) keptEnough(e Entry, now time.Time) bool {
	if !m.looked.IsZero() {
		m.waited += min(max(now.Sub(m.looked), 0), 2*lookEvery)
	}
	m.looked = now
	wall, checked := m.box.wall()
	if wall.Before(time.UnixMilli(e.Until)) {
		return false
	}
	seen := time.Duration(e.Waited)*time.Millisecond + m.waited
	return checked || seen >= m.box.keepFor(e)-lookEvery
}

// noteWaited writes down now and then for how long a machine was kept.
func (m *machine) noteWaited(e Entry) error {
	if e.Stage != Kept {
		m.looked, m.waited = time.Time{}, 0
		return nil
	}
	if m.waited < max(min(saveWaited, m.box.keepFor(e)/4), 2*lookEvery) {
		return nil
	}
	err := m.box.note(e.UUID, func(e *Entry) { e.Waited += m.waited.Milliseconds() })
	if err == nil {
		m.waited = 0
	}
	return err
}
