package proxy

import (
	"fmt"

	"keyferry/internal/resp"
	"keyferry/proxy/pubsub"
	"keyferry/proxy/stats"
)

// handler runs one admitted command. False: not before the commands in front of it have
// been answered; it is then given the command again, as if nothing had happened.
type handler func(c *call) (taken bool)

// atOnce are the commands that run whenever they come, by name.
//
// At once does not mean that the reply is there: it may come from a server. It means that the
// handler can begin whatever is in front of it, since order is kept by the queue and by the
// pipes.
//
// Groups of lines are by what the commands are about, and a command that is run as its kind is
// run has no line here.
var atOnce = map[string]func(*call){
	// Connection.
	"ping": (*call).ping, "echo": (*call).echo, "quit": (*call).quit, "auth": (*call).auth, "time": (*call).time,
	"client|id": (*call).clientID, "client|setname": (*call).clientSetName, "client|getname": (*call).clientGetName,
	"client|setinfo": (*call).clientSetInfo, "client|info": (*call).clientInfo, "client|list": (*call).clientList, "client|kill": (*call).clientKill,
	"client|pause": (*call).clientPause, "client|unpause": (*call).clientUnpause, "client|reply": (*call).clientReply,
	"client|no-evict": (*call).clientNoEvict, "client|no-touch": (*call).clientNoTouch, "client|help": help("CLIENT", clientHelp),
	"client|tracking": (*call).clientTracking, "client|trackinginfo": (*call).trackingInfo, "client|caching": (*call).clientCaching,
	"client|getredir": (*call).clientGetRedir, "client|unblock": (*call).clientUnblock,

	// The gateway as a server.
	"role": (*call).role, "monitor": (*call).startMonitor, "debug": (*call).debug, "module|help": help("MODULE", moduleHelp),
	"command": (*call).commandAll, "command|count": (*call).commandCount, "command|docs": (*call).commandDocs, "command|info": (*call).commandInfo,
	"command|list": (*call).commandList, "command|getkeys": (*call).commandGetKeys, "command|getkeysandflags": (*call).commandKeysAndFlags,
	"command|help": help("COMMAND", commandHelp),
	"config|get":   (*call).configGet, "config|set": (*call).configSet, "config|resetstat": (*call).configResetStat,
	"config|rewrite": (*call).configRewrite, "config|help": help("CONFIG", configHelp),
	"acl|whoami": (*call).aclWhoAmI, "acl|users": (*call).aclUsers, "acl|list": (*call).aclList, "acl|getuser": (*call).aclGetUser, "acl|cat": (*call).aclCat,
	"acl|genpass": (*call).aclGenPass, "acl|dryrun": (*call).aclDryRun, "acl|log": (*call).aclLog, "acl|help": help("ACL", aclHelp),
	"memory|doctor": (*call).memoryDoctor, "memory|stats": (*call).memoryStats, "memory|malloc-stats": (*call).memoryMalloc,
	"memory|purge": (*call).memoryPurge, "memory|help": help("MEMORY", memoryHelp),
	"slowlog|get": (*call).slowlogGet, "slowlog|len": (*call).slowlogLen, "slowlog|reset": (*call).slowlogReset, "slowlog|help": help("SLOWLOG", slowlogHelp),
	"latency|latest": (*call).latencyLatest, "latency|history": (*call).latencyHistory, "latency|graph": (*call).latencyGraph, "latency|reset": (*call).latencyReset,
	"latency|doctor": (*call).latencyDoctor, "latency|histogram": (*call).latencyHistogram, "latency|help": help("LATENCY", latencyHelp),

	// The cluster façade.
	"cluster|keyslot": (*call).clusterKeySlot, "readonly": facade((*call).ok), "readwrite": facade((*call).ok), "asking": facade((*call).ok),
	"cluster|count-failure-reports": facade((*call).clusterFailureReports), "cluster|replicas": facade((*call).clusterReplicas), "cluster|slaves": facade((*call).clusterReplicas),
	"cluster|slots": facade((*call).clusterSlots), "cluster|shards": facade((*call).clusterShards), "cluster|nodes": facade((*call).clusterNodesText),
	"cluster|info": facade((*call).clusterInfo), "cluster|myid": facade((*call).clusterMyID), "cluster|myshardid": facade((*call).clusterMyShardID),
	"cluster|links": facade((*call).emptyArray), "cluster|help": facade(help("CLUSTER", clusterHelp)),

	// Channels.
	"subscribe": subscribes(pubsub.Exact), "psubscribe": subscribes(pubsub.Pattern), "ssubscribe": subscribes(pubsub.Sharded),
	"unsubscribe": unsubscribes(pubsub.Exact), "punsubscribe": unsubscribes(pubsub.Pattern), "sunsubscribe": unsubscribes(pubsub.Sharded),
	"pubsub|channels": toEvery(unionOf), "pubsub|shardchannels": toEvery(unionOf), "pubsub|numpat": toEvery(maxOf),
	"pubsub|numsub": counts(pubsub.Exact), "pubsub|shardnumsub": counts(pubsub.Sharded), "pubsub|help": help("PUBSUB", pubsubHelp),

	// Every group.
	"scan": (*call).scan, "randomkey": (*call).randomKey, "dbsize": (*call).dbSize,
	"bgsave": toServing(firstOf), "bgrewriteaof": toServing(firstOf), "lastsave": toServing(leastOf), // when the last of them is done
	"script|load": (*call).scriptLoad, "script|flush": (*call).scriptFlush, "script|exists": (*call).scriptExists,
	"function|load": toEvery(firstOf), "function|delete": toEvery(firstOf), "function|flush": toEvery(firstOf), "function|restore": toEvery(firstOf),

	// Elements of one key.
	"hscan": (*call).scanElements, "sscan": (*call).scanElements, "zscan": (*call).scanElements,

	// Transactions.
	"multi": (*call).multi, "discard": (*call).discard, "unwatch": (*call).unwatch,
}

