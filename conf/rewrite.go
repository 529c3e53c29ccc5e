package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Rewrite stores the values that c has for some keys in the file that it was loaded from.
// Everything else in it stays as it is, comments included. The file is replaced in one
// step, so that there is an old one or a new one whatever happens.
func (c *Config) Rewrite(keys []string) error {
	if c.File == "" {
		return errors.New("there is no configuration file")
	}
	path, err := filepath.EvalSymlinks(c.File)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fields := c.fields()
	for _, key := range keys {
		if text, err = put(text, key, literal(fields[key])); err != nil {
			return fmt.Errorf("%s: %s: %w", c.File, key, err)
		}
	}
	if err := c.reads(text, keys); err != nil {
		return err
	}
	return replace(path, text)
}

// reads checks that text is a valid file in which keys have the values of c.
func (c *Config) reads(text []byte, keys []string) error {
	got := Default()
	if err := got.readFile(c.File, text); err != nil {
		return err
	}
	mine, theirs := c.fields(), got.fields()
	for _, key := range keys {
		if !reflect.DeepEqual(mine[key].Interface(), theirs[key].Interface()) {
			return fmt.Errorf("%s: %s could not be changed in its place", c.File, key)
		}
	}
	return nil
}

// Texts are all settings but secrets, as they would be written without quotes.
func (c *Config) Texts() map[string]string {
	out := make(map[string]string)
	for key, f := range c.fields() {
		if !secret(key) {
			out[key] = fmt.Sprint(f.Interface())
		}
	}
	return out
}

// literal is a value in TOML.
func literal(f reflect.Value) string {
	switch v := f.Interface().(type) {
	case int:
		return fmt.Sprint(v)
	case List:
		return texts(v)
	case Lines:
		return texts(v)
	default:
		return quote(fmt.Sprint(v))
	}
}

func texts(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// quote makes a basic string of TOML, which has fewer escapes than Go's.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// put gives a key its value: in the place of the one it has, or behind the last key of its
// section, or in a new section at the end.
func put(text []byte, key, value string) ([]byte, error) {
	section, name := "", key
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		section, name = key[:i], key[i+1:]
	}
	p, err := find(text, key, section)
	line := name + " = " + value + "\n"
	switch {
	case err != nil:
		return nil, err
	case p.value.Length > 0:
		return slices.Concat(text[:p.value.Offset], []byte(value), text[p.value.Offset+p.value.Length:]), nil
	case p.behind >= 0:
		return insert(text, p.behind, line), nil
	case section == "" && p.firstTable >= 0:
		return insert(text, p.firstTable, line), nil
	case section == "":
		return insert(text, len(text), line), nil
	}
	return insert(text, len(text), "\n["+section+"]\n"+line), nil
}

// place is where a key is in a text, or where it could go.
type place struct {
	value      unstable.Range // of the key, if it is there
	behind     int            // the line after the last one of its section; -1: there is none
	firstTable int            // the line of the first section; -1: there is none
}

func find(text []byte, key, section string) (place, error) {
	var parser unstable.Parser
	parser.Reset(slices.Clip(bytes.Clone(text))) // positions need a slice with no spare capacity
	p := place{behind: -1, firstTable: -1}
	for table := ""; parser.NextExpression(); {
		e := parser.Expression()
		if e.Kind != unstable.Table && e.Kind != unstable.ArrayTable && e.Kind != unstable.KeyValue {
			continue
		}
		full, at := keyOf(e)
		if e.Kind != unstable.KeyValue {
			if p.firstTable < 0 {
				p.firstTable = bytes.LastIndexByte(text[:at], '\n') + 1
			}
			if table = full; table == section {
				p.behind = endOfLine(text, at)
			}
			continue
		}
		if table != "" {
			full = table + "." + full
		}
		if full == key {
			if p.value = e.Value().Raw; p.value.Length == 0 {
				return p, errors.New("its value is written in a form that the gateway does not rewrite")
			}
			return p, nil
		}
		if table == section {
			p.behind = endOfLine(text, valueEnd(text, e))
		}
	}
	return p, parser.Error()
}

// keyOf is the key of an expression, and where its last part is.
func keyOf(e *unstable.Node) (key string, at int) {
	var names []string
	for it := e.Key(); it.Next(); {
		names = append(names, string(it.Node().Data))
		at = int(it.Node().Raw.Offset)
	}
	return strings.Join(names, "."), at
}

// valueEnd is a place on the last line of a key's value.
func valueEnd(text []byte, e *unstable.Node) int {
	if raw := e.Raw; raw.Length > 0 {
		return int(raw.Offset + raw.Length)
	}
	if raw := e.Value().Raw; raw.Length > 0 {
		return int(raw.Offset + raw.Length)
	}
	return len(text)
}

// endOfLine is where the line after that of a place begins.
func endOfLine(text []byte, at int) int {
	if i := bytes.IndexByte(text[min(at, len(text)):], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(text)
}

func insert(text []byte, at int, line string) []byte {
	if at > 0 && text[at-1] != '\n' {
		line = "\n" + line
	}
	return slices.Concat(text[:at], []byte(line), text[at:])
}

// replace gives a file a new content in one step, and waits until the disk has it.
func replace(path string, text []byte) error {
	mode := fs.FileMode(0o600)
	if st, err := os.Stat(path); err == nil {
		mode = st.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"."+strconv.Itoa(os.Getpid())+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // there is none after a success
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
