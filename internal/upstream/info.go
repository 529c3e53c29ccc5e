package upstream

import (
	"net"
	"strconv"
	"strings"
)

// Info is what a server says of itself: the reply to INFO, taken apart. What a server does
// not say, or says in no way that can be read, is "" or 0.
type Info struct {
	sections map[string]map[string]string // by names in lower case
	fields   map[string]string            // of all sections; of two with one name, the first
	own      int64                        // keys in database 0 that Keyspace leaves out
}

// ParseInfo takes the reply to INFO apart, or several in a row. It never fails: lines that
// are neither a heading nor a field are left out.
func ParseInfo(text string) Info {
	i := Info{sections: make(map[string]map[string]string), fields: make(map[string]string)}
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if name, ok := strings.CutPrefix(line, "# "); ok {
			section = strings.ToLower(name)
			continue
		}
		field, value, ok := strings.Cut(line, ":")
		if !ok || field == "" {
			continue
		}
		if i.sections[section] == nil {
			i.sections[section] = make(map[string]string)
		}
		for _, m := range []map[string]string{i.sections[section], i.fields} {
			if _, twice := m[field]; !twice {
				m[field] = value
			}
		}
	}
	return i
}

// Get is the value of a field, in whichever section.
func (i Info) Get(field string) string { return i.fields[field] }

// Int is the value of a field that is a number.
func (i Info) Int(field string) int64 { return number(i.fields[field]) }

// Section has the fields of a section. The caller leaves it as it is.
func (i Info) Section(name string) map[string]string { return i.sections[strings.ToLower(name)] }

// Without leaves that many keys of the gateway's own in database 0 out of Keyspace and Keys.
func (i Info) Without(own int64) Info {
	i.own = own
	return i
}

// Keyspace is what a server says of one of its databases.
type Keyspace struct {
	Keys, Expires int64
	AvgTTLMs      int64 // of those that expire
}

// Keyspace is that of each database that has keys.
func (i Info) Keyspace() map[int]Keyspace {
	out := make(map[int]Keyspace)
	for field, value := range i.Section("keyspace") {
		digits, ok := strings.CutPrefix(field, "db")
		db, err := strconv.ParseUint(digits, 10, 31)
		if !ok || err != nil {
			continue
		}
		p := pairs(value)
		k := Keyspace{number(p["keys"]), number(p["expires"]), number(p["avg_ttl"])}
		if db == 0 && i.own > 0 {
			if k.Keys -= i.own; k.Keys <= 0 {
				continue
			}
		}
		out[int(db)] = k
	}
	return out
}

// Keys is how many keys the server has, in all databases.
func (i Info) Keys() (n int64) {
	for _, k := range i.Keyspace() {
		n += k.Keys
	}
	return n
}

// ReplicaState is what a primary says of one of its replicas.
type ReplicaState struct {
	Addr  string
	State string // "online", say
}

// replicasMax bounds what is read of a server that claims to have any number of replicas.
const replicasMax = 16

// Replicas are those of a primary, as far as it lists them.
func (i Info) Replicas() []ReplicaState {
	var out []ReplicaState
	for n := range min(i.Int("connected_slaves"), replicasMax) {
		if p := pairs(i.Get("slave" + strconv.FormatInt(n, 10))); p["ip"] != "" {
			out = append(out, ReplicaState{net.JoinHostPort(p["ip"], p["port"]), p["state"]})
		}
	}
	return out
}

// pairs takes "a=1,b=2" apart.
func pairs(text string) map[string]string {
	out := make(map[string]string)
	for pair := range strings.SplitSeq(text, ",") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			out[key] = value
		}
	}
	return out
}

// number is a count or a size; there are none below 0.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
