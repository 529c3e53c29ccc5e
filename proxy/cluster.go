package proxy

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
)

// The cluster façade: to clients of a Redis Cluster the gateway is one, whose nodes are the
// addresses that it advertises and own all slots between them. Every node serves every key
// and none ever redirects, so what the slots of a node are only says where clients connect;
// which group a slot is at, and that it moves, stays behind the gateway.

// clusterOff is Redis's text on a server that is not in cluster mode.
const clusterOff = "ERR This instance has cluster support disabled"

// clusterNode is one advertised address.
//
// Made anew for each call: the list is short, and which one the client has reached differs
// from client to client.
type clusterNode struct {
	id          string // 40 hexadecimal digits, made of the address: the same in every gateway
	host        string
	port        int
	first, last int // its slots
}

// clusterNodes are the nodes in the order of their slots: the gateways of the cluster that are alive and
// don't drain, else the addresses that this one advertises. me is the one that this client
// has reached: by address, else the only one with this port, else the first.
//
// Slots are divided evenly and in order, whatever the groups have: a client connects to all
// nodes and any of them serves any key, so that moving slots between groups changes nothing
// here, and clients' maps stay right for ever.
func (s *session) clusterNodes() (nodes []clusterNode, me int) {
	here := s.localAddr()
	list := s.l.table.Doors // of the gateways that are alive
	if len(list) == 0 {
		list = s.l.srv.opt.Advertise
	}
	if len(list) == 0 {
		list = []string{here}
	}
	_, herePort, _ := net.SplitHostPort(here)
	slots := s.l.table.Scheme.Slots()
	samePort := 0
	exact := false
	for i, addr := range list {
		host, port, _ := net.SplitHostPort(addr)
		n := clusterNode{id: nodeID("node", addr), host: host, first: i * slots / len(list), last: (i+1)*slots/len(list) - 1}
		n.port, _ = strconv.Atoi(port)
		nodes = append(nodes, n)
		switch {
		case addr == here:
			me, exact = i, true
		case port == herePort && !exact:
			if samePort++; samePort == 1 {
				me = i
			} else {
				me = 0
			}
		}
	}
	return nodes, me
}

// nodeID: made of the address, so that all gateways that advertise the same addresses tell the same
// ids, without a word between them, and a restart changes none.
func nodeID(kind, addr string) string {
	sum := sha1.Sum([]byte("keyferry " + kind + " " + addr))
	return hex.EncodeToString(sum[:])
}

// facade lets a command through where the gateway answers as a cluster. Else it answers as
// a Redis that is not in cluster mode.
func facade(f func(*call)) func(*call) {
	return func(c *call) {
		if !c.s.l.srv.opt.ClusterFacade {
			c.reject(clusterOff)
			return
		}
		f(c)
	}
}

// clusterKeySlot needs no façade: it is true all the same.
func (c *call) clusterKeySlot() {
	c.answer(redcon.AppendInt(nil, int64(c.s.l.table.Scheme.Slot(c.args[2]))))
}

func (c *call) clusterSlots() {
	nodes, _ := c.s.clusterNodes()
	w := c.s.reply()
	clusterSlots(w, nodes)
	c.answer(w.B)
}

func (c *call) clusterShards() {
	nodes, _ := c.s.clusterNodes()
	w := c.s.reply()
	clusterShards(w, nodes)
	c.answer(w.B)
}

func (c *call) clusterNodesText() {
	nodes, me := c.s.clusterNodes()
	w := c.s.reply()
	w.Verbatim("txt", clusterNodesText(nodes, me, c.s.l.table.Epoch))
	c.answer(w.B)
}

func (c *call) clusterInfo() {
	nodes, _ := c.s.clusterNodes()
	w := c.s.reply()
	w.Verbatim("txt", c.s.clusterInfo(len(nodes)))
	c.answer(w.B)
}

func (c *call) clusterMyID() {
	nodes, me := c.s.clusterNodes()
	c.answer(redcon.AppendBulkString(nil, nodes[me].id))
}

func (c *call) clusterMyShardID() {
	nodes, me := c.s.clusterNodes()
	c.answer(redcon.AppendBulkString(nil, nodeID("shard", nodes[me].id)))
}

// clusterFixed answers what would change the cluster.
func (c *call) clusterFixed() {
	_, sub, _ := strings.Cut(c.cmd.Name, "|")
	c.reject("ERR CLUSTER " + strings.ToUpper(sub) + " is not supported through the gateway: it is every node of this cluster " +
		"by itself; its groups and slots are changed with PROXY on the admin port")
}

func (c *call) clusterFailureReports() { c.ofNode([]byte(":0\r\n")) }

// clusterReplicas: no node has any: whatever replicas the groups have is behind the gateway.
func (c *call) clusterReplicas() { c.ofNode([]byte("*0\r\n")) }

