package auth

import "github.com/prometheus/client_golang/prometheus"

// Results of a login, as the metric has them.
const (
	resultOK          = "ok"
	resultPassword    = "wrong_password"
	resultPlace       = "wrong_place"
	resultTooMany     = "too_many"
	resultNoDirectory = "no_directory"
	resultError       = "error" // the client went away
)

// newLogins makes the counter of logins with a series for each result: an alarm must not wait for the first.
func newLogins(reg prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "hostmesh", Subsystem: "auth", Name: "logins_total",
		Help: "Logins by result: ok, wrong_password, wrong_place, too_many, no_directory, error.",
	}, []string{"result"})
	for _, r := range []string{resultOK, resultPassword, resultPlace, resultTooMany, resultNoDirectory, resultError} {
		c.WithLabelValues(r)
	}
	if reg != nil {
		reg.MustRegister(c)
	}
	return c
}

func resultOf(err error) string {
	e, is := err.(*Error)
	switch {
	case err == nil:
		return resultOK
	case !is:
		return resultError
	}
	switch e.Code {
	case WrongPassword:
		return resultPassword
	case WrongPlace:
		return resultPlace
	case TooMany:
		return resultTooMany
	case NoDirectory:
		return resultNoDirectory
	}
	return resultError
}
