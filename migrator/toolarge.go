package migrator

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"keyferry/migrator/joberr"
	"keyferry/migrator/keymove"
	"keyferry/migrator/link"
	"keyferry/slotlock"
)

// tooLarge are the keys that the target would not take, since the last complete pass. They stay
// at the source, and the others go on; when a pass is through, the job ends its attempt with them.
type tooLarge struct {
	count atomic.Int64 // of keys, for those who can't wait for mu

	mu    sync.Mutex           // protects keys; never held across I/O
	keys  map[slotlock.Key]int // bytes of the DUMP
	limit link.Limit
}

// largeNamed is how many of them an error names.
const largeNamed = 5

func (t *tooLarge) add(mv *keymove.Key, most link.Limit) {
	k := slotlock.Key{DB: mv.DB, Name: strings.Clone(mv.Name)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keys == nil {
		t.keys = make(map[slotlock.Key]int)
	}
	t.keys[k], t.limit = mv.Bytes(), most
	t.count.Store(int64(len(t.keys)))
}

// remove forgets a key that has got there after all.
func (t *tooLarge) remove(k slotlock.Key) {
	if t.count.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.keys, k)
	t.count.Store(int64(len(t.keys)))
}

// among is the error about those of some keys; nil: there is none.
func (t *tooLarge) among(keys []slotlock.Key) error {
	if t.count.Load() == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range keys {
		if _, ok := t.keys[k]; ok {
			return t.err()
		}
	}
	return nil
}

// drain is the error about all of them; nil: there is none. The next pass begins anew.
func (t *tooLarge) drain() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.keys) == 0 {
		return nil
	}
	err := t.err()
	clear(t.keys)
	t.count.Store(0)
	return err
}

// err names them. mu is held.
func (t *tooLarge) err() error {
	var names []string
	for k, bytes := range t.keys {
		names = append(names, fmt.Sprintf("%.64q of database %d (%d bytes)", k.Name, k.DB, bytes))
	}
	slices.Sort(names)
	n := len(names)
	if n > largeNamed {
		names = append(names[:largeNamed], "…")
	}
	return joberr.At(joberr.Target, &joberr.HopelessError{Code: "TOOLARGE", Text: fmt.Sprintf("%d keys are larger than the target takes (%s %d) and stay at the source: %s", n, t.limit.Setting, t.limit.Bytes, strings.Join(names, ", "))})
}
