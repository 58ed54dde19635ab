package mariadb

// OnUntil is for the tests of what a server does with a statement that reaches it late.
var OnUntil = onUntil
