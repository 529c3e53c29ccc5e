package proxy

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
)

// redisVersion is what clients are told: the newest Redis whose command table is known
// in full and served alike by all backends from 7.0 on.
const redisVersion = "7.0.15"

// info answers INFO [section ...] off the loop, since it looks at every loop.
func (s *session) info(args [][]byte) {
	want := make(map[string]bool)
	for _, a := range args {
		want[strings.ToLower(string(a))] = true
	}
	srv := s.l.srv
	s.async(func() []byte { return redcon.AppendBulkString(nil, srv.Info(want)) })
}

// Info is the text of INFO for the wanted sections (lower case); none or "all",
// "everything", "default" mean all.
func (s *Server) Info(want map[string]bool) string {
	all := len(want) == 0 || want["all"] || want["everything"] || want["default"]
	extra := map[string]string{}
	if s.opt.Sections != nil {
		extra = s.opt.Sections()
	}
	var b strings.Builder
	for _, name := range []string{"server", "clients", "memory", "stats", "replication", "cpu", "commandstats", "cluster", "gateway", "groups", "slots", "migration"} {
		if !all && !want[name] {
			continue
		}
		text := extra[name]
		if text == "" {
			text = s.section(name)
		}
		if text == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("\r\n")
		}
		fmt.Fprintf(&b, "# %s\r\n%s", strings.ToUpper(name[:1])+name[1:], text)
	}
	return b.String()
}

func (s *Server) section(name string) string {
	st := s.Stats().minus(s.since.Load())
	var b strings.Builder
	put := func(k string, v any) { fmt.Fprintf(&b, "%s:%v\r\n", k, v) }
	switch name {
	case "server":
		up := time.Since(s.started)
		_, port, _ := strings.Cut(s.opt.Listen, ":")
		put("redis_version", redisVersion)
		put("redis_mode", s.opt.redisMode())
		put("keyferry_version", s.opt.Version)
		put("os", runtime.GOOS+" "+runtime.GOARCH)
		put("arch_bits", 64)
		put("process_id", os.Getpid())
		put("run_id", fmt.Sprintf("%040x", s.opt.Incarnation))
		put("tcp_port", port)
		put("uptime_in_seconds", int(up.Seconds()))
		put("uptime_in_days", int(up.Hours()/24))
	case "clients":
		put("connected_clients", st.Clients)
		put("maxclients", s.live.Load().MaxClients)
		put("blocked_clients", 0)
	case "memory":
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		put("used_memory", m.HeapAlloc)
		put("used_memory_rss", m.Sys-m.HeapReleased)
	case "stats":
		put("total_connections_received", st.Connections)
		put("total_commands_processed", st.Commands)
		put("total_net_input_bytes", st.BytesIn)
		put("total_net_output_bytes", st.BytesOut)
		put("rejected_connections", st.Rejected)
		put("total_error_replies", st.ErrorReplies)
	case "replication":
		put("role", "master")
		put("connected_slaves", 0)
	case "cpu":
		user, sys := cpuTimes()
		put("used_cpu_sys", fmt.Sprintf("%.6f", sys.Seconds()))
		put("used_cpu_user", fmt.Sprintf("%.6f", user.Seconds()))
	case "cluster":
		enabled := 0
		if s.opt.ClusterFacade {
			enabled = 1
		}
		put("cluster_enabled", enabled)
	case "commandstats":
		s.commandSection(put)
	case "gateway":
		put("name", s.opt.Name)
		put("incarnation", s.opt.Incarnation)
		put("loops", st.Loops)
		put("commands_in_flight", st.InFlight)
		put("commands_parked", st.Parked)
		put("commands_parked_ever", st.ParkedEver)
		put("commands_tryagain", st.TryAgain)
		put("moving_slot_commands_at_source", st.AtSource)
		put("moving_slot_commands_at_target", st.AtTarget)
		put("server_connections_lost", st.ConnectionsLost)
		put("replies_lost", st.LostReplies)
		put("clients_closed_for_limits", st.LimitCloses)
	}
	return b.String()
}

func (s *Server) commandSection(put func(string, any)) {
	stats := s.commandStats(s.ctx)
	eachCommand(func(c *resp.Command) {
		st := &stats[c.Index]
		if st.times == nil && st.rejected == 0 {
			return
		}
		calls, us, per := uint64(0), uint64(0), 0.0
		if st.times != nil {
			calls, us = st.times.Count, st.times.SumNs/1000
			per = float64(st.times.SumNs) / 1000 / float64(calls)
		}
		put("cmdstat_"+c.Name, fmt.Sprintf("calls=%d,usec=%d,usec_per_call=%.2f,rejected_calls=%d,failed_calls=%d",
			calls, us, per, st.rejected, st.failed))
	})
}
