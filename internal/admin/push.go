package admin

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
)

// ChannelMigrations is the channel on the admin address to which a client subscribes for
// every change and the progress of jobs, as JSON of migrator.Notice.
const ChannelMigrations = "keyferry:migrations"

const (
	pushBuffer   = 256             // notices that wait for a slow reader; then the oldest are dropped
	pushDeadline = 5 * time.Second // of one write; then the connection is closed
)

// subscribe makes the connection a subscriber: it gets notices until it ends, and may say
// UNSUBSCRIBE, PING and QUIT.
func (s *Server) subscribe(c redcon.Conn, args []string) {
	if len(args) < 2 {
		c.WriteError("ERR wrong number of arguments for 'subscribe' command")
		return
	}
	for _, name := range args[1:] {
		if name != ChannelMigrations {
			c.WriteError(fmt.Sprintf("ERR no channel '%.128s' here: there is %s", name, ChannelMigrations))
			return
		}
	}
	dc := c.Detach() // handle is under way, and so Stop still waits
	s.wg.Go(func() { s.push(dc) })
}

// push serves one subscriber.
func (s *Server) push(dc redcon.DetachedConn) {
	sub := s.Manager.Subscribe(pushBuffer)
	defer sub.Close()
	defer func() { _ = dc.Close() }()
	said := make(chan string) // replies to what the client says
	ended := make(chan struct{})
	defer close(ended)
	s.wg.Go(func() { listen(dc, said, ended) })
	out := appendPush(nil, "subscribe", 1)
	for {
		_ = dc.NetConn().SetWriteDeadline(time.Now().Add(pushDeadline))
		if _, err := dc.NetConn().Write(out); err != nil {
			return
		}
		select {
		case n := <-sub.C():
			text, err := json.Marshal(n)
			if err != nil {
				return
			}
			out = appendBulks(out[:0], "message", ChannelMigrations, string(text))
		case verb, ok := <-said:
			switch verb {
			case "unsubscribe":
				out = appendPush(out[:0], "unsubscribe", 0)
			case "ping":
				out = appendBulks(out[:0], "pong", "")
			case "subscribe":
				out = appendPush(out[:0], "subscribe", 1)
			default:
				out = resp.AppendErr(out[:0], "ERR only SUBSCRIBE, UNSUBSCRIBE, PING and QUIT are allowed in this context")
			}
			if !ok || verb == "quit" {
				return
			}
		}
	}
}

// listen reads what a subscriber says until its connection ends.
func listen(dc redcon.DetachedConn, said chan<- string, ended <-chan struct{}) {
	defer close(said)
	for {
		cmd, err := dc.ReadCommand()
		if err != nil {
			return
		}
		select {
		case said <- strings.ToLower(string(cmd.Args[0])):
		case <-ended:
			return
		}
	}
}

// appendPush is the confirmation of a subscription, with how many there are now.
func appendPush(b []byte, kind string, count int) []byte {
	return fmt.Appendf(b, "*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:%d\r\n", len(kind), kind, len(ChannelMigrations), ChannelMigrations, count)
}

func appendBulks(b []byte, parts ...string) []byte {
	b = fmt.Appendf(b, "*%d\r\n", len(parts))
	for _, p := range parts {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(p), p)
	}
	return b
}
