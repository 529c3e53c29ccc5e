package verb

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"keyferry/internal/topology"
)

// Slots are ranges of slots. How many slots there are is known to the gateway only.
type Slots string

// In gives the ranges, sorted, of a table of n slots.
func (s Slots) In(n int) ([]topology.Range, error) { return topology.ParseRanges(string(s), n) }

var rangesForm = regexp.MustCompile(`^\d+(-\d+)?(,\d+(-\d+)?)*$`)

// Bound is the clients' p99 that makes a job yield.
type Bound struct {
	Auto, Off bool
	Ms        int // 0: as configured
}

// parse reads one value. The error's text goes on after the name: RATE| "x": want ….
func (a *Arg) parse(text string) (any, error) {
	switch a.Kind {
	case Ranges:
		return Slots(text), a.check(text, rangesForm.MatchString(text))
	case Integer:
		v, err := strconv.Atoi(text)
		return v, a.check(text, err == nil && float64(v) >= a.Min && float64(v) <= a.Max)
	case Number:
		v, err := strconv.ParseFloat(text, 64)
		return v, a.check(text, err == nil && v >= a.Min && v <= a.Max)
	case Size:
		v, ok := size(text)
		return v, a.check(text, ok)
	case Choice:
		for _, c := range a.Choices {
			if strings.EqualFold(c, text) {
				return c, nil
			}
		}
		return nil, a.check(text, false)
	case P99:
		return a.bound(text)
	case Pattern:
		s, err := topology.ParseSlice(text)
		return s, a.check(text, err == nil)
	case Share:
		v, ok := share(text)
		return v, a.check(text, ok)
	default:
		return text, nil
	}
}

func (a *Arg) check(text string, ok bool) error {
	if ok {
		return nil
	}
	return fmt.Errorf(" %q: want %s", text, a.want())
}

// want says what the argument must be.
func (a *Arg) want() string {
	switch {
	case a.Want != "":
		return a.Want
	case a.Kind == Choice:
		return list(a.Choices, "or")
	case a.Kind == Pattern:
		_, err := topology.ParseSlice("?")
		return strings.TrimPrefix(err.Error(), "want ")
	default:
		return a.meta()
	}
}

// size is a number of bytes, with a unit if it has one.
func size(text string) (v float64, ok bool) {
	number, unit := strings.ToLower(text), 1.0
	for i, u := range []string{"kb", "mb", "gb"} {
		if n, cut := strings.CutSuffix(number, u); cut {
			number, unit = n, float64(int64(1)<<(10*(i+1)))
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	return v * unit, err == nil && v >= 0 && !math.IsInf(v*unit, 0)
}

// share is "full", "1%" or "sample=1%".
func share(text string) (v float64, ok bool) {
	text = strings.ToLower(text)
	if text == "full" {
		return 1, true
	}
	number, ok := strings.CutSuffix(strings.TrimPrefix(text, "sample="), "%")
	v, err := strconv.ParseFloat(number, 64)
	return v / 100, ok && err == nil && v > 0 && v <= 100
}

func (a *Arg) bound(text string) (any, error) {
	switch strings.ToLower(text) {
	case "auto":
		return Bound{Auto: true}, nil
	case "off":
		return Bound{Off: true}, nil
	}
	v, err := strconv.Atoi(text)
	return Bound{Ms: v}, a.check(text, err == nil && v >= 0 && float64(v) <= a.Max)
}

// Decode puts what was given into the fields of a struct that are tagged with the names of
// the arguments and options: `verb:"RATE"`. An embedded struct is looked into. A pointer
// stays nil where nothing was given; a map takes an option's two values as key and value;
// a bool says that an option was given. A field that does not fit the grammar is a mistake
// in the program, and panics: a test decodes every row with all that it has.
func (c *Call) Decode(into any) { c.decode(reflect.ValueOf(into).Elem()) }

func (c *Call) decode(v reflect.Value) {
	for i := range v.NumField() {
		f, t := v.Field(i), v.Type().Field(i)
		name := t.Tag.Get("verb")
		if t.Anonymous {
			c.decode(f)
			continue
		}
		if c.Row.arg(name) == nil && c.Row.option(name) == nil {
			panic("verb: " + c.Row.Name + " has no " + name)
		}
		if list, ok := c.values[name]; ok {
			fill(f, list)
		}
	}
}

func fill(f reflect.Value, list []any) {
	switch {
	case len(list) == 0:
		f.SetBool(true)
	case f.Kind() == reflect.Map:
		f.Set(reflect.MakeMap(f.Type()))
		for i := 0; i+1 < len(list); i += 2 {
			f.SetMapIndex(reflect.ValueOf(list[i]), reflect.ValueOf(list[i+1]))
		}
	case f.Kind() == reflect.Pointer:
		f.Set(reflect.New(f.Type().Elem()))
		f.Elem().Set(reflect.ValueOf(list[0]))
	default:
		f.Set(reflect.ValueOf(list[0]))
	}
}
