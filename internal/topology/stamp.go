package topology

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
)

// A data directory that is put back from a copy has an older State, and goes on from there: its epochs
// have the numbers of others that there have been. What tells them apart is left at the servers, whose
// keys are where the newest State has put them:
//
//	Topology ── Birth{40, token} ──► Stamp at the primary of each group
//	Topology ◄─ Had that? ────────── Stamp, at a start and whenever it is looked at

// Birth is an epoch in which groups or slots changed. By its token it is known from one of the same number in
// a copy of the store that went on by itself. The start of a gateway is no such epoch: a copy from before it
// is as good.
type Birth struct {
	Epoch uint64 `json:"epoch"`
	Token uint32 `json:"token"` // random
}

// pastMax is how many births a Topology remembers.
const pastMax = 64

// bear notes the birth of t's epoch, if it is one. t was made of old.
func (t *Topology) bear(old *Topology) {
	if len(old.Past) > 0 && t.Accepted == old.Accepted && t.samePlaces(old) {
		return
	}
	past := old.Past[max(0, len(old.Past)-pastMax+1):]
	if t.Accepted != old.Accepted {
		past = nil // what servers show of those is not held against the store any more
	}
	t.Past = append(append(make([]Birth, 0, len(past)+1), past...), Birth{t.Epoch, rand.Uint32()})
}

// samePlaces reports that all keys are at the same servers.
func (t *Topology) samePlaces(old *Topology) bool {
	return slices.Equal(t.Groups, old.Groups) && slices.Equal(t.Slots, old.Slots) && reflect.DeepEqual(t.Moves, old.Moves)
}

// epochAfter is the epoch of t, which differs from old, the topology that it was made of.
func (t *Topology) epochAfter(old *Topology) uint64 { return max(old.Epoch+1, t.Accepted) }

// newest is the last birth; zero: of a store that was written before there were any.
func (t *Topology) newest() (b Birth) {
	if n := len(t.Past); n > 0 {
		b = t.Past[n-1]
	}
	return b
}

// Had reports whether the store can have had a birth: it is among those that are remembered, or from before
// them.
func (t *Topology) Had(b Birth) bool {
	if len(t.Past) == 0 || b.Epoch < t.Past[0].Epoch {
		return b.Epoch <= t.Epoch
	}
	return slices.Contains(t.Past, b)
}

// Accept makes the store the newest one, whatever servers show up to the epoch shown: its own goes on
// above that.
func (t *Topology) Accept(shown uint64) { t.Accepted = max(shown, t.Epoch) + 1 }

// StampKey is its name, one of those that are reserved (router.ReservedPrefix). It is in database 0, and there
// for good: whoever counts keys leaves it out.
const StampKey = "__keyferry__:cluster"

// Stamp is what a cluster leaves at the primary of each of its groups: whose server it is, and the newest
// birth that it knows of.
type Stamp struct {
	Cluster string `json:"cluster"`
	Group   string `json:"group"`
	Gateway string `json:"gateway"` // that wrote it
	Birth
}

// StampOf is what the primary of a group is to have.
func (t *Topology) StampOf(group, gateway string) Stamp {
	return Stamp{Cluster: t.ClusterID, Group: group, Gateway: gateway, Birth: t.newest()}
}

// ReadStamp reads what a server has; false: nothing that says whose it is.
func ReadStamp(text string) (s Stamp, ok bool) {
	ok = json.Unmarshal([]byte(text), &s) == nil && s.Cluster != ""
	return s, ok
}

// String is what is stored at a server.
func (s Stamp) String() string {
	text, _ := json.Marshal(s) // strings and numbers
	return string(text)
}

// StampVerdict is what a stamp says of the store that it is compared with.
type StampVerdict uint8

const (
	StampFits    StampVerdict = iota // the cluster's, and of a birth that the store has had
	StampNewer                       // the cluster's, and of one that the store has not had
	StampForeign                     // another cluster's
	StampOther                       // another group's, which the cluster has at another address
)

// Judge compares the stamp of a group's server with the topology. Of several gateways one may lag behind the store, so what is
// compared must have been loaded after the stamp was read.
func (t *Topology) Judge(s Stamp, of Group) StampVerdict {
	other, known := t.Group(s.Group)
	switch {
	case s.Cluster != t.ClusterID:
		return StampForeign
	case !t.Had(s.Birth):
		return StampNewer
	case known && other.ID != of.ID && addrKey(other.Addr) != addrKey(of.Addr):
		return StampOther
	}
	return StampFits
}
