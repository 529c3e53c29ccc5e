package chaos

import (
	"fmt"
	"sync"
)

// kind is the type of a key; it never changes.
type kind uint8

const (
	kString kind = iota
	kCounter
	kScript // a counter that scripts count up: its slot moves in one piece
	kHash
	kindCount
)

var kindVerbs = [kindCount][]verb{
	kString:  {vGet, vGet, vGet, vSet, vMSet, vMSet, vAppend, vAppend, vDel, vDel, vGetDel, vSetNX, vTx},
	kCounter: {vGet, vIncr, vIncr, vIncr, vDel, vGetDel},
	kScript:  {vGet, vScriptIncr, vScriptIncr},
	kHash:    {vHGet, vHGetAll, vHSet, vHSet, vHSet, vHDel, vDel},
}

// tracked is one key and all that was done to it.
type tracked struct {
	name    string
	kind    kind
	partner *tracked // another of the same kind and slot
	history []op
	unknown int
}

// A key is given up when its history is as long as porcupine can check with ease: each
// write of unknown outcome is concurrent with all that follows.
const (
	historyMax = 400
	unknownMax = 6
)

// keyspace is the keys that clients work on.
type keyspace struct {
	prefix  string
	keepAll bool // no key is deleted

	mu      sync.Mutex // protects what follows
	live    []*tracked
	retired []*tracked
	made    int
	flushes []op
}

func newKeyspace(prefix string, n int) *keyspace {
	ks := &keyspace{prefix: prefix, live: make([]*tracked, n/2*2)}
	for i := 0; i < len(ks.live); i += 2 {
		ks.couple(i, kindOf(i/2))
	}
	return ks
}

// kindOf makes scripted keys few: their slots move in another way than all others.
func kindOf(i int) kind {
	if i%10 == 9 {
		return kScript
	}
	return []kind{kString, kCounter, kHash}[i%3]
}

// couple makes a new couple of keys in place i.
func (ks *keyspace) couple(i int, k kind) {
	ks.made++
	a := &tracked{name: fmt.Sprintf("{%s:%d}a", ks.prefix, ks.made), kind: k}
	b := &tracked{name: fmt.Sprintf("{%s:%d}b", ks.prefix, ks.made), kind: k, partner: a}
	a.partner = b
	ks.live[i], ks.live[i+1] = a, b
}

func (ks *keyspace) pick(i int) *tracked {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return ks.live[i%len(ks.live)]
}

func (ks *keyspace) record(k *tracked, o op) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	done := []*tracked{k}
	if o.verb == vMSet {
		o.verb, done = vSet, append(done, k.partner)
	}
	for _, k := range done {
		k.history = append(k.history, o)
		if o.unknown && !o.verb.reads() {
			k.unknown++
		}
		if len(k.history) >= historyMax || k.unknown >= unknownMax {
			ks.retire(k)
		}
	}
}

func (ks *keyspace) retire(k *tracked) {
	for i := 0; i < len(ks.live); i += 2 {
		if ks.live[i] == k || ks.live[i+1] == k {
			ks.retired = append(ks.retired, k, k.partner)
			ks.couple(i, k.kind)
		}
	}
}

// flushed notes a FLUSHALL, which every key has in its history.
func (ks *keyspace) flushed(o op) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	ks.flushes = append(ks.flushes, o)
}

// all are the keys that were used, each with its whole history.
func (ks *keyspace) all() []*tracked {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	var out []*tracked
	for _, k := range append(append([]*tracked(nil), ks.retired...), ks.live...) {
		if len(k.history) == 0 {
			continue
		}
		k.history = append(k.history, ks.flushes...)
		out = append(out, k)
	}
	ks.flushes = nil
	return out
}
