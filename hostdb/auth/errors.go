package auth

import (
	"fmt"
	"time"
)

// Code is what an Error says to programs: the four digits of HostDB's API, whose first three are an HTTP status.
type Code int

// The codes of an Error.
const (
	WrongPassword Code = 4011 // no such user, or not this password
	BadToken      Code = 4012 // no session token, or not one of this mesh, or one that a removal or a new password ended
	OtherAddress  Code = 4013 // the token was made for another client address
	Expired       Code = 4014 // the token is too old
	WrongPlace    Code = 4034 // the right password, and the user may not log in from this address
	TooMany       Code = 4290 // too many logins failed: wait
	NoDirectory   Code = 5031 // the directory that may know the user cannot be asked
)

// Error is why somebody is not who they say. Its message is for the client: it holds no secret.
type Error struct {
	Code    Code
	Message string
	// Wait is how long the client has to wait before it may try again, for TooMany.
	Wait time.Duration
}

func (e *Error) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Message) }
