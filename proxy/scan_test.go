package proxy

import (
	"bytes"
	"fmt"
	"keyferry/internal/testredis"
	"strings"
	"testing"
)

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
