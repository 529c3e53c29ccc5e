package integration

import (
	"bytes"
	_ "embed"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"keyferry/internal/resp"
	"keyferry/router"
)

//go:embed testdata/grammar.txt
var grammarText string

// template is one line of the grammar: commands, and how their replies are compared.
type template struct {
	mode  string
	fixed bool       // not to be mutated
	cmds  [][]string // tokens
}

// name is the command as the table calls it.
func (t template) name() string {
	cmd, _ := resp.Resolve([][]byte{[]byte(t.cmds[0][0])})
	if c := resp.Lookup([]byte(t.cmds[0][0])); c != nil && c.Subs != nil && len(t.cmds[0]) > 1 {
		if s := c.Sub([]byte(t.cmds[0][1])); s != nil {
			return s.Name
		}
	}
	if cmd != nil {
		return cmd.Name
	}
	return strings.ToLower(t.cmds[0][0])
}

// alone templates answer with another number of frames than they have commands.
func (t template) alone() bool {
	for _, c := range t.cmds {
		switch c[0] {
		case "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe":
			return true
		case "client":
			if len(c) > 1 && c[1] == "reply" {
				return true
			}
		}
	}
	return false
}

func readGrammar() []template {
	var out []template
	for line := range strings.Lines(grammarText) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		mode, text, _ := strings.Cut(line, " ")
		t := template{}
		t.mode, t.fixed = strings.CutPrefix(mode, "!")
		for part := range strings.SplitSeq(text, " ; ") {
			t.cmds = append(t.cmds, strings.Fields(part))
		}
		t.fixed = t.fixed || len(t.cmds) > 1 || t.alone()
		out = append(out, t)
	}
	return out
}

// op is a template with its places filled.
type op struct {
	name string
	mode string
	cmds [][][]byte
}

func (o op) String() string {
	var parts []string
	for _, c := range o.cmds {
		parts = append(parts, fmt.Sprintf("%.60q", c))
	}
	return strings.Join(parts, " ; ")
}

const (
	scriptText = "return KEYS[1]"
	scriptSHA  = "4a2267357833227dd98abdedb8cf24b15a986445"
)

const libraryText = `#!lua name=lib
redis.register_function('f', function(keys, args) return redis.call('incr', keys[1]) end)
redis.register_function{function_name='r', callback=function(keys, args) return redis.call('type', keys[1]) end, flags={'no-writes'}}`

var (
	tags   = []string{"a", "b", "c", "d", "e"}
	kinds  = "snlhSzxgpb"
	values = []string{"", "abc", "1000000", "-7", "3.5", "\x00\xff\r\n", "héllo", strings.Repeat("long", 40)}
	// A number that were a short time to live would expire on one side first; a negative
	// one is a count of random elements with repetition, of any length.
	odd = []string{"", "x", "0", "3000000", "9223372036854775808", "3.5", "nan", "(", "\x00", "LIMIT", "COUNT", "BY"}
)

// generator fills templates from a seeded source.
type generator struct {
	*rand.Rand
}

func pick[T any](g generator, list []T) T { return list[g.IntN(len(list))] }

func (g generator) op(t template, mutate bool) op {
	for {
		o := op{name: t.name(), mode: t.mode}
		tag := pick(g, tags)
		for _, tokens := range t.cmds {
			o.cmds = append(o.cmds, g.fill(tokens, tag))
		}
		if mutate && !t.fixed {
			o.cmds[0] = g.mutate(o.cmds[0], tag, t)
		}
		if !crosses(o) && !sortsAsFound(o) {
			return o
		}
	}
}

// fill gives the arguments of one command.
func (g generator) fill(tokens []string, tag string) [][]byte {
	var out [][]byte
	for i := 0; i < len(tokens); i++ {
		switch t := tokens[i]; {
		case t == "[" && strings.Contains(strings.Join(tokens[i:], " "), " ]"):
			end, depth := i+1, 1
			for ; depth > 0; end++ {
				switch tokens[end] {
				case "[":
					depth++
				case "]":
					depth--
				}
			}
			if g.IntN(2) == 0 {
				out = append(out, g.fill(tokens[i+1:end-1], tag)...)
			}
			i = end - 1
		case strings.HasPrefix(t, "+") && len(t) > 1 && t != "+inf" && !strings.HasPrefix(t, "+inf|"):
			for range 1 + g.IntN(3) {
				out = append(out, g.token(t[1:], tag)...)
			}
		default:
			out = append(out, g.token(t, tag)...)
		}
	}
	return out
}

