package mariadb

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// plainQuotes has the session take a backslash for what it is, which literal relies on.
const plainQuotes = "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'"

// literal writes a text as a literal of SQL, for statements that take no parameters: CHANGE MASTER, CREATE USER. The session has plainQuotes.
func literal(text string) (string, error) {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return "", fmt.Errorf("%w: a name, password or address with a zero byte, or that is not UTF-8", ErrUnquotable)
	}
	return "'" + strings.ReplaceAll(text, "'", "''") + "'", nil
}

// name writes a name of SQL, such as that of a table.
func name(text string) (string, error) {
	if text == "" || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return "", fmt.Errorf("%w: a name that is empty, has a zero byte, or is not UTF-8", ErrUnquotable)
	}
	return "`" + strings.ReplaceAll(text, "`", "``") + "`", nil
}
