package rest

import (
	"strconv"
	"strings"
)

// limit is the limit= of the request.
func (c *call) limit() (n int, given bool, err error) {
	text := c.params.get("limit")
	if text == "" {
		return 0, false, nil
	}
	n, err = strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, false, fail(codeInvalid, "Bad limit="+text+": expected a number of lines, 1 or more")
	}
	return n, true, nil
}

// page leaves of a sorted list what comes after after= and at most limit= lines of it.
func (c *call) page(text string) (string, error) {
	n, limited, err := c.limit()
	if err != nil {
		return "", err
	}
	if after := c.params.get("after"); after != "" {
		for text != "" {
			line, rest, _ := strings.Cut(text, "\n")
			if line > after {
				break
			}
			text = rest
		}
	}
	if !limited {
		return text, nil
	}
	end := 0
	for ; n > 0 && end < len(text); n-- {
		i := strings.IndexByte(text[end:], '\n')
		if i < 0 {
			return text, nil
		}
		end += i + 1
	}
	if end < len(text) {
		c.w.Header()["Hostmesh-More"] = moreYes
	}
	return strings.TrimSuffix(text[:end], "\n"), nil
}
