package upstream

import (
	"context"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testredis"
)

// TestInfoOfAServer: what a real server says is found where it is, and says what is so.
func TestInfoOfAServer(t *testing.T) {
	primary, replica := testredis.StartT(t, "--repl-diskless-sync-delay", "0"), testredis.StartT(t)
	ctx := context.Background()
	host, port, _ := strings.Cut(primary.Addr, ":")
	if err := replica.Client().ReplicaOf(ctx, host, port).Err(); err != nil {
		t.Fatal(err)
	}
	c := connTo(t, primary)
	for _, cmd := range [][]string{{"MSET", "a", "1", "b", "2"}, {"SET", "c", "3", "EX", "1000"}, {"SELECT", "3"}, {"SET", "d", "4"}, {"CONFIG", "SET", "maxmemory", "1000000000"}} {
		if _, err := c.Do(ctx, cmd...); err != nil {
			t.Fatal(cmd, err)
		}
	}
	var i Info
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		r, err := c.Do(ctx, "INFO", "everything")
		if err != nil {
			t.Fatal(err)
		}
		i = ParseInfo(string(r.Text))
		// A server finds out only with time how long its keys are to live.
		if len(i.Replicas()) == 1 && i.Replicas()[0].State == "online" && i.Keyspace()[0].AvgTTLMs > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no replica, or no TTL: %v %v", i.Section("replication"), i.Keyspace())
		}
	}
	if got := i.Replicas()[0].Addr; got != replica.Addr {
		t.Errorf("replica at %s, want %s", got, replica.Addr)
	}
	if len(i.Get("run_id")) != 40 || i.Get("role") != "master" || i.Get("tcp_port") != port || i.Int("maxmemory") != 1e9 || i.Int("used_memory") < 100_000 || i.Get("maxmemory_policy") != "noeviction" {
		t.Errorf("%q", i.fields)
	}
	if i.Section("Server")["run_id"] != i.Get("run_id") || i.Section("replication")["role"] != "master" || i.Section("memory")["role"] != "" || i.Section("none") != nil {
		t.Errorf("sections: %q", i.sections)
	}
	k := i.Keyspace()
	if len(k) != 2 || k[0].Keys != 3 || k[0].Expires != 1 || k[0].AvgTTLMs < 900_000 || k[0].AvgTTLMs > 1_000_000 || k[3] != (Keyspace{Keys: 1}) || i.Keys() != 4 {
		t.Errorf("%+v", k)
	}
	other, err := replica.Client().Info(ctx).Result()
	if err != nil {
		t.Fatal(err)
	}
	if o := ParseInfo(other); o.Get("role") != "slave" || o.Get("run_id") == i.Get("run_id") || o.Get("master_replid") != i.Get("master_replid") || len(o.Replicas()) != 0 {
		t.Errorf("the replica: %q", o.Section("replication"))
	}
}

