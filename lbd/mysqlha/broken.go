package mysqlha

import "context"

// Broken is a Server that cannot be asked for a reason of this node's own, such as a certificate that cannot be read. Its errors are err, and never say that the
// server does not answer: that would be a symptom.
func Broken(err error) Server { return broken{err} }

type broken struct{ err error }

func (b broken) Observe(context.Context) (Facts, error)              { return Facts{}, b.err }
func (b broken) Ping(context.Context) error                          { return b.err }
func (b broken) Hold(context.Context) error                          { return b.err }
func (b broken) SetReadOnly(context.Context, bool) error             { return b.err }
func (b broken) Open(context.Context) error                          { return b.err }
func (b broken) SetSource(context.Context, bool) error               { return b.err }
func (b broken) Inherit(context.Context, string) error               { return b.err }
func (b broken) SetAcker(context.Context, bool) error                { return b.err }
func (b broken) StartSQL(context.Context) error                      { return b.err }
func (b broken) StopIO(context.Context) error                        { return b.err }
func (b broken) Start(context.Context) error                         { return b.err }
func (b broken) WaitApplied(context.Context, string) error           { return b.err }
func (b broken) Leave(context.Context) error                         { return b.err }
func (b broken) Follow(context.Context, Source, bool) error          { return b.err }
func (b broken) EndClients(context.Context) (int, error)             { return 0, b.err }
func (b broken) Apply(context.Context, []Setting) ([]Setting, error) { return nil, b.err }
func (b broken) Close() error                                        { return nil }
func (b broken) Engines(context.Context) (map[string]string, error)  { return nil, b.err }
func (b broken) FollowUntil(context.Context, Source, string, bool) error {
	return b.err
}
func (b broken) Checksum(context.Context, []string, uint64) (Sums, error) {
	return Sums{}, b.err
}
