package proxy

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"strings"

	"keyferry/internal/resp"
)

// The cluster façade: to clients of a Redis Cluster the gateway is one, whose nodes are the
// addresses that it advertises and own all slots between them. Every node serves every key
// and none ever redirects, so what the slots of a node are only says where clients connect;
// which group a slot is at, and that it moves, stays behind the gateway.

// clusterOff is Redis's text on a server that is not in cluster mode.
const clusterOff = "ERR This instance has cluster support disabled"

// clusterNode is one advertised address.
type clusterNode struct {
	id          string // 40 hexadecimal digits, made of the address: the same in every gateway
	host        string
	port        int
	first, last int // its slots
}

// clusterNodes are the nodes in the order of their slots. me is the one that this client
// has reached: by address, else the only one with this port, else the first.
func (s *session) clusterNodes() (nodes []clusterNode, me int) {
	here := s.localAddr()
	list := s.l.srv.opt.Advertise
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

func nodeID(kind, addr string) string {
	sum := sha1.Sum([]byte("keyferry " + kind + " " + addr))
	return hex.EncodeToString(sum[:])
}

// cluster answers CLUSTER. Without the façade it answers as a Redis that is not in cluster
// mode, but for KEYSLOT, which is true all the same.
func (c *call) cluster(sub string, args [][]byte) {
	s := c.s
	if sub == "keyslot" {
		w := s.reply()
		w.Int(int64(s.l.table.Scheme.Slot(args[2])))
		c.answer(w.B)
		return
	}
	if !s.l.srv.opt.ClusterFacade {
		c.reject(clusterOff)
		return
	}
	switch sub {
	case "countkeysinslot", "getkeysinslot":
		c.keysInSlot(sub == "getkeysinslot", args)
		return
	case "count-failure-reports", "replicas", "slaves":
		c.clusterNode(sub, string(args[2]))
		return
	}
	nodes, me := s.clusterNodes()
	w := s.reply()
	switch sub {
	case "slots":
		clusterSlots(w, nodes)
	case "shards":
		clusterShards(w, nodes)
	case "nodes":
		w.Verbatim("txt", clusterNodesText(nodes, me, s.l.table.Epoch))
	case "info":
		w.Verbatim("txt", s.clusterInfo(len(nodes)))
	case "myid":
		w.Text(nodes[me].id)
	case "myshardid":
		w.Text(nodeID("shard", nodes[me].id))
	case "links":
		w.Array(0) // there is no cluster bus
	case "help":
		w.B = appendHelp(w.B, "CLUSTER", clusterHelp)
	default:
		c.reject("ERR CLUSTER " + strings.ToUpper(sub) + " is not supported through the gateway: it is every node of this cluster " +
			"by itself; its groups and slots are changed with PROXY on the admin port")
		return
	}
	c.answer(w.B)
}

// clusterNode answers what asks for another node's view or replicas: there are none.
func (c *call) clusterNode(sub, id string) {
	s := c.s
	nodes, _ := s.clusterNodes()
	known := false
	for _, n := range nodes {
		known = known || n.id == id
	}
	w := s.reply()
	switch {
	case !known:
		c.reject("ERR Unknown node " + id)
		return
	case sub == "count-failure-reports":
		w.Int(0)
	default:
		w.Array(0)
	}
	c.answer(w.B)
}

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

// clusterMode answers READONLY, READWRITE and ASKING. The gateway has no replicas to read
// from and never says ASK, so that they change nothing.
func (c *call) clusterMode() {
	s := c.s
	if !s.l.srv.opt.ClusterFacade {
		c.reject(clusterOff)
		return
	}
	c.answer(okReply)
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
