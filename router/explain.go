package router

import (
	"fmt"
	"sort"
	"strings"

	"keyferry/internal/resp"
)

// String names the outcome.
func (o Outcome) String() string {
	return [...]string{"serve", "resolve", "split", "take-first", "crossslot", "unserved"}[o]
}

// ways are the outcomes of the commands that are not, or not only, routed by their keys, and
// why.
var ways = map[resp.Serve]struct{ outcome, why string }{
	resp.Refused:     {"refuse", "the command table says that the gateway does not serve it"},
	resp.Local:       {"local", "the gateway answers by itself"},
	resp.Transaction: {"transact", "it belongs to transactions: the gateway queues commands until EXEC and sends them as one block to the group of their keys"},
	resp.Hub:         {"hub", "it is about channels: the gateway subscribes once for all clients and publishes at one group by the channel's name"},
	resp.All:         {"all", "it concerns every group that serves slots; the replies are merged"},
	resp.Any:         {"any", "it has no key: any one group that serves slots can answer"},
	resp.Blocks:      {"block", "it may block: it is sent on a server connection of the client's own, and asked again at the target should its key move meanwhile"},
	resp.Script:      {"script", "scripts run where their keys are; with no keys, at any one group"},
	resp.Sort:        {"sort", "SORT runs where its key is; BY and GET patterns that can stand for keys of other slots are refused"},
}

// Explanation is what Route decides about a request, and why.
type Explanation struct {
	Command string    `json:"command"`
	Outcome string    `json:"outcome"`
	Slot    int       `json:"slot"` // -1: none, or several
	Group   string    `json:"group,omitempty"`
	Target  string    `json:"target,omitempty"` // while the slot moves
	Job     string    `json:"job,omitempty"`
	Gateway string    `json:"gateway,omitempty"` // that moves it, if it is another one
	Keys    []KeySlot `json:"keys"`
	Why     []string  `json:"why"` // sentences, the general first
}

// KeySlot is one key of a request.
type KeySlot struct {
	Key   string `json:"key"`
	Slot  int    `json:"slot"`
	Group string `json:"group,omitempty"`
}

// Explain says how a request would be served by this table. It asks Route itself, so that
// what it says is what is done.
func (t *Table) Explain(args [][]byte) Explanation {
	x := Explanation{Slot: -1, Outcome: ways[resp.Refused].outcome, Keys: []KeySlot{}}
	if len(args) == 0 {
		x.Why = []string{"there is no command"}
		return x
	}
	x.Command = strings.ToLower(string(args[0]))
	c, bad := resp.Resolve(args)
	if bad != "" {
		x.Why = []string{"it is answered with the error: " + bad}
		return x
	}
	x.Command = c.Name
	keys, err := c.AppendKeys(nil, args)
	if err != nil {
		x.Why = []string{"its keys can't be told: ERR " + err.Error()}
		return x
	}
	for _, k := range keys {
		s := t.Scheme.Slot(args[k])
		x.Keys = append(x.Keys, KeySlot{string(args[k]), s, t.groupAt(t.Slots[s].Owner)})
	}
	way, special := ways[c.Serve]
	if special {
		x.Outcome, x.Why = way.outcome, []string{way.why}
	}
	switch {
	case special && !c.Serve.ByKey():
		return x
	case len(keys) == 0:
		if !special {
			x.Outcome = ways[resp.Any].outcome
		}
		x.Why = append(x.Why, "it names no key: any one group that serves slots can answer")
		return x
	}
	o, slot := t.Route(c, args, keys)
	if x.Slot = slot; slot < 0 {
		x.Outcome, x.Why = o.String(), t.whySeveral(&x, o, c)
		return x
	}
	if !special {
		x.Outcome = o.String()
	}
	x.Why = append(x.Why, t.whySlot(&x, args)...)
	return x
}

func (t *Table) groupAt(i int16) string {
	if i < 0 {
		return ""
	}
	return t.Groups[i].ID
}

// whySeveral explains a request whose keys are in several slots.
func (t *Table) whySeveral(x *Explanation, o Outcome, c *resp.Command) []string {
	switch o {
	case Split:
		return append([]string{"its keys are in several slots, and " + strings.ToUpper(c.Name) + " can be cut by slot and the replies merged; it is not atomic across slots"}, t.parts(x)...)
	case TakeFirst:
		return append([]string{"its keys are in several slots: they are asked one after the other, in the order of the keys, until one has something; who blocks waits in the gateway"}, t.parts(x)...)
	}
	return append([]string{"its keys are in several slots, and " + strings.ToUpper(c.Name) + " can't be cut: it is answered with -CROSSSLOT; a hash tag {…} brings keys together"}, t.parts(x)...)
}

// whySlot explains a request whose keys are in one slot, by RouteSlot.
func (t *Table) whySlot(x *Explanation, args [][]byte) []string {
	s := t.Slots[x.Slot]
	x.Group, x.Target = t.groupAt(s.Owner), t.groupAt(s.Target)
	hash := "CRC16 mod 16384"
	if t.Scheme == Codis {
		hash = "CRC32 mod 1024"
	}
	whose := "its key has"
	if n := len(x.Keys); n > 1 {
		whose = fmt.Sprintf("its %d keys have", n)
	}
	out := []string{fmt.Sprintf("%s slot %d (%s of the name, or of what is in {…})", whose, x.Slot, hash)}
	if via := s.Via; t.IsPeer(via) {
		x.Gateway = t.Upstream(via).Peer.Name
		return append(out, fmt.Sprintf("the slot moves from %s to %s under gateway %s: the command is sent to that, which decides for each key", x.Group, x.Target, x.Gateway))
	}
	switch t.RouteSlot(x.Slot) {
	case Unserved:
		return append(out, "no group serves that slot: it is answered with -CLUSTERDOWN")
	case Resolve:
		x.Job = t.Jobs[s.Job].ID
		return append(out, fmt.Sprintf("the slot moves from %s to %s (job %s): the lock table decides for each key, certainly not moved: %s; moved: %s; else it is moved first",
			x.Group, x.Target, x.Job, x.Group, x.Target))
	}
	return append(out, fmt.Sprintf("the slot is stable at %s (epoch %d)", x.Group, t.Epoch))
}

// parts tells which keys go together.
func (t *Table) parts(x *Explanation) []string {
	by := make(map[int]int)
	for _, k := range x.Keys {
		by[k.Slot]++
	}
	slots := make([]int, 0, len(by))
	for s := range by {
		slots = append(slots, s)
	}
	sort.Ints(slots)
	var out []string
	for _, s := range slots[:min(len(slots), 16)] {
		g := t.groupAt(t.Slots[s].Owner)
		if g == "" {
			g = "nobody"
		}
		out = append(out, fmt.Sprintf("slot %d at %s: %d key(s)", s, g, by[s]))
	}
	if more := len(slots) - 16; more > 0 {
		out = append(out, fmt.Sprintf("and %d more slots", more))
	}
	return out
}