// inTurn are the commands that may have to be alone in their session's queue, by name.
//
// They change what the commands in flight go by (the protocol version, the database of keys, a
// watch), must find done what was sent before them, at all servers and not only at one, or tell others
// something, who then look.
var inTurn = map[string]handler{
	"hello": (*call).hello, "reset": (*call).reset, "watch": (*call).watch, "exec": (*call).exec,
	"keys": (*call).listKeys, "flushdb": (*call).flushData, "flushall": (*call).flushData, "swapdb": (*call).swapDB,
	"script|kill": alone(interrupts(killed)), "function|kill": alone(interrupts(killed)), "function|stats": alone(interrupts(runningOf)),
	"select": (*call).selectDB, "info": alone((*call).info),
	"publish": publishes(pubsub.Exact), "spublish": publishes(pubsub.Sharded),
	"eval": (*call).eval, "eval_ro": (*call).eval, "evalsha": (*call).evalSHA, "evalsha_ro": (*call).evalSHA,
	"cluster|countkeysinslot": alone(facade((*call).countKeysInSlot)), "cluster|getkeysinslot": alone(facade((*call).getKeysInSlot)),
}

// alone runs a command when all before it have been answered.
func alone(f func(*call)) handler {
	return func(c *call) bool {
		if c.s.queue.n > 0 {
			return false
		}
		f(c)
		return true
	}
}

// ofParent are the subcommands of a command that have no handler by name.
var ofParent = map[string]func(*call){"cluster": facade((*call).clusterFixed)}

// byServe is how commands are run that have no handler of their own: most of Redis's, and
// those that are declared in the configuration.
//
// A new way to serve, in the column of the command table, needs a line here: handlersOf
// refuses a row without a handler, at the start and in a test.
var byServe = map[resp.Serve]handler{
	resp.Refused: atAnyTime((*call).notServed),
	resp.Keyed:   (*call).keyed, resp.SplitMGet: (*call).keyed, resp.SplitMSet: (*call).keyed, resp.SplitSum: (*call).keyed,
	resp.Any: atAnyTime((*call).plainly), resp.All: atAnyTime((*call).askAll),
	resp.Blocks: (*call).mayBlock, resp.Script: (*call).script, resp.Sort: atAnyTime((*call).sort),
}

// allCommands are the rows of the command table.
func allCommands() (rows []*resp.Command) {
	stats.EachCommand(func(c *resp.Command) { rows = append(rows, c) })
	return rows
}

// Commands that generic code has to know.
var (
	selectCommand = resp.Lookup([]byte("select"))
	copyCommand   = resp.Lookup([]byte("copy"))
	moveCommand   = resp.Lookup([]byte("move"))
	execCommand   = resp.Lookup([]byte("exec"))
	quitCommand   = resp.Lookup([]byte("quit"))
	// spublishCommand is told from PUBLISH by its kind of channel.
	spublishCommand = resp.Lookup([]byte("spublish"))
	clientCommand   = resp.Lookup([]byte("client"))
)

// handlersOf is the table of handlers by the commands' Index: all that the loops need to
// know of which command is run how. It is made once for a server, when the command table is
// complete; a row without a handler is a mistake in the program.
func handlersOf(rows []*resp.Command) []handler {
	table := make([]handler, len(rows))
	for _, c := range rows {
		if table[c.Index] = handlerOf(c); table[c.Index] == nil {
			panic(fmt.Sprintf("proxy: no handler for %s", c.Name))
		}
	}
	return table
}

// handlerOf: by name first, since a name knows more than the way it is served. Then a subcommand whose
// siblings are all answered alike, a container, and last the way that the table says.
func handlerOf(c *resp.Command) handler {
	if f := atOnce[c.Name]; f != nil {
		return atAnyTime(f)
	}
	if h := inTurn[c.Name]; h != nil {
		return h
	}
	if c.Parent != nil && c.Serve == resp.Local && ofParent[c.Parent.Name] != nil {
		return atAnyTime(ofParent[c.Parent.Name])
	}
	if c.Subs != nil {
		return atAnyTime((*call).container)
	}
	return byServe[c.Serve]
}

// atAnyTime is the handler of a command that never has to wait for others.
func atAnyTime(f func(*call)) handler {
	return func(c *call) bool {
		f(c)
		return true
	}
}

// help answers a HELP subcommand.
func help(name string, lines []string) func(*call) {
	return func(c *call) { c.answer(appendHelp(nil, name, lines)) }
}

// container answers a command that is nothing without its subcommand. The table's arity
// lets none through.
//
// All the same it is a row, and MONITOR or an ACL may name it: so it has a handler like any
// other.
func (c *call) container() { c.wrongArity(c.cmd.Name) }

// notServed says why a command is not.
func (c *call) notServed() { c.refuse(refusalOf(c.cmd)) }

// ok: for commands that ask the gateway to be what it is anyway.
func (c *call) ok() { c.answer(okReply) }

var moduleHelp = []string{"LIST", "    Return a list of loaded modules."}

func (c *call) emptyArray() { c.answer([]byte("*0\r\n")) }
