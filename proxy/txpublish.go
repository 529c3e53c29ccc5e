package proxy

import (
	"bytes"

	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
	"keyferry/proxy/pubsub"
)

// published are the PUBLISH and SPUBLISH of a transaction; most have none, and nil. In the reply to
// EXEC the server counts the gateway as one receiver, or one for each channel and pattern by which it
// listens. The clients that were sent the message are put in its place.
//
//	enqueue ─► listen ─► EXEC ─► reply, collected ─► what was said has been heard ─► counted ─► client
//
// The loop's goroutine has it: first in the transaction, then in its execution, then with the
// reply that waits.
type published struct {
	at    []int // their places among the commands
	list  []*pubsub.Overheard
	group string // whose feed listens for them; "": none does
	buf   []byte // of the reply to EXEC
}

// notePublish is about a PUBLISH or SPUBLISH that is about to be queued.
func (tx *transaction) notePublish(cmd *resp.Command, args [][]byte) {
	if tx.published == nil {
		tx.published = &published{}
	}
	kind := pubsub.Exact
	if cmd == spublishCommand {
		kind = pubsub.Sharded
	}
	x := tx.published
	x.at = append(x.at, tx.n)
	x.list = append(x.list, &pubsub.Overheard{Key: pubsub.Key{Kind: kind, Name: string(args[1])}, Payload: bytes.Clone(args[2])})
}

// listen is said before EXEC is sent: a message may be heard before the reply.
func (x *published) listen(l *loop, group string) {
	if x != nil {
		x.group = group
		l.srv.hub.Overhear(group, x.list)
	}
}

// overlook is for an EXEC whose reply never comes.
func (x *published) overlook(l *loop) {
	if x != nil && x.group != "" {
		l.srv.hub.Overlook(x.group, x.list, func(int, int, int) {})
	}
}

// collect gives the reply when all of it is there.
func (x *published) collect(b []byte, last bool) []byte {
	if x.buf = append(x.buf, b...); last {
		return x.buf
	}
	return nil
}

// counted is the reply with the gateway's own count. All that the server has said of the transaction
// has been heard.
func (x *published) counted(l *loop, b []byte) []byte {
	parts, ok := resp.SplitArray(b, nil)
	l.srv.hub.Overlook(x.group, x.list, func(i, gateway, clients int) {
		if !ok || x.at[i] >= len(parts) { // null, or an error: nothing was published
			return
		}
		if n, isInt := resp.ParseInt(parts[x.at[i]]); isInt {
			parts[x.at[i]] = redcon.AppendInt(nil, max(n-int64(gateway), 0)+int64(clients))
		}
	})
	if !ok {
		return b
	}
	return append(redcon.AppendArray(nil, len(parts)), bytes.Join(parts, nil)...)
}
