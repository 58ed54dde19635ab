package rest

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
)

// code is the number of an error of HostDB's API. Its first three digits are the HTTP status.
type code int

func (c code) status() int { return int(c) / 10 }

// The codes. Those that upstream does not have follow its scheme.
const (
	codeInvalid     code = 4000 // a value, parameter or name that cannot be
	codeBadName     code = 4000
	codeMissing     code = 4001
	codeExists      code = 4002
	codeReadOnly    code = 4031
	codeDenied      code = 4033
	codeProtected   code = 4035 // the host is Protected, and no override was given
	codeNotFound    code = 4041
	codeNoParent    code = 4042
	codeMethod      code = 4050 // a method that nothing here has
	codeNotAllowed  code = 4051
	codeChanged     code = 4120 // If-Match or If-None-Match says that it is another state
	codeTooLarge    code = 4130
	codeMediaType   code = 4150
	codeInternal    code = 5000
	codeNotMapping  code = 5001
	codeClock       code = 5030
	codeUnavailable code = 5032
	codeBusy        code = 5034
	codeAcks        code = 5040 // written here, and not acknowledged by as many boxes as asked for
)

// failure is an error as the API shows it.
type failure struct {
	code    code
	message string
	wait    time.Duration // before the client may try again; 0 says nothing of it
}

func (f *failure) Error() string { return strconv.Itoa(int(f.code)) + ": " + f.message }

func fail(c code, message string) error { return &failure{code: c, message: message} }

// codes says what the errors of hostdb are in the API. The first that matches counts.
var codes = []struct {
	err  error
	code code
}{
	{hostdb.ErrBadName, codeBadName},
	{hostdb.ErrCycle, codeInvalid},
	{hostdb.ErrTooLarge, codeTooLarge},
	{hostdb.ErrNotMapping, codeNotMapping},
	{hostdb.ErrInvalid, codeInvalid},
	{hostdb.ErrExists, codeExists},
	{hostdb.ErrDenied, codeDenied},
	{hostdb.ErrProtected, codeProtected},
	{hostdb.ErrReadOnly, codeReadOnly},
	{hostdb.ErrWrittenOver, codeChanged},
	{hostdb.ErrNoNamespace, codeDenied}, // as upstream, which asks for permission first
	{hostdb.ErrNotFound, codeNotFound},
	{hostdb.ErrDropped, codeNotFound}, // as a revision that never was: upstream knows no other code
	{hostdb.ErrNoParent, codeNoParent},
	{hostdb.ErrNotAllowed, codeNotAllowed},
	{hostdb.ErrClock, codeClock},
	{hostdb.ErrBusy, codeBusy},
	{hostdb.ErrUnavailable, codeUnavailable},
	{hostdb.ErrStorageFull, codeUnavailable},
	{hostdb.ErrClosed, codeUnavailable},
	{context.Canceled, codeBusy}, // the client went away, or waited too long for its turn
	{context.DeadlineExceeded, codeBusy},
}

// asFailure makes of any error what the API shows. Errors that nobody foresaw show no detail; the caller logs them.
func asFailure(err error) (f *failure, foreseen bool) {
	if errors.As(err, &f) {
		return f, true
	}
	var who *auth.Error
	if errors.As(err, &who) {
		return &failure{code(who.Code), who.Message, who.Wait}, true
	}
	for _, row := range codes {
		if errors.Is(err, row.err) {
			return &failure{code: row.code, message: err.Error()}, true
		}
	}
	return &failure{code: codeInternal, message: "Internal error; the agent's log says more"}, false
}

// writeError answers with an error: the status line, CallTrace and Error carry the message; the body is empty.
func writeError(w http.ResponseWriter, r *http.Request, f *failure) {
	message := oneLine(f.message, maxPhrase)
	if message == "" {
		message = http.StatusText(f.code.status())
	}
	h := w.Header()
	trace := []string{strconv.Itoa(int(f.code)) + ": " + message}
	h["CallTrace"] = trace // clients know this spelling
	h["Error"] = trace
	h["Content-Length"] = zeroLength
	if f.wait > 0 {
		h["Retry-After"] = []string{strconv.FormatInt(int64((f.wait+time.Second-1)/time.Second), 10)}
	}
	writeHeader(w, r, f.code.status(), message)
}

var zeroLength = []string{"0"}
