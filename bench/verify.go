package bench

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Verdict is what Verify found, together with what was seen while the run went on.
type Verdict struct {
	KeysChecked int      `json:"keys_checked"`
	InDoubt     int      `json:"in_doubt"` // keys of which several states would be right
	Lost        int64    `json:"lost"`
	Stale       int64    `json:"stale"`
	Resurrected int64    `json:"resurrected"`
	WrongTTL    int64    `json:"wrong_ttl"`
	Examples    []string `json:"examples,omitempty"`
}

// Clean reports that nothing is wrong.
func (v Verdict) Clean() bool { return v.Lost+v.Stale+v.Resurrected+v.WrongTTL == 0 }

// Verify reads every key back and compares it with what must be there. Run must be over.
func (o *Oracle) Verify(ctx context.Context, addr string) (Verdict, error) {
	v := Verdict{}
	var ttl int64
	err := o.each(func(c *oracleClient) error {
		wrong, err := c.verify(ctx, addr)
		o.mu.Lock()
		ttl += wrong
		o.mu.Unlock()
		return err
	})
	if err != nil {
		return v, err
	}
	for _, c := range o.clients {
		v.KeysChecked += len(c.keys)
		for _, k := range c.keys {
			if k.parked {
				v.InDoubt++
			}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	v.Lost, v.Stale, v.Resurrected, v.WrongTTL = o.violations[lost], o.violations[stale], o.violations[resurrected], ttl
	v.Examples = append(v.Examples, o.examples...)
	return v, nil
}

var readBack = [kinds][]string{
	plainString: {"GET"}, ttlString: {"GET"}, shortString: {"GET"}, counter: {"GET"}, hash: {"HGETALL"},
	list: {"LRANGE", "0", "-1"}, set: {"SMEMBERS"}, zset: {"ZRANGE", "0", "-1", "WITHSCORES"}, stream: {"XRANGE", "-", "+"},
}

func (c *oracleClient) verify(ctx context.Context, addr string) (wrongTTL int64, err error) {
	for db, keys := range c.byDB {
		cn, err := dialConn(addr, c.o.cfg.Password, c.o.cfg.DBs[db], dialTimeout)
		if err != nil {
			return 0, err
		}
		_ = cn.SetDeadline(time.Now().Add(10 * time.Minute))
		for len(keys) > 0 && ctx.Err() == nil {
			n := min(len(keys), 100)
			for _, k := range keys[:n] {
				rb := readBack[k.kind]
				cn.add(append([]string{rb[0], k.name}, rb[1:]...)...)
				cn.add("PTTL", k.name)
			}
			sent := time.Now()
			err := cn.flush()
			for _, k := range keys[:n] {
				var got, ttl reply
				if err == nil {
					got, err = cn.read()
				}
				if err == nil {
					ttl, err = cn.read()
				}
				if err != nil {
					_ = cn.Close()
					return wrongTTL, fmt.Errorf("reading back %s: %w", k.name, err)
				}
				wrongTTL += c.compare(k, got, ttl.n, sent)
			}
			keys = keys[n:]
		}
		_ = cn.Close()
	}
	return wrongTTL, ctx.Err()
}

// compare holds one key against its possible states. It answers 1 for a wrong expiry.
func (c *oracleClient) compare(k *key, got reply, pttl int64, sent time.Time) int64 {
	if k.broken {
		return 0 // counted while the run went on
	}
	if got.isError() {
		c.o.violation(lost, fmt.Sprintf("%s: reading it back answered %s", k.name, got))
		return 0
	}
	text := contents(k, got)
	now := time.Now()
	for _, s := range k.states {
		want := s.contents(k)
		gone := want != "" && text == "" && canBeGone(s, now)
		if want == text && !(want != "" && expired(s, sent, now)) || gone {
			if text != "" && !ttlRight(s, pttl, sent, now) {
				c.o.note(fmt.Sprintf("wrong ttl: %s: PTTL %d, expiry is due in %v", k.name, pttl, s.expHi.Sub(now)))
				return 1
			}
			return 0
		}
	}
	want := k.states[len(k.states)-1].contents(k)
	c.o.violation(judgeContents(want, text), fmt.Sprintf("%s: holds %.200q, must hold %.200q (%d states are possible)", k.name, text, want, len(k.states)))
	return 0
}

func (o *Oracle) note(example string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.examples) < 20 {
		o.examples = append(o.examples, example)
	}
}

func ttlRight(s *state, pttl int64, sent, now time.Time) bool {
	if s.expHi.IsZero() {
		return pttl == -1
	}
	if pttl == -2 { // it has expired since it was read
		return canBeGone(s, now)
	}
	left := time.Duration(pttl) * time.Millisecond
	return left >= s.expLo.Sub(now)-expirySlack && left <= s.expHi.Sub(sent)+expirySlack
}

// contents makes a reply comparable: "" for no key.
func contents(k *key, got reply) string {
	switch got.kind {
	case '_':
		return ""
	case '$':
		return got.text
	}
	var parts []string
	switch k.kind {
	case hash, zset:
		for i := 0; i+1 < len(got.list); i += 2 {
			parts = append(parts, got.list[i].text+"="+got.list[i+1].text)
		}
	case stream:
		if len(got.list) == 0 {
			return ""
		}
		// The ids are not compared: a doubtful XADD leaves a gap.
		return strconv.Itoa(len(got.list)) + " entries"
	default:
		for _, e := range got.list {
			parts = append(parts, e.text)
		}
	}
	if k.kind != list {
		sort.Strings(parts)
	}
	return strings.Join(parts, " ")
}

func (s *state) contents(k *key) string {
	var parts []string
	switch k.kind {
	case plainString, ttlString, shortString:
		if s.seq == 0 {
			return ""
		}
		return k.value(s.seq)
	case counter, stream:
		if s.n == 0 {
			return ""
		}
		if k.kind == counter {
			return strconv.FormatInt(s.n, 10)
		}
		return strconv.FormatInt(s.n, 10) + " entries"
	case list:
		for _, seq := range s.items {
			parts = append(parts, k.value(seq))
		}
		return strings.Join(parts, " ")
	}
	for e, seq := range s.elems {
		switch k.kind {
		case hash:
			parts = append(parts, elemName(e)+"="+k.value(seq))
		case zset:
			parts = append(parts, elemName(e)+"="+uintText(seq))
		default:
			parts = append(parts, elemName(e))
		}
	}
	sort.Strings(parts)
	return strings.Join(parts, " ")
}

// judgeContents names the difference: all or a part missing is lost, more than there
// should be is resurrected, something else is stale.
func judgeContents(want, got string) verdict {
	switch {
	case want == "" && got != "":
		return resurrected
	case got == "":
		return lost
	}
	w, g := strings.Fields(want), strings.Fields(got)
	switch {
	case len(g) < len(w):
		return lost
	case len(g) > len(w):
		return resurrected
	}
	return stale
}
