package conf

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"keyferry/internal/topology"
)

// A file, the environment and flags all become settings and end in apply:
//
//	FILE   toml → typed values, with lines ──┐
//	ENV    KEYFERRY_CLIENTS_MAX_CLIENTS=5 ───┼─→ setting → apply → field of Config
//	FLAGS  clients.max-clients=5 ────────────┘

// setting is one value from one source.
type setting struct {
	key   string
	value any    // of a file: string, int64, float64, bool, …; else a string
	text  bool   // value is the text of a number or a string, as in env and flags
	where string // "keyferry.toml:12", "KEYFERRY_LISTEN" or "flag"
}

// apply sets fields. All that is wrong is reported, not only the first.
func apply(fields map[string]reflect.Value, settings []setting) error {
	var errs []error
	for _, s := range settings {
		f, ok := fields[s.key]
		if !ok {
			errs = append(errs, fmt.Errorf("%s: unknown key %s%s", s.where, s.key, hint(fields, s.key)))
			continue
		}
		v := s.value
		if s.text {
			v = typed(f, v)
		}
		if err := assign(f, v); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s = %s: %w", s.where, s.key, shown(s.key, s.value), err))
		}
	}
	return errors.Join(errs...)
}

// hint says where a key belongs that was put into no section or into another one.
func hint(fields map[string]reflect.Value, key string) string {
	name := key[strings.LastIndexByte(key, '.')+1:]
	for _, have := range slices.Sorted(maps.Keys(fields)) {
		if strings.HasPrefix(have, key+".") {
			return " (it is a section)"
		}
		if strings.HasSuffix("."+have, "."+name) {
			return fmt.Sprintf(" (did you mean %s?)", have)
		}
	}
	return ""
}

// secret reports that the value of a key is never shown.
func secret(key string) bool {
	return strings.HasSuffix(key, "password") || strings.HasSuffix(key, "token")
}

// shown keeps passwords out of errors, which end in logs.
func shown(key string, v any) string {
	if secret(key) {
		return "…"
	}
	if s, ok := v.(string); ok {
		return strconv.Quote(s)
	}
	return fmt.Sprint(v)
}

// typed makes of a text what a file would have for that field; what can't be made so
// stays a string, and assign refuses it.
func typed(f reflect.Value, v any) any {
	text, _ := v.(string)
	switch f.Kind() {
	case reflect.Slice:
		return splitText(f, text)
	case reflect.Int:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	}
	return text
}

// assign stores a value if it has the field's type. A bare number is a size in bytes but
// never a time: whoever writes 5 means seconds or milliseconds, and Go's 5 is neither.
func assign(f reflect.Value, v any) error {
	text, isText := v.(string)
	n, isInt := v.(int64)
	switch p := f.Addr().Interface().(type) {
	case *Size:
		switch {
		case isText:
			return p.UnmarshalText([]byte(text))
		case !isInt || n < 0:
			return errSize
		}
		*p = Size(n)
	case *Duration:
		if !isText {
			return errDuration
		}
		return p.UnmarshalText([]byte(text))
	case *topology.Slice:
		if !isText {
			text = fmt.Sprint(v)
		}
		return p.UnmarshalText([]byte(text))
	case *List:
		return assignTexts((*[]string)(p), v)
	case *Lines:
		return assignTexts((*[]string)(p), v)
	case *string:
		if !isText {
			return errors.New("want a text in quotes")
		}
		*p = text
	case *int:
		if !isInt {
			return errors.New("want a whole number")
		}
		*p = int(n)
	default:
		panic(fmt.Sprintf("conf: no way to set a %T", p)) // a new type in Config
	}
	return nil
}

// fileSettings reads a TOML text; name is for errors.
func fileSettings(name string, text []byte) ([]setting, error) {
	var tree map[string]any
	if err := toml.Unmarshal(text, &tree); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, _ := at.Position()
			return nil, fmt.Errorf("%s:%d: %w", name, row, err)
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	lines := keyLines(text)
	var out []setting
	flatten(tree, "", func(key string, v any) {
		out = append(out, setting{key: key, value: v, where: fmt.Sprintf("%s:%d", name, lines.of(key))})
	})
	slices.SortStableFunc(out, func(a, b setting) int { return cmp.Compare(lines.of(a.key), lines.of(b.key)) })
	return out, nil
}

// flatten visits each value by its full key. Empty tables are visited too unless they are
// sections, so that an unknown one is seen.
func flatten(tree map[string]any, prefix string, visit func(key string, v any)) {
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		key, v := prefix+name, tree[name]
		sub, ok := v.(map[string]any)
		switch {
		case ok && (len(sub) > 0 || sections[key]):
			flatten(sub, key+".", visit)
		default:
			visit(key, v)
		}
	}
}

// sections are the tables of Config.
var sections = func() map[string]bool {
	out := make(map[string]bool)
	for key := range (&Config{}).fields() {
		if section, _, ok := strings.Cut(key, "."); ok {
			out[section] = true
		}
	}
	return out
}()

type lineOf map[string]int

// of is the line of a key, or of what encloses it.
func (l lineOf) of(key string) int {
	for {
		if n, ok := l[key]; ok {
			return n
		}
		dot := strings.LastIndexByte(key, '.')
		if dot < 0 {
			return 1
		}
		key = key[:dot]
	}
}

// keyLines finds the line of each key and section of a well-formed text, which
// toml.Unmarshal does not tell.
func keyLines(text []byte) lineOf {
	lines := make(lineOf)
	var p unstable.Parser
	p.Reset(bytes.Clone(text)) // positions need a slice with no spare capacity
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.Table && e.Kind != unstable.ArrayTable && e.Kind != unstable.KeyValue {
			continue
		}
		var names []string
		line := 0
		for it := e.Key(); it.Next(); {
			names = append(names, string(it.Node().Data))
			line = p.Shape(it.Node().Raw).Start.Line
		}
		key := strings.Join(names, ".")
		if e.Kind == unstable.KeyValue {
			lines[table+key] = line
			continue
		}
		lines[key], table = line, key+"."
	}
	return lines
}

// envPrefix begins the names of the environment variables that are settings.
const envPrefix = "KEYFERRY_"

// foreign are variables with our prefix that are none of ours to read: the failpoints of
// test builds, and what Kubernetes puts into every container's environment when there is
// a service called "keyferry", or "keyferry-admin" or the like.
func foreign(name string) bool { return name == "KEYFERRY_FAILPOINTS" || ofService.MatchString(name) }

var ofService = regexp.MustCompile(`^KEYFERRY(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

func envName(key string) string {
	return envPrefix + strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToUpper(key))
}

// envSettings reads "NAME=value" pairs; those without the prefix are left alone.
func envSettings(env []string, fields map[string]reflect.Value) ([]setting, error) {
	keys := make(map[string]string)
	for key := range fields {
		keys[envName(key)] = key
	}
	var out []setting
	var errs []error
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, envPrefix) || foreign(name) {
			continue
		}
		key, ok := keys[name]
		if !ok {
			errs = append(errs, fmt.Errorf("%s: there is no such setting", name))
			continue
		}
		out = append(out, setting{key: key, value: value, text: true, where: name})
	}
	return out, errors.Join(errs...)
}

func flagSettings(set map[string]string) []setting {
	var out []setting
	for _, key := range slices.Sorted(maps.Keys(set)) {
		out = append(out, setting{key: key, value: set[key], text: true, where: "flag"})
	}
	return out
}
