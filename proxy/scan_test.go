package proxy

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/router"
)

// scanTable is a table of three groups, 0 to 2, that serve a slot each at an epoch.
func scanTable(epoch uint64, moves ...router.Move) *router.Table {
	t := &router.Table{Epoch: epoch, Slots: make([]router.Slot, 3), Moves: moves}
	for i := range t.Slots {
		t.Groups = append(t.Groups, router.Group{Number: i})
		t.Slots[i] = router.Slot{Owner: int16(i), Target: -1, Job: -1}
	}
	return t
}

// moved is a move of slot 0 or another between two groups.
func moved(slot, source, target int, to uint64) router.Move {
	return router.Move{Slots: []topology.Range{{First: slot, Last: slot}}, Source: source, Target: target, From: 1, To: to}
}

// TestPassesOfAScan: which groups a SCAN that began at epoch 10 visits, if the table is as
// given when its first pass ends. Only what moved after its beginning makes a second pass, and
// all of that does.
func TestPassesOfAScan(t *testing.T) {
	for name, x := range map[string]struct {
		now       uint64
		forgotten uint64
		moves     []router.Move
		want      []int // groups after the first pass
	}{
		"nothing moved":                       {10, 0, nil, nil},
		"ended before it began":               {12, 0, []router.Move{moved(0, 0, 1, 9)}, nil},
		"ended with the epoch it began with":  {10, 0, []router.Move{moved(0, 0, 1, 10)}, nil},
		"so, and other changes since":         {15, 0, []router.Move{moved(0, 0, 1, 10)}, nil},
		"ended after it began":                {11, 0, []router.Move{moved(0, 0, 1, 11)}, []int{1}},
		"ended long after it began":           {20, 0, []router.Move{moved(0, 0, 1, 17)}, []int{1}},
		"goes on":                             {10, 0, []router.Move{moved(0, 0, 1, 0)}, []int{1}},
		"ended then, and another goes on":     {10, 0, []router.Move{moved(0, 0, 1, 10), moved(1, 1, 2, 0)}, []int{2}},
		"turned round just then":              {10, 0, []router.Move{moved(0, 0, 1, 10), moved(0, 1, 0, 0)}, []int{0}},
		"turned round just then, and is back": {12, 0, []router.Move{moved(0, 0, 1, 10), moved(0, 1, 0, 12)}, []int{0}},
		"turned round since":                  {12, 0, []router.Move{moved(0, 0, 1, 12), moved(0, 1, 0, 0)}, []int{0, 1, 2, 0}},
		"moved twice since":                   {14, 0, []router.Move{moved(0, 0, 1, 11), moved(0, 1, 2, 13)}, []int{0, 1, 2}},
		"older ones are forgotten":            {14, 10, nil, nil},
		"newer ones are forgotten":            {14, 11, nil, []int{0, 1, 2}},
	} {
		table := scanTable(x.now, x.moves...)
		table.ForgottenTo = x.forgotten
		var got []int
		for c, more := nextGroup(table, cursor{epoch: 10, group: 2}); more; c, more = nextGroup(table, c) {
			if got = append(got, c.group); len(got) > 10 {
				t.Fatalf("%s: it has no end", name)
			}
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("%s: then %v, want %v", name, got, x.want)
		}
	}
}

func TestHurriedScan(t *testing.T) {
	for from, to := range map[string]string{
		"SCAN 0":                           "SCAN 0 COUNT 1000",
		"SCAN 0 MATCH a*":                  "SCAN 0 MATCH a* COUNT 1000",
		"SCAN 0 count 10":                  "SCAN 0 count 1000",
		"SCAN 0 MATCH count COUNT 5":       "SCAN 0 MATCH count COUNT 1000",
		"SCAN 0 COUNT 5000 TYPE list":      "SCAN 0 COUNT 5000 TYPE list",
		"SCAN 0 COUNT 0":                   "SCAN 0 COUNT 0",
		"SCAN 0 COUNT ten":                 "SCAN 0 COUNT ten",
		"SCAN 0 MATCH":                     "SCAN 0 MATCH",
		"SCAN 0 COUNT 10 MATCH a* TYPE":    "SCAN 0 COUNT 1000 MATCH a* TYPE",
		"SCAN 0 TYPE hash MATCH x":         "SCAN 0 TYPE hash MATCH x COUNT 1000",
		"SCAN 123456789 NONSENSE 1 MATCH":  "SCAN 123456789 NONSENSE 1 MATCH",
		"SCAN 123456789 NONSENSE COUNT 10": "SCAN 123456789 NONSENSE COUNT 10",
	} {
		args := bytes.Fields([]byte(from))
		if got := string(bytes.Join(hurried(args), []byte(" "))); got != to {
			t.Errorf("%s: %s, want %s", from, got, to)
		}
		if again := string(bytes.Join(args, []byte(" "))); again != from {
			t.Errorf("%s was changed to %s", strings.TrimSpace(from), again)
		}
	}
}

// TestRandomKeyInTheDatabaseOfItsTime: SELECT behind RANDOMKEY changes nothing of it, however
// many groups have to be asked.
func TestRandomKeyInTheDatabaseOfItsTime(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t), testredis.StartT(t))
	var low, high string // keys of either group
	for i := 0; low == "" || high == ""; i++ {
		if k := fmt.Sprint("k", i); slotOf(k) < 8192 {
			low = k
		} else {
			high = k
		}
	}
	c := dialLine(t, addr)
	c.send(fmt.Sprintf("SET %s here\nSELECT 1\nSET %s elsewhere\n", low, high))
	c.expect("+OK", "+OK", "+OK")
	for range 50 { // the order of the groups is random
		c.send("SELECT 0\nRANDOMKEY\nSELECT 1\n")
		c.expect("+OK", fmt.Sprintf("$%d", len(low)), low, "+OK")
	}
}
