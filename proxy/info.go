package proxy

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"keyferry/internal/resp"
	"keyferry/proxy/stats"
)

// redisVersion is what clients are told: the newest Redis whose command table is known
// in full and served alike by all backends from 7.0 on.
const redisVersion = "7.0.15"

// section is one part of INFO.
type section struct {
	name  string // as asked for; the heading has its first letter in upper case
	usual bool   // it is in INFO without arguments
	write func(*report)
}

// sections are in Redis's order, ours last.
var sections = []section{
	{"server", true, (*report).server},
	{"clients", true, (*report).clients},
	{"memory", true, (*report).memory},
	{"persistence", true, (*report).persistence},
	{"stats", true, (*report).stats},
	{"replication", true, (*report).replication},
	{"cpu", true, (*report).cpu},
	{"modules", true, func(*report) {}},
	{"commandstats", false, (*report).commandstats},
	{"errorstats", true, (*report).errorstats},
	{"latencystats", false, (*report).latencystats},
	{"cluster", true, (*report).cluster},
	{"keyspace", true, (*report).keyspace},
	{"gateway", true, (*report).gateway},
	{"groups", true, (*report).more},
	{"slots", true, (*report).more},
	{"migration", true, (*report).more},
}

// report is one INFO under way. What several sections need is found out once.
type report struct {
	s     *Server
	name  string // of the section at hand
	b     strings.Builder
	st    stats.Counts // since the last CONFIG RESETSTAT
	cmds  stats.CommandStats
	now   *census
	data  *dataInfo
	extra map[string]string
}

// put: lines end as in the protocol: that is the form that parsers of INFO expect.
func (r *report) put(key string, value any) { fmt.Fprintf(&r.b, "%s:%v\r\n", key, value) }

// count puts metrics under their names in INFO.
func (r *report) count(of ...stats.Metric) {
	for _, m := range of {
		r.put(stats.Table[m].Info, r.st[m])
	}
}

// puts is put of values that are always the same here: pairs of key and value.
func (r *report) puts(pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		r.put(pairs[i], pairs[i+1])
	}
}

// info answers INFO [section ...] off the loop, since it looks at every loop and asks the
// servers for their keys.
//
// It may take a second, for servers that do not answer; the client's later commands overtake
// it at their servers, and their replies wait.
func (c *call) info() {
	s := c.s
	want := make(map[string]bool)
	for _, a := range c.args[1:] {
		want[strings.ToLower(string(a))] = true
	}
	srv := s.l.srv
	c.later(func(w *resp.Writer) { w.Verbatim("txt", srv.Info(want)) })
}

// Info is the text of INFO for the wanted sections (lower case): none means "default".
// Not for a loop's goroutine.
func (s *Server) Info(want map[string]bool) string {
	r := &report{s: s, st: s.Stats().Minus(s.stats.since.Load())}
	if s.opt.Sections != nil {
		r.extra = s.opt.Sections()
	}
	usual := len(want) == 0 || want["default"]
	all := want["all"] || want["everything"]
	for _, x := range sections {
		if !all && !want[x.name] && (!usual || !x.usual) {
			continue
		}
		if r.b.Len() > 0 {
			r.b.WriteString("\r\n")
		}
		r.name = x.name
		fmt.Fprintf(&r.b, "# %s\r\n", heading(x.name))
		x.write(r)
	}
	return r.b.String()
}