// TestInfoHostile: a server may say anything.
func TestInfoHostile(t *testing.T) {
	i := ParseInfo("stray:1\n#\n# \n#nothing:2\nno colon\n:no name\n\r\n# A\nx:1:2:3\r\nx:second\n# B\nx:third\ny:-5\nz:99999999999999999999\nempty:\n" +
		"connected_slaves:18446744073709551615\nslave0:nonsense\nslave1:ip=::1,port=1,state=online\nslave2:port=7\nslave99:ip=h,port=1\n" +
		"# Keyspace\ndb0:keys=5,expires=x,avg_ttl=-1,keys=6\ndb00000000000000000001:keys=1\ndb-1:keys=1\ndb+2:keys=1\ndb99999999999:keys=1\ndb:keys=1\ndbx:keys=1\ndb7:,,=,keys=\nxdb8:keys=1\n# C\ndb9:keys=100")
	for field, want := range map[string]string{"stray": "1", "x": "1:2:3", "y": "-5", "empty": "", "none": "", "": ""} {
		if got := i.Get(field); got != want {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
	if i.Int("y") != 0 || i.Int("z") != 0 || i.Int("x") != 0 || i.Int("none") != 0 {
		t.Error("what is no count is 0")
	}
	if a, b := i.Section("A"), i.Section("b"); len(a) != 1 || a["x"] != "1:2:3" || b["x"] != "third" {
		t.Errorf("%q %q", a, b)
	}
	if k := i.Keyspace(); !reflect.DeepEqual(k, map[int]Keyspace{0: {Keys: 6}, 1: {Keys: 1}, 7: {}}) {
		t.Errorf("%+v", k)
	}
	if r := i.Replicas(); r != nil {
		t.Errorf("of a number of replicas that is none: %v", r)
	}
	many := "connected_slaves:1000000\n"
	for n := range 1000 {
		many += "slave" + strconv.Itoa(n) + ":ip=::1,port=1,state=online,offset=1\n"
	}
	if r := ParseInfo(many).Replicas(); len(r) != replicasMax || r[0] != (ReplicaState{"[::1]:1", "online"}) {
		t.Errorf("%v", r)
	}
	var none Info // of a server that did not answer
	if none.Get("x") != "" || none.Keys() != 0 || none.Replicas() != nil || none.Section("x") != nil {
		t.Error("nothing said is nothing known")
	}
}

func FuzzInfo(f *testing.F) {
	f.Add("# Server\r\nrun_id:x\r\n# Keyspace\r\ndb0:keys=1,expires=0\r\nconnected_slaves:2\r\nslave0:ip=h,port=1,state=online")
	f.Fuzz(func(t *testing.T, text string) {
		i := ParseInfo(text)
		for db, k := range i.Keyspace() {
			if db < 0 || k.Keys < 0 || k.Expires < 0 || k.AvgTTLMs < 0 {
				t.Errorf("database %d: %+v", db, k)
			}
		}
		if len(i.Replicas()) > replicasMax {
			t.Error("too many replicas")
		}
	})
}

// TestDirectClients: of everybody who is connected to a real server, those who go past the
// gateways are found, whatever they call themselves and whatever they do.
func TestDirectClients(t *testing.T) {
	primary, replica := testredis.StartT(t, "--repl-diskless-sync-delay", "0"), testredis.StartT(t)
	ctx := context.Background()
	host, port, _ := strings.Cut(primary.Addr, ":")
	if err := replica.Client().ReplicaOf(ctx, host, port).Err(); err != nil {
		t.Fatal(err)
	}
	open := func(cmds ...[]string) *Conn {
		t.Helper()
		c := connTo(t, primary)
		for _, cmd := range cmds {
			if _, err := c.Do(ctx, cmd...); err != nil {
				t.Fatal(cmd, err)
			}
		}
		return c
	}
	ours := open()
	want := map[int64]string{
		open([]string{"CLIENT", "SETNAME", ""}).ID:                                       "",
		open([]string{"CLIENT", "SETNAME", "cron"}).ID:                                   "cron",
		open([]string{"CLIENT", "SETNAME", "xkeyferry:gw:1:1"}).ID:                       "xkeyferry:gw:1:1",
		open([]string{"CLIENT", "SETNAME", "a=name=keyferry:"}).ID:                       "a=name=keyferry:",
		open([]string{"CLIENT", "SETNAME", "id=1"}, []string{"SUBSCRIBE", "news"}).ID:    "id=1",
		open([]string{"CLIENT", "SETNAME", "watcher"}, []string{"MONITOR"}).ID:           "watcher",
		open([]string{"CLIENT", "SETNAME", "keyferry"}, []string{"BLPOP", "", "0.1"}).ID: "keyferry",
	}
	if _, err := ours.Do(ctx, "CLIENT", "SETNAME", "x name=keyferry:gw:1:1"); !refused(err) {
		t.Fatalf("a name with a space in it: %v", err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		r, err := ours.Do(ctx, "CLIENT", "LIST")
		if err != nil {
			t.Fatal(err)
		}
		list := string(r.Text)
		if !strings.Contains(list, " flags=S ") { // the replica is not there yet
			if time.Now().After(deadline) {
				t.Fatal(list)
			}
			continue
		}
		got := make(map[int64]string)
		for _, c := range DirectClients(list) {
			if !strings.HasPrefix(c.Name, "go-redis") && c.Addr != "" { // testredis's own
				got[c.ID] = c.Name
			}
		}
		for id, name := range want {
			if n, ok := got[id]; !ok || n != name {
				t.Errorf("client %d %q is found as %q, %v", id, name, n, ok)
			}
		}
		if _, ok := got[ours.ID]; ok {
			t.Error("our own connection is called direct")
		}
		break
	}
	back, err := replica.Client().ClientList(ctx).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range DirectClients(back) {
		if strings.Contains(c.Flags, "M") {
			t.Errorf("the primary of a replica is called direct: %+v", c)
		}
	}
}

func TestClientsHostile(t *testing.T) {
	got := ParseClients("\n\r\nid=1 addr=10.0.0.9:6 name= flags=N\nid=x addr=h name=a\nid= addr=h\nno words at all\nid=-3 name=n\n" +
		"addr=/tmp/a socket:0 id=2 name=first name=keyferry:gw:1:1 flags=N flags=S lib-name=name=keyferry: =x\nid=99999999999999999999\nid=3")
	want := []Client{{1, "10.0.0.9:6", "", "N"}, {2, "/tmp/a", "first", "N"}, {3, "", "", ""}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if d := DirectClients("id=1 name=keyferry:gw:1:1 flags=N\nid=2 name= flags=S\nid=3 name= flags=M\nid=4 name= flags=xP\n"); len(d) != 1 || d[0].ID != 4 {
		t.Errorf("%+v", d)
	}
	if DirectClients("") != nil {
		t.Error("nobody is somebody")
	}
	var e ServerError
	if errors.As(ErrProtocol, &e) {
		t.Error("noise is no refusal")
	}
}

func FuzzClients(f *testing.F) {
	f.Add("id=3 addr=127.0.0.1:1 laddr=127.0.0.1:2 fd=8 name=x age=1 flags=N\n")
	f.Fuzz(func(t *testing.T, list string) {
		for _, c := range ParseClients(list) {
			if c.ID <= 0 || strings.ContainsAny(c.Name+c.Addr+c.Flags, " \n") {
				t.Errorf("%+v", c)
			}
		}
	})
}
