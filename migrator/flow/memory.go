package flow

// memory is the target's, as far as it is known: how many keys may go there before it has to
// be looked at again. What a key takes there is not what its DUMP is long, which is compressed;
// it is learned from how much the target has grown between two weighings, and until then few keys
// go. Its methods are called with the governor's mu held.
type memory struct {
	room   int64 // bytes that the target has for us, less what has been taken since; < 0: no limit is known
	budget int   // keys that may be taken before the next weighing

	unseen    int     // keys that the weighing under way may not see
	keyBytes  float64 // that a key took; 0: not known yet
	done      int64   // keys that the target has restored, of all times
	weighings int     // that have come
	clear     int64   // room by the last of them, as if nothing were under way
	learning  bool    // there is a weighing from which growth is counted:
	lastRoom  int64   // what it said
	lastDone  int64   // done at that time
}

const (
	firstBudget  = 64 // keys, of which the target's growth says what they take
	fewestBudget = 16
	wildGuess    = 64 << 10 // bytes: what few keys are larger than
	tellingKeys  = 32
	part         = 4 // of the room may be spent between two weighings
)

// cost is what a key is thought to take; dumpBytes is how long DUMPs are.
func (m *memory) cost(dumpBytes float64) int64 {
	return max(int64(2*dumpBytes)+200, int64(m.keyBytes))
}

// asking is called before the target is asked, with the keys under way: the answer may know
// nothing of them, nor of those that are taken until it comes.
func (m *memory) asking(keys int) { m.unseen = keys }

// is tells how much the target has for us; < 0: no limit.
func (m *memory) is(room int64, dumpBytes float64) {
	m.weighings++
	if m.room, m.clear = room, room; room < 0 {
		m.learning = false
		return
	}
	n := m.done - m.lastDone
	if grown := m.lastRoom - room; m.learning && n >= tellingKeys && grown > 0 {
		each := float64(grown) / float64(n)
		m.keyBytes = max(each, m.keyBytes+(each-m.keyBytes)/4)
	}
	if !m.learning || n >= tellingKeys || room > m.lastRoom {
		m.learning, m.lastRoom, m.lastDone = true, room, m.done
	}
	cost := m.cost(dumpBytes)
	m.room = max(0, room-int64(m.unseen)*cost)
	m.budget = max(fewestBudget, int(m.room/(part*cost)))
	if m.keyBytes == 0 {
		m.budget = max(firstBudget, int(m.room/(part*wildGuess)))
	}
}

// blind is before the first weighing: nothing may be taken.
func (m *memory) blind() { m.room, m.clear, m.budget = 0, 0, 0 }

func (m *memory) spend(n int, dumpBytes float64) {
	m.unseen += n
	if m.room >= 0 {
		m.room = max(0, m.room-int64(n)*m.cost(dumpBytes))
		m.budget -= n
	}
}

// short reports that the target is to be looked at before n keys may go.
func (m *memory) short(n int, dumpBytes float64) bool {
	return m.room >= 0 && (m.budget <= 0 || m.room < int64(n)*m.cost(dumpBytes))
}

// full reports that by the last look the target has no room for n keys, even if nothing of
// what is under way should get there.
func (m *memory) full(n int, dumpBytes float64) bool {
	return m.room >= 0 && m.clear < int64(n)*m.cost(dumpBytes)
}

// most is how many keys should be under way at once; < 0: as many as anybody likes.
func (m *memory) most(dumpBytes float64) float64 {
	if m.room < 0 {
		return -1
	}
	return min(float64(m.room)/float64(2*m.cost(dumpBytes)), float64(max(m.budget, fewestBudget)))
}

// KeyCost is how many bytes of the target a key is thought to take.
func (g *Governor) KeyCost() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.memory.cost(g.size.most)
}

// Weighing tells that the target is about to be asked how much memory it has, Weighed what it
// has for us; < 0: no limit.
func (g *Governor) Weighing() {
	g.mu.Lock()
	g.memory.asking(g.keys)
	g.mu.Unlock()
}

// Weighed: see Weighing; room is in bytes.
func (g *Governor) Weighed(room int64) {
	g.mu.Lock()
	g.memory.is(room, g.size.most)
	g.mu.Unlock()
}

// Blind lets nothing go to the target before it has been weighed.
func (g *Governor) Blind() {
	g.mu.Lock()
	g.memory.blind()
	g.mu.Unlock()
}

// Room says whether the target has room for n keys: it has, it is to be looked at first, or
// by the last of so many weighings it is full.
func (g *Governor) Room(n int) (short, full bool, weighings int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.memory.short(n, g.size.most), g.memory.full(n, g.size.most), g.memory.weighings
}
