package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestPagesThatBboltWouldNotSurvive: numbers in a file that point outside it, or back.
func TestPagesThatBboltWouldNotSurvive(t *testing.T) {
	dir, _ := served(t)
	path := filepath.Join(dir, "topology.db")
	whole, err := os.ReadFile(path)
	must(t, err)
	must(t, walkPages(path))
	p, root := newPages(whole)
	at := root * p.size
	put := func(offset uint64, bytes int, v uint64) []byte {
		b := append([]byte(nil), whole...)
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], v)
		copy(b[at+offset:], n[:bytes])
		return b
	}
	for what, b := range map[string][]byte{
		"another id":             put(0, 8, root+1),
		"no kind":                put(8, 2, 0x20),
		"a branch of leaves":     put(8, 2, branchPage),
		"too many elements":      put(10, 2, 60000),
		"more pages than are":    put(12, 4, 1<<31),
		"a place outside":        put(pageHeader+4, 4, 1<<31),
		"a key outside":          put(pageHeader+8, 4, 1<<31),
		"a value outside":        put(pageHeader+12, 4, 1<<31),
		"a bucket without bytes": put(pageHeader+12, 4, 3),
	} {
		must(t, os.WriteFile(path, b, 0o600))
		if err := walkPages(path); !errors.Is(err, errDamaged) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := openAs(dir); err == nil {
			t.Errorf("%s: it is taken", what)
		}
	}
	// A bucket whose root is the page that it is on.
	key := uint64(binary.LittleEndian.Uint32(whole[at+pageHeader+8:]))
	pos := uint64(binary.LittleEndian.Uint32(whole[at+pageHeader+4:]))
	must(t, os.WriteFile(path, put(pageHeader+pos+key, 8, root), 0o600))
	if err := walkPages(path); !errors.Is(err, errDamaged) {
		t.Errorf("a page in itself: %v", err)
	}
}

// TestWalkNeverPanics: whatever is in a file, the walk ends.
func TestWalkNeverPanics(t *testing.T) {
	dir, _ := served(t)
	path := filepath.Join(dir, "topology.db")
	whole, err := os.ReadFile(path)
	must(t, err)
	rng := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 5000 {
		b := bytes.Clone(whole)
		for range 1 + rng.IntN(8) {
			at := rng.IntN(len(b))
			if rng.IntN(2) == 0 { // where the numbers are
				at = rng.IntN(len(b)/4096)*4096 + rng.IntN(256)
			}
			b[at] = byte(rng.Uint32())
		}
		b = b[:len(b)-rng.IntN(2)*rng.IntN(len(b)/2)]
		if p, root := newPages(b); p != nil {
			if _, err := p.walk(root, nil, nil); err != nil {
				refused++
			}
		}
	}
	if refused == 0 {
		t.Error("none of 5,000 damaged files is refused")
	}
}
