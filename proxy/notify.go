package proxy

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"

	"keyferry/internal/resp"
	"keyferry/proxy/pubsub"
)

// isNotify knows the one setting of the data servers that CONFIG SET passes on: those who
// listen to keyspace events, as session stores do, ask for them at their start.
func isNotify[T string | []byte](name T) bool {
	return strings.EqualFold(string(name), resp.NotifySetting)
}

// setNotify runs CONFIG SET notify-keyspace-events at every group. Those that are added later
// get it from the preflight of the first job that brings them keys.
func (c *call) setNotify(args [][]byte) {
	s := c.s
	c.fan(s.l.everyGroup(), resp.AppendRequest(nil, args...), false, firstOf)
}

// getNotify answers a CONFIG GET that asks for it too: by what all groups that serve slots have
// in common, since a client that misses an event in it sets it everywhere.
func (c *call) getNotify(found map[string]string, name string) {
	s := c.s
	proto := s.proto
	frame := resp.AppendRequest(nil, []byte("CONFIG"), []byte("GET"), []byte(resp.NotifySetting))
	c.fan(s.l.table.Serving(), frame, false, func(parts [][]byte) []byte {
		flags, ok := commonFlags(parts)
		if !ok {
			return badPart()
		}
		found[name] = flags
		w := resp.Writer{Proto: proto}
		appendConfig(&w, found)
		return w.B
	})
}

// commonFlags are the events that every reply to CONFIG GET has.
func commonFlags(parts [][]byte) (string, bool) {
	var common []byte
	for i, p := range parts {
		pair, ok := resp.SplitAggregate(p)
		if !ok || len(pair) != 2 {
			return "", false
		}
		flags, ok := resp.BulkBody(pair[1])
		if !ok {
			return "", false
		}
		if i == 0 {
			common = flags
		}
		if !bytes.Equal(common, flags) {
			common = slices.DeleteFunc(resp.NotifyFlags(common), func(f byte) bool { return bytes.IndexByte(resp.NotifyFlags(flags), f) < 0 })
		}
	}
	return string(common), true
}

// EventsWanted reports that some client listens to keyspace events.
func (s *Server) EventsWanted() bool { return s.hub.Listens()&pubsub.ListensToEvents != 0 }

// EventsHeard returns when the keyspace events that groups have had until now are with those who
// listen, or are known to be late.
func (s *Server) EventsHeard(ctx context.Context, groups ...string) { s.hub.AwaitHeard(ctx, groups...) }

// appendConfig: sorted, so that two loops or two calls give the same reply.
func appendConfig(w *resp.Writer, found map[string]string) {
	w.Map(len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		w.Text(name)
		w.Text(found[name])
	}
}
