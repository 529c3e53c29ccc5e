// Package verbtest makes examples of verbs, so that tests of what derives from the table
// can walk all of it.
package verbtest

import (
	"strings"

	"keyferry/internal/verb"
)

// Text is a text that an argument takes. Where any is taken, it is the one that is the
// easiest to misread.
func Text(a *verb.Arg) string {
	switch a.Kind {
	case verb.Ranges:
		return "0-5,9"
	case verb.Integer:
		return "3"
	case verb.Number:
		return "2.5"
	case verb.Size:
		return "20mb"
	case verb.P99:
		return "auto"
	case verb.Pattern:
		return "1s/4s"
	case verb.Share:
		return "sample=5%"
	case verb.Choice:
		return strings.ToLower(a.Choices[0])
	default:
		return "json"
	}
}

// Given is a verb with its arguments, one option (nil: none), and what else it can't do without.
func Given(r *verb.Row, o *verb.Option) (given []verb.Given) {
	for i := range r.Args {
		given = append(given, verb.Given{Name: r.Args[i].Name, Values: []string{Text(&r.Args[i])}})
	}
	for i := range r.Options {
		x := &r.Options[i]
		if x != o && !x.Required && !(r.AnyOf && o == nil && i == 0) {
			continue
		}
		g := verb.Given{Name: x.Name}
		for j := range x.Values {
			g.Values = append(g.Values, Text(&x.Values[j]))
		}
		given = append(given, g)
	}
	return given
}

// Options are those of a verb, with nil first, for none.
func Options(r *verb.Row) []*verb.Option {
	out := []*verb.Option{nil}
	for i := range r.Options {
		out = append(out, &r.Options[i])
	}
	return out
}
