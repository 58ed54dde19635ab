package mariadb

// OnUntil, WritableUntil and StartUntil are for the tests of what a server does with a statement that reaches it late.
var (
	OnUntil       = onUntil
	WritableUntil = maria(version{}).writable
	StartUntil    = maria(version{}).startUntil
)
