package mesh

import (
	"time"
)

// ReportStats is how the exchange of reports stands.
type ReportStats struct {
	Nodes int `json:"nodes"` // whose reports are here
	// Lag is how long ago this node was last found to have all that another has. While others live and answer that is some
	// seconds; alone, it is 0 or so.
	Lag       time.Duration `json:"lag"`
	Rate      float64       `json:"rate"`       // bytes sent a second, over about the last minute
	CallsOut  uint64        `json:"calls_out"`  // messages of this node
	CallsIn   uint64        `json:"calls_in"`   // messages to this node
	BytesOut  uint64        `json:"bytes_out"`  // of messages and answers
	BytesIn   uint64        `json:"bytes_in"`   //
	News      uint64        `json:"news"`       // changes of others taken
	Refused   uint64        `json:"refused"`    // messages, and changes, that broke the rules
	OwnNumber uint64        `json:"own_number"` // changes of this node's own report in this run
}

func (s *reportSync) stats() ReportStats {
	c := &s.counts
	st := ReportStats{
		CallsOut: c.sent.Load(), CallsIn: c.received.Load(), BytesOut: c.bytesOut.Load(), BytesIn: c.bytesIn.Load(),
		News: c.news.Load(), Refused: c.refused.Load(),
	}
	v := View{s.board.view.Load()}
	st.Nodes = len(v.d.reports)
	own, _ := v.Report(s.self)
	st.OwnNumber = own.N
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	st.Lag = max(now.Sub(s.complete), 0)
	if len(s.rate) > 0 {
		if first := s.rate[0]; now.After(first.at) {
			st.Rate = float64(st.BytesOut-first.bytes) / now.Sub(first.at).Seconds()
		}
	}
	return st
}
