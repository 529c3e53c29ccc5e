package upstream

import (
	"strings"
)

// Client is one line of a server's CLIENT LIST.
type Client struct {
	ID    int64
	Addr  string
	Name  string
	Flags string
}

// ParseClients takes a CLIENT LIST apart. Lines without an id are left out. Where a field
// comes twice the first counts: the server writes what it says itself before what clients
// may choose.
func ParseClients(list string) []Client {
	var out []Client
	for line := range strings.Lines(list) {
		var c Client
		seen := make(map[string]bool, 4)
		for word := range strings.FieldsSeq(line) {
			key, value, ok := strings.Cut(word, "=")
			if !ok || seen[key] {
				continue
			}
			seen[key] = true
			switch key {
			case "id":
				c.ID = number(value)
			case "addr":
				c.Addr = value
			case "name":
				c.Name = value
			case "flags":
				c.Flags = value
			}
		}
		if c.ID > 0 {
			out = append(out, c)
		}
	}
	return out
}

// Direct reports whether the client goes past the gateways: it is neither a connection of
// one of theirs nor of the server's replication. What it writes is under no lock, so while
// its slot moves it can be lost, or be taken for the key.
func (c Client) Direct() bool {
	return !strings.HasPrefix(c.Name, NamePrefix) && !strings.ContainsAny(c.Flags, "SM") // S: a replica; M: its primary
}

// DirectClients are those of a CLIENT LIST.
func DirectClients(list string) []Client {
	var out []Client
	for _, c := range ParseClients(list) {
		if c.Direct() {
			out = append(out, c)
		}
	}
	return out
}
