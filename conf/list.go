package conf

import (
	"errors"
	"reflect"
	"strings"
)

// List is a list of texts, in the environment and in flags separated by commas.
type List []string

// Lines is a list of texts that have commas in them, in the environment and in flags
// separated by semicolons.
type Lines []string

// String is the form that flags take.
func (l List) String() string { return strings.Join(l, ",") }

// String is the form that flags take.
func (l Lines) String() string { return strings.Join(l, "; ") }

// splitText makes of a text what a file would have for a list; an empty one has no
// elements.
func splitText(f reflect.Value, text string) any {
	sep := ","
	if f.Type() == reflect.TypeFor[Lines]() {
		sep = ";"
	}
	out := []any{}
	for part := range strings.SplitSeq(text, sep) {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

var errList = errors.New("want a list of texts, as [\"a\", \"b\"]")

// assignTexts replaces a list: the elements of two sources are never mixed.
func assignTexts(to *[]string, v any) error {
	list, ok := v.([]any)
	if !ok {
		return errList
	}
	out := make([]string, 0, len(list))
	for _, e := range list {
		text, ok := e.(string)
		if !ok {
			return errList
		}
		out = append(out, text)
	}
	*to = out
	return nil
}
