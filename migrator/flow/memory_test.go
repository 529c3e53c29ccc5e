package flow

import "testing"

// TestMemoryUnseen: what the target says of its memory may be old news; keys that were under
// way when it was asked, or were taken since, count as if it did not know them.
func TestMemoryUnseen(t *testing.T) {
	const dump = 1000
	var m memory
	cost := m.cost(dump)
	m.blind()
	if !m.short(1, dump) {
		t.Error("nothing is known, and there is room")
	}
	m.asking(100)
	m.spend(300, dump)
	m.spend(200, dump)
	m.is(1000*cost, dump)
	if m.short(390, dump) || !m.short(410, dump) {
		t.Errorf("room for %d keys with 100 under way and 500 taken meanwhile", m.room/cost)
	}
	m.asking(0)
	m.is(-1, dump)
	if m.short(1<<20, dump) || m.most(dump) >= 0 {
		t.Error("short of a memory without limit")
	}
}

// TestMemoryLearns: keys of which the DUMP is 30 bytes and which take 1200 stop before the
// room is used up, after a number of looks that grows slowly with it.
func TestMemoryLearns(t *testing.T) {
	const dump, takes = 30, 1200
	for _, room := range []int64{100 << 10, 2 << 20, 1 << 30} {
		var m memory
		m.blind()
		left, looks, moved := room, 0, int64(0)
		for {
			if m.short(8, dump) {
				if looks++; looks > 200 {
					t.Fatalf("room %d: %d looks", room, looks)
				}
				m.asking(0)
				if m.is(left, dump); m.short(8, dump) {
					break
				}
			}
			m.spend(8, dump)
			m.done += 8
			moved += 8
			left -= 8 * takes
		}
		if left < 0 || left > room/8+20*takes {
			t.Errorf("room %d: %d are left when it stops", room, left)
		}
		t.Logf("room %d: %d keys, %d looks, %d left", room, moved, looks, left)
	}
}