func heading(name string) string {
	if name == "cpu" {
		return "CPU"
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

// What identifies a server: tools compare run_id to notice a restart, so it is made of what
// differs between two of them.
func (r *report) server() {
	s := r.s
	up := time.Since(s.stats.shared.Started)
	exe, _ := os.Executable()
	r.put("redis_version", redisVersion)
	r.puts("redis_git_sha1", "00000000", "redis_git_dirty", "0", "redis_build_id", "0")
	r.put("redis_mode", s.opt.redisMode())
	r.put("keyferry_version", s.opt.Version)
	r.put("os", runtime.GOOS+" "+runtime.GOARCH)
	r.puts("arch_bits", "64", "multiplexing_api", "epoll")
	r.put("go_version", runtime.Version())
	r.put("process_id", os.Getpid())
	r.put("process_supervised", "no")
	r.put("run_id", s.runID())
	r.put("tcp_port", portOf(s.opt.Listen))
	r.put("server_time_usec", time.Now().UnixMicro())
	r.put("uptime_in_seconds", int(up.Seconds()))
	r.put("uptime_in_days", int(up.Hours()/24))
	r.puts("hz", "10", "configured_hz", "10")
	r.put("executable", exe)
	r.put("config_file", s.opt.ConfigFile)
	r.put("io_threads_active", boolBit(s.opt.Loops > 1))
}

// runID changes with every start, as Redis's does.
func (s *Server) runID() string {
	sum := sha1.Sum(fmt.Appendf(nil, "keyferry %s %d %d", s.opt.Name, s.opt.Incarnation, s.stats.shared.Started.UnixNano()))
	return hex.EncodeToString(sum[:])
}

func boolBit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// census is what INFO says of the clients that are there now.
type census struct {
	normal, blocked, timed, tracking, subscribed, watching int
	maxIn, maxOut, memory, trackedKeys, trackedItems       int
	trackedPrefixes                                        int
}

// census: one loop after the other. A loop is held up by the time that its own sessions take to count.
func (s *Server) census(ctx context.Context) (c census) {
	s.each(ctx, func(l *loop) {
		for x := range l.clients.all {
			c.count(x)
		}
		for b := range l.waiters.blocked {
			c.blocked++
			c.timed += boolBit(!b.deadline.IsZero())
		}
		for x := range l.waiters.pops {
			c.blocked += boolBit(x.blocks())
			c.timed += boolBit(!x.deadline.IsZero())
		}
		keys, items := l.readers.keys.Counts()
		c.trackedKeys, c.trackedItems = c.trackedKeys+keys, c.trackedItems+items
	})
	return c
}

// count: on the session's loop.
func (c *census) count(x *session) {
	c.normal += boolBit(x.nsubs == 0)
	c.subscribed += boolBit(x.nsubs > 0)
	c.blocked += boolBit(x.isHeld() && x.hold == nil && x.l.clients.pause != pauseNone) // with hold it is counted as what it waits for
	c.watching += boolBit(x.watch != nil)
	c.maxIn, c.maxOut = max(c.maxIn, len(x.input.buf)-x.input.pos), max(c.maxOut, x.pendingOut())
	c.memory += cap(x.input.buf) + x.pendingOut()
	if x.tracking != nil {
		c.tracking++
		c.trackedPrefixes += len(x.tracking.prefixes)
	}
}

// people: counted once for all sections of one INFO, so that they agree.
func (r *report) people() *census {
	if r.now == nil {
		c := r.s.census(r.s.life.ctx)
		r.now = &c
	}
	return r.now
}

func (r *report) clients() {
	c := r.people()
	r.count(stats.Clients)
	r.put("cluster_connections", 0)
	r.put("maxclients", r.s.settings.live.Load().MaxClients)
	r.put("client_recent_max_input_buffer", c.maxIn)
	r.put("client_recent_max_output_buffer", c.maxOut)
	r.put("blocked_clients", c.blocked)
	r.put("tracking_clients", c.tracking)
	r.put("pubsub_clients", c.subscribed)
	r.put("watching_clients", c.watching)
	r.put("clients_in_timeout_table", c.timed)
}

// The gateway's own memory. That of the data is at the servers, which have to be asked about
// it; so of what is used here nothing is data set. Tools that draw a server's memory read these
// names, and some fail where one is missing.
func (r *report) memory() {
	m := stats.MemoryNow()
	c := r.people()
	r.s.stats.rates.NotePeak(m.Used)
	peak := r.s.stats.rates.Peak()
	for _, x := range []struct {
		name  string
		bytes int64
	}{{"used_memory", m.Used}, {"used_memory_rss", m.RSS}, {"used_memory_peak", peak}, {"total_system_memory", m.Machine}, {"maxmemory", 0}} {
		r.put(x.name, x.bytes)
		r.put(x.name+"_human", stats.Human(x.bytes))
	}
	r.put("used_memory_peak_perc", fmt.Sprintf("%.2f%%", 100*float64(m.Used)/float64(max(peak, 1))))
	r.put("maxmemory_policy", "noeviction")
	r.put("mem_fragmentation_ratio", fmt.Sprintf("%.2f", float64(m.RSS)/float64(max(m.Used, 1))))
	r.put("mem_fragmentation_bytes", m.RSS-m.Used)
	r.put("mem_clients_slaves", 0)
	r.put("mem_clients_normal", c.memory)
	r.put("mem_not_counted_for_evict", 0)
	r.put("used_memory_overhead", m.Used)
	r.puts("used_memory_dataset", "0", "used_memory_dataset_perc", "0.00%")
	r.put("mem_allocator", "go")
	r.put("number_of_cached_scripts", r.s.scripts.count())
	r.puts("active_defrag_running", "0")
	d := r.fromServers()
	for _, field := range []string{"number_of_functions", "number_of_libraries", "lazyfree_pending_objects", "lazyfreed_objects"} {
		r.put(field, d.sums[field])
	}
}

// persistence says that there is nothing to load, which clients wait for, and to save.
func (r *report) persistence() {
	r.puts("loading", "0", "async_loading", "0", "rdb_changes_since_last_save", "0", "rdb_bgsave_in_progress", "0")
	r.put("rdb_last_save_time", r.s.stats.shared.Started.Unix())
	r.puts("rdb_last_bgsave_status", "ok", "rdb_last_bgsave_time_sec", "-1", "rdb_current_bgsave_time_sec", "-1",
		"aof_enabled", "0", "aof_rewrite_in_progress", "0", "aof_rewrite_scheduled", "0",
		"aof_last_rewrite_time_sec", "-1", "aof_current_rewrite_time_sec", "-1", "aof_last_bgrewrite_status", "ok", "aof_last_write_status", "ok")
}

// stats: totals since the start or the last CONFIG RESETSTAT. Names are Redis's where the meaning is
// the same.
func (r *report) stats() {
	now, d := r.s.stats.rates.Now(), r.fromServers()
	c := r.people()
	exact, patterns, shards := r.s.hub.Counts()
	r.count(stats.Connections, stats.Commands)
	r.put("instantaneous_ops_per_sec", int64(now.Ops+0.5))
	r.count(stats.BytesIn, stats.BytesOut)
	r.put("instantaneous_input_kbps", fmt.Sprintf("%.2f", now.In/1024))
	r.put("instantaneous_output_kbps", fmt.Sprintf("%.2f", now.Out/1024))
	r.count(stats.Rejected)
	r.puts("sync_full", "0", "sync_partial_ok", "0", "sync_partial_err", "0")
	for _, name := range summed {
		r.put(name, d.sums[name])
	}
	r.count(stats.Evicted)
	r.put("pubsub_channels", exact)
	r.put("pubsub_patterns", patterns)
	r.put("pubsubshard_channels", shards)
	r.puts("latest_fork_usec", "0", "total_forks", "0")
	r.put("tracking_total_keys", c.trackedKeys)
	r.put("tracking_total_items", c.trackedItems)
	r.put("tracking_total_prefixes", c.trackedPrefixes)
	r.put("unexpected_error_replies", 0)
	r.count(stats.ErrorReplies)
}

// replication: clients that look for replicas find none, and send everything here.
func (r *report) replication() {
	r.puts("role", "master", "connected_slaves", "0", "master_failover_state", "no-failover")
	r.put("master_replid", r.s.runID())
	r.put("master_replid2", strings.Repeat("0", 40))
	r.puts("master_repl_offset", "0", "second_repl_offset", "-1", "repl_backlog_active", "0", "repl_backlog_size", "0",
		"repl_backlog_first_byte_offset", "0", "repl_backlog_histlen", "0")
}

func (r *report) cpu() {
	user, sys := stats.CPUTimes()
	r.put("used_cpu_sys", fmt.Sprintf("%.6f", sys.Seconds()))
	r.put("used_cpu_user", fmt.Sprintf("%.6f", user.Seconds()))
	r.puts("used_cpu_sys_children", "0.000000", "used_cpu_user_children", "0.000000")
}

// commands: asked of the loops once for each INFO, and only if a section needs it: it copies a histogram
// for every command.
func (r *report) commands() stats.CommandStats {
	if r.cmds == nil {
		r.cmds = r.s.commandStats(r.s.life.ctx)
	}
	return r.cmds
}

// commandstats: the time of a call is what its client has waited for, with the server's and the lock's
// share; a server counts its own processor time only.
func (r *report) commandstats() {
	counts := r.commands()
	stats.EachCommand(func(c *resp.Command) {
		st := &counts[c.Index]
		if st.Times == nil && st.Rejected == 0 {
			return
		}
		calls, us, per := uint64(0), uint64(0), 0.0
		if st.Times != nil {
			calls, us = st.Times.Count, st.Times.SumNs/1000
			per = float64(st.Times.SumNs) / 1000 / float64(calls)
		}
		r.put("cmdstat_"+c.Name, fmt.Sprintf("calls=%d,usec=%d,usec_per_call=%.2f,rejected_calls=%d,failed_calls=%d",
			calls, us, per, st.Rejected, st.Failed))
	})
}

func (r *report) errorstats() {
	codes := r.s.ErrorCounts(r.s.life.ctx)
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		r.put("errorstat_"+code, fmt.Sprintf("count=%d", codes[code]))
	}
}

// latencystats: buckets and no exact values: percentiles are those of the bucket's end.
func (r *report) latencystats() {
	counts := r.commands()
	stats.EachCommand(func(c *resp.Command) {
		h := counts[c.Index].Times
		if h == nil {
			return
		}
		us := func(q float64) float64 { return float64(h.Quantile(q).Nanoseconds()) / 1000 }
		r.put("latency_percentiles_usec_"+c.Name, fmt.Sprintf("p50=%.3f,p99=%.3f,p99.9=%.3f", us(0.5), us(0.99), us(0.999)))
	})
}

func (r *report) cluster() { r.put("cluster_enabled", boolBit(r.s.opt.ClusterFacade)) }

// gateway: what Redis has no name for.
func (r *report) gateway() {
	s := r.s
	r.put("name", s.opt.Name)
	r.put("incarnation", s.opt.Incarnation)
	r.count(stats.Loops, stats.InFlight, stats.Parked, stats.ParkedEver, stats.TryAgain, stats.AtSource, stats.AtTarget, stats.ConnectionsLost, stats.LostReplies, stats.LimitCloses, stats.Unlingered)
	r.put("clients_paused", boolBit(s.isPaused()))
	r.put("writes_refused", boolBit(s.refusal() != ""))
	if why := s.refusal(); why != "" {
		r.put("writes_refused_reason", why)
	}
}

// more is a section that the control plane knows.
func (r *report) more() { r.b.WriteString(r.extra[r.name]) }