// token gives the arguments for one place. An alternative with underscores is several
// arguments, or one with blanks if it is the text of a script.
func (g generator) token(t, tag string) [][]byte {
	if len(t) > 1 && strings.Contains(t, "|") {
		t = pick(g, strings.Split(t, "|"))
	}
	switch t {
	case "$i":
		return one(pick(g, []string{"0", "1", "2", "-1", "-2", "5", "100", "-100", "x", "3.0", "9223372036854775807"}))
	case "$f":
		return one(pick(g, []string{"0", "1", "2.5", "-3", "1e3", "inf", "-inf", "nan", "x", "4", "5"}))
	case "$v":
		return one(pick(g, values))
	case "$m":
		return one(string("abcdefgh"[g.IntN(8)]))
	case "$F":
		return one(fmt.Sprintf("f%d", g.IntN(5)))
	case "$id":
		return one(pick(g, []string{"1-1", "1-2", "2-0", "3-1", "5", "9-9", "0-0", "x"}))
	case "$o":
		return one(g.key(pick(g, tags)))
	case "$k":
		return one(g.key(tag))
	case "$pattern":
		return one(fmt.Sprintf("{%s}%s", tag, pick(g, []string{"s*", "n*", "h*->f1", "h*->nothing", "*", "s*->", "x", "*{other}"})))
	case "$sha":
		return one(scriptSHA)
	case "$script":
		return one(scriptText)
	case "$library":
		return one(libraryText)
	}
	if len(t) == 2 && t[0] == '$' {
		if g.IntN(10) == 0 {
			return one(g.key(tag))
		}
		return one(fmt.Sprintf("{%s}%c%d", tag, t[1], g.IntN(3)))
	}
	if strings.HasPrefix(t, "return_") || strings.HasPrefix(t, "return{") {
		return one(strings.ReplaceAll(t, "_", " "))
	}
	var out [][]byte
	for part := range strings.SplitSeq(t, "_") {
		out = append(out, []byte(part))
	}
	return out
}

func one(s string) [][]byte { return [][]byte{[]byte(s)} }

func (g generator) key(tag string) string {
	return fmt.Sprintf("{%s}%c%d", tag, kinds[g.IntN(len(kinds))], g.IntN(3))
}

// mutate makes arguments wrong: one is dropped, doubled, replaced, or two change places.
func (g generator) mutate(args [][]byte, tag string, t template) [][]byte {
	first := 1
	if strings.Contains(t.name(), "|") {
		first = 2
	}
	n := len(args) - first
	replacement := []byte(pick(g, odd))
	if c := resp.Lookup(args[0]); c.Serve == resp.Blocks { // no long time-outs
		replacement = []byte(pick(g, []string{"", "x", "-1", "nan", "(", "COUNT"}))
	}
	if g.IntN(3) == 0 {
		replacement = []byte(g.key(tag))
	}
	if n == 0 {
		return append(args, replacement)
	}
	i := first + g.IntN(n)
	switch g.IntN(5) {
	case 0:
		return append(args[:i:i], args[i+1:]...)
	case 1:
		return append(append(args[:i:i], args[i]), args[i:]...)
	case 2:
		j := first + g.IntN(n)
		args[i], args[j] = args[j], args[i]
	case 3:
		return append(args, replacement)
	default:
		args[i] = replacement
	}
	return args
}

// crosses reports that the keys of a command are in several slots, which is a difference
// by design and has its own tests.
func crosses(o op) bool {
	slot := -1
	for _, args := range o.cmds {
		c, bad := resp.Resolve(args)
		if bad != "" || !c.Serve.ByKey() || c.Serve.Splits() {
			continue
		}
		keys, err := c.AppendKeys(nil, args)
		if err != nil {
			continue
		}
		for _, k := range keys {
			s := router.Redis.Slot(args[k])
			if slot >= 0 && s != slot {
				return true
			}
			slot = s
		}
	}
	return false
}

// sortsAsFound reports SORT of a set by something else than its elements: where that says
// nothing they come as the set has them, and a copy of it has them in another order.
func sortsAsFound(o op) bool {
	return slices.ContainsFunc(o.cmds, func(args [][]byte) bool {
		return bytes.HasPrefix(bytes.ToLower(args[0]), []byte("sort")) && len(args) > 2 && bytes.Contains(args[1], []byte("}S")) &&
			slices.ContainsFunc(args[2:], func(a []byte) bool { return bytes.EqualFold(a, []byte("by")) })
	})
}

// seedOps create keys of each kind, so that commands have something to work on.
func (g generator) seedOps() []op {
	var out []op
	for _, line := range []string{
		"set $s abc", "set $s $v", "set $n 10", "rpush $l a b c d", "rpush $l d e f", "rpush $l 2 0 1", "hset $h f1 1 f2 abc f3 2.5", "sadd $S a b c d", "sadd $S c d e",
		"zadd $z 1 a 2 b 3 c", "zadd $z 2 c 4 d 5 e", "xadd $x 1-1 f1 v", "xadd $x 2-1 f2 v f3 w", "xgroup create $x grp 0 MKSTREAM",
		"geoadd $g 13.361389 38.115556 a 15.087269 37.502669 b", "pfadd $p a b c", "setbit $b 7 1", "setex $s 100000 withttl",
	} {
		out = append(out, g.op(template{mode: "exact", cmds: [][]string{strings.Fields(line)}}, false))
	}
	return out
}
