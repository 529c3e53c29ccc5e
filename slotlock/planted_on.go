//go:build failpoints

package slotlock

import (
	"sync"
	"time"
)

// forgotten has the keys that CommitForgetting committed, and when.
var forgotten sync.Map

type forgottenKey struct {
	t *Table
	k Key
}

// forgetAfter lets the command run that the key was pulled for.
const forgetAfter = 10 * time.Millisecond

// CommitForgetting is Commit, but soon the table does not know any more that the key lives at
// the target: a planted mistake.
func (t *Table) CommitForgetting(k Key) {
	forgotten.Store(forgottenKey{t, k}, time.Now())
	t.Commit(k)
}

func (t *Table) forgot(db int, name []byte) bool {
	at, ok := forgotten.Load(forgottenKey{t, Key{db, string(name)}})
	return ok && time.Since(at.(time.Time)) > forgetAfter
}
