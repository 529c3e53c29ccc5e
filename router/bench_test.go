package router

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"keyferry/internal/resp"
	"keyferry/internal/topology"
)

// BenchmarkRoute routes GETs of 100,000 keys over two groups, and asks for the owner.
func BenchmarkRoute(b *testing.B) {
	st := topology.NewState("redis", 16384, 16)
	for i, id := range []string{"a", "b"} {
		if err := st.AddGroup(topology.Group{ID: id, Endpoint: topology.Endpoint{Addr: "127.0.0.1:" + strconv.Itoa(i+1)}}); err != nil {
			b.Fatal(err)
		}
		if err := st.AssignSlots(topology.Range{First: 8192 * i, Last: 8192*i + 8191}, id); err != nil {
			b.Fatal(err)
		}
	}
	table, err := Build(st.Topology, View{})
	if err != nil {
		b.Fatal(err)
	}
	get := resp.Lookup([]byte("get"))
	rng := rand.New(rand.NewPCG(1, 1))
	requests := make([][][]byte, 100_000)
	for i := range requests {
		requests[i] = [][]byte{[]byte("GET"), strconv.AppendInt(nil, int64(rng.IntN(1<<30)), 10)}
	}
	keys := []int{1}
	sum, i := 0, 0
	for b.Loop() {
		if i++; i == len(requests) {
			i = 0
		}
		_, slot := table.Route(get, requests[i], keys)
		sum += int(table.Slots[slot].Owner)
	}
	if sum < 0 {
		b.Error(sum)
	}
}
