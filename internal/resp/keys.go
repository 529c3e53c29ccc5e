package resp

import (
	"errors"
	"strings"
)

// errArguments is Redis's text for a request whose keys can't be found, such as a
// numkeys that is not a number.
var errArguments = errors.New("Invalid arguments specified for command") //nolint:staticcheck // Redis's own text

// keySpec is a key specification as in COMMAND INFO (redis.io, "Command key
// specifications").
type keySpec struct {
	flags     []string
	notes     string
	unknown   bool
	index     int    // begin_search index, or
	keyword   string // begin_search keyword,
	startFrom int    // from here on; negative: backwards from the end
	keynum    bool   // find_keys: a is keynumidx, b firstkey, c keystep; else a is lastkey, b keystep, c limit
	a, b, c   int
}

type keyFinder uint8

const (
	noKeys   keyFinder = iota
	oneKey             // argument FirstKey
	fixed              // FirstKey to LastKey by KeyStep
	bySpecs            // numkeys and keyword forms
	sortKeys           // SORT: STORE may stand anywhere
)

func finderFor(c *Command) keyFinder {
	switch {
	case c.Name == "sort":
		return sortKeys
	case len(c.specs) == 0:
		return noKeys
	case c.Flags&MovableKeys != 0:
		return bySpecs
	case c.FirstKey == c.LastKey:
		return oneKey
	}
	return fixed
}

// AppendKeys appends the indexes of the arguments that are keys, in no particular order
// where Redis has none. The request must have the right arity. An error says that they
// can't be told. It allocates nothing when dst has room.
func (c *Command) AppendKeys(dst []int, args [][]byte) ([]int, error) {
	switch c.find {
	case noKeys:
		return dst, nil
	case oneKey:
		if c.FirstKey >= len(args) {
			return dst, errArguments
		}
		return append(dst, c.FirstKey), nil
	case fixed:
		last := c.LastKey
		if last < 0 {
			last += len(args)
		}
		for i := c.FirstKey; i <= last; i += c.KeyStep {
			// MSET k v k: the key without a value is still a key; the server says what is wrong.
			if i >= len(args) {
				return dst, errArguments
			}
			dst = append(dst, i)
		}
		return dst, nil
	case sortKeys:
		return appendSortKeys(dst, args), nil
	}
	for i := range c.specs {
		var ok bool
		if dst, ok = c.specs[i].appendKeys(dst, args); !ok {
			return dst, errArguments
		}
	}
	return dst, nil
}

// appendSortKeys is Redis's sortGetKeys: the key, and the STORE that counts, the last.
func appendSortKeys(dst []int, args [][]byte) []int {
	dst = append(dst, 1)
	store := 0
	for i := 2; i < len(args); i++ {
		switch {
		case fold(args[i], "limit"):
			i += 2
		case fold(args[i], "get"), fold(args[i], "by"):
			i++
		case fold(args[i], "store") && i+1 < len(args):
			store = i + 1
			i++
		}
	}
	if store > 0 {
		dst = append(dst, store)
	}
	return dst
}

// appendKeys is Redis's getKeysUsingKeySpecs for one specification.
func (s *keySpec) appendKeys(dst []int, args [][]byte) ([]int, bool) {
	if s.unknown {
		return dst, true
	}
	first := s.index
	if s.keyword != "" {
		if first = s.afterKeyword(args); first == 0 {
			return dst, true // an option that is not there
		}
	}
	last, step := 0, s.b
	if s.keynum {
		at := first + s.a
		if at >= len(args) {
			return dst, false
		}
		n, ok := parseInt(args[at])
		if !ok || n < 0 || n > int64(len(args)) {
			return dst, false
		}
		first += s.b
		step = s.c
		last = first + (int(n)-1)*step
	} else if s.a >= 0 {
		last = first + s.a
	} else if s.c <= 1 {
		last = len(args) + s.a
	} else {
		last = first + (len(args)-first)/s.c + s.a
	}
	for i := first; i <= last; i += step {
		if i >= len(args) {
			return dst, false
		}
		dst = append(dst, i)
	}
	return dst, true
}

func (s *keySpec) afterKeyword(args [][]byte) int {
	if s.startFrom > 0 {
		for i := s.startFrom; i < len(args)-1; i++ {
			if fold(args[i], s.keyword) {
				return i + 1
			}
		}
		return 0
	}
	for i := len(args) + s.startFrom; i > 1; i-- {
		if fold(args[i], s.keyword) {
			return i + 1
		}
	}
	return 0
}

func fold(arg []byte, word string) bool {
	return len(arg) == len(word) && strings.EqualFold(string(arg), word)
}
