package job

import (
	"fmt"
	"strconv"
	"strings"
)

// Durability is what the target must have done with a key before the source gives it up.
const (
	DurabilityAuto    = ""        // replica where the target has one, else none
	DurabilityNone    = "none"    // its reply to RESTORE is enough
	DurabilityReplica = "replica" // a replica has it (WAIT)
	DurabilityAOF     = "aof"     // its append-only file has been synced (WAITAOF, Redis 7.2)
)

// ParseDurability reads the word of an operator.
func ParseDurability(word string) (string, error) {
	switch d := strings.ToLower(word); d {
	case "auto":
		return DurabilityAuto, nil
	case DurabilityNone, DurabilityReplica, DurabilityAOF:
		return d, nil
	}
	return "", fmt.Errorf("DURABILITY %q: want auto, none, replica or aof", word)
}

// ParseVerify reads how many of the moved keys are compared: "full", "1%" or "sample=1%".
func ParseVerify(word string) (share float64, err error) {
	text := strings.ToLower(word)
	if text == "full" {
		return 1, nil
	}
	number, ok := strings.CutSuffix(strings.TrimPrefix(text, "sample="), "%")
	if share, err = strconv.ParseFloat(number, 64); !ok || err != nil || !(share > 0 && share <= 100) {
		return 0, fmt.Errorf("VERIFY %q: want full, or a share of the keys as sample=1%%", word)
	}
	return share / 100, nil
}
