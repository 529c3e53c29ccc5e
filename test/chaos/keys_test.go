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
	kString:  {vGet, vGet, vGet, vSet, vSet, vAppend, vAppend, vDel, vGetDel, vSetNX, vTx},
	kCounter: {vGet, vIncr, vIncr, vIncr, vDel, vGetDel},
	kScript:  {vGet, vScriptIncr, vScriptIncr},
	kHash:    {vHGet, vHGetAll, vHSet, vHSet, vHSet, vHDel, vDel},
}

// tracked is one key and all that was done to it.
type tracked struct {
	name    string
	kind    kind
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
	prefix string

	mu      sync.Mutex // protects what follows
	live    []*tracked
	retired []*tracked
	made    int
	flushes []op
}

func newKeyspace(prefix string, n int) *keyspace {
	ks := &keyspace{prefix: prefix, live: make([]*tracked, n)}
	for i := range ks.live {
		ks.live[i] = ks.fresh(kindOf(i))
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

func (ks *keyspace) fresh(k kind) *tracked {
	ks.made++
	return &tracked{name: fmt.Sprintf("%s:%d", ks.prefix, ks.made), kind: k}
}

func (ks *keyspace) pick(i int) *tracked {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return ks.live[i%len(ks.live)]
}

func (ks *keyspace) record(k *tracked, o op) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	k.history = append(k.history, o)
	if o.unknown && !o.verb.reads() {
		k.unknown++
	}
	if len(k.history) < historyMax && k.unknown < unknownMax {
		return
	}
	for i, l := range ks.live {
		if l == k {
			ks.retired = append(ks.retired, k)
			ks.live[i] = ks.fresh(k.kind)
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