// ofNode answers what asks for another node's view or replicas: there are none.
func (c *call) ofNode(none []byte) {
	id := string(c.args[2])
	nodes, _ := c.s.clusterNodes()
	if !slices.ContainsFunc(nodes, func(n clusterNode) bool { return n.id == id }) {
		c.reject("ERR Unknown node " + id)
		return
	}
	c.answer(none)
}

// clusterSlots: each range has one node and no replicas; the empty map is where Redis 7 puts the host name.
func clusterSlots(w *resp.Writer, nodes []clusterNode) {
	w.Array(len(nodes))
	for _, n := range nodes {
		w.Array(3)
		w.Int(int64(n.first))
		w.Int(int64(n.last))
		w.Array(4)
		w.Text(n.host)
		w.Int(int64(n.port))
		w.Text(n.id)
		w.Map(0)
	}
}

// clusterShards: every node is its own shard, healthy and at offset 0: there is no replication between
// gateways that could lag.
func clusterShards(w *resp.Writer, nodes []clusterNode) {
	w.Array(len(nodes))
	for _, n := range nodes {
		w.Map(2)
		w.Text("slots")
		w.Array(2)
		w.Int(int64(n.first))
		w.Int(int64(n.last))
		w.Text("nodes")
		w.Array(1)
		w.Map(7)
		w.Text("id")
		w.Text(n.id)
		w.Text("port")
		w.Int(int64(n.port))
		for _, kv := range [][2]string{{"ip", n.host}, {"endpoint", n.host}, {"role", "master"}} {
			w.Text(kv[0])
			w.Text(kv[1])
		}
		w.Text("replication-offset")
		w.Int(0)
		w.Text("health")
		w.Text("online")
	}
}

// clusterNodesText is what redis-benchmark and older clients read. A host name stands in
// the place of the address, since that is what they connect to. The port of the cluster
// bus is 0: there is none.
func clusterNodesText(nodes []clusterNode, me int, epoch uint64) string {
	var b strings.Builder
	for i, n := range nodes {
		flags := "master"
		if i == me {
			flags = "myself,master"
		}
		fmt.Fprintf(&b, "%s %s:%d@0 %s - 0 0 %d connected %d-%d\n", n.id, n.host, n.port, flags, epoch, n.first, n.last)
	}
	return b.String()
}

// clusterInfo says ok while every slot has a group, as a cluster with full coverage does.
func (s *session) clusterInfo(nodes int) string {
	assigned := 0
	for i := range s.l.table.Slots {
		if s.l.table.Slots[i].Owner >= 0 {
			assigned++
		}
	}
	state := "ok"
	if assigned < len(s.l.table.Slots) {
		state = "fail"
	}
	var b strings.Builder
	put := func(k string, v any) { fmt.Fprintf(&b, "%s:%v\r\n", k, v) }
	put("cluster_state", state)
	put("cluster_slots_assigned", assigned)
	put("cluster_slots_ok", assigned)
	put("cluster_slots_pfail", 0)
	put("cluster_slots_fail", 0)
	put("cluster_known_nodes", nodes)
	put("cluster_size", nodes)
	put("cluster_current_epoch", s.l.table.Epoch)
	put("cluster_my_epoch", s.l.table.Epoch)
	put("cluster_stats_messages_sent", 0)
	put("cluster_stats_messages_received", 0)
	put("total_cluster_links_buffer_limit_exceeded", 0)
	return b.String()
}

// redisMode is what HELLO and INFO call the gateway.
func (o *Options) redisMode() string {
	if o.ClusterFacade {
		return "cluster"
	}
	return "standalone"
}

var clusterHelp = []string{
	"COUNT-FAILURE-REPORTS <node-id>", "    Return number of failure reports for <node-id>: 0.",
	"COUNTKEYSINSLOT <slot>", "    Return the number of keys in <slot>. It scans the servers of the slot.",
	"GETKEYSINSLOT <slot> <count>", "    Return key names of a slot. It scans the servers of the slot.",
	"INFO", "    Return information about the cluster.",
	"KEYSLOT <key>", "    Return the hash slot for <key>.",
	"LINKS", "    Return information about all network links between nodes: there are none.",
	"MYID", "    Return the node id.",
	"MYSHARDID", "    Return the node's shard id.",
	"NODES", "    Return cluster configuration seen by node. Output format:",
	"    <id> <ip:port> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...",
	"REPLICAS <node-id>", "    Return <node-id> replicas: there are none.",
	"SHARDS", "    Return information about slot range mappings and the nodes associated with them.",
	"SLOTS", "    Return information about slots range mappings. Each range is made of:",
	"    start, end, master and replicas IP addresses, ports and ids",
}
