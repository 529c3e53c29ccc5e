package proxy

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	observed "go.uber.org/zap/zaptest/observer"

	"keyferry/internal/testredis"
)

// TestCrossProtocol: what a browser can be made to send ends the connection before the body,
// which a foreign page has written, is read. A plain server is asked the same.
func TestCrossProtocol(t *testing.T) {
	const body = "SET pwned 1\r\nSET pwned 2\r\n"
	headers := "Host: 127.0.0.1:6379\r\nConnection: keep-alive\r\nContent-Length: 26\r\nOrigin: http://evil.example\r\n\r\n"
	core, logs := observed.New(zap.WarnLevel)
	server := testredis.StartT(t)
	_, addr := startProxyWith(t, func(o *Options) { o.Log = zap.New(core) }, server)
	_, locked := startProxyWith(t, func(o *Options) { o.Password = "secret" }, server)
	for name, text := range map[string]string{
		"POST":             "POST / HTTP/1.1\r\n" + headers + body,
		"post, alone":      "post\r\n" + body,
		"GET":              "GET / HTTP/1.1\r\n" + headers + body,
		"PUT":              "PUT /x HTTP/1.1\r\n" + headers + body,
		"PATCH":            "PATCH / HTTP/1.1\r\n" + headers + body,
		"DELETE":           "DELETE / HTTP/1.1\r\n" + headers + body,
		"OPTIONS":          "OPTIONS * HTTP/1.1\r\n" + headers + body,
		"HEAD":             "HEAD / HTTP/1.1\r\n" + headers + body,
		"a WebSocket":      "GET /chat HTTP/1.1\r\nHOST: x\r\nUpgrade: websocket\r\n\r\n" + body,
		"Host, no space":   "PUT / HTTP/1.1\r\nhost: \r\n\r\n" + body,
		"multibulk":        "*2\r\n$4\r\nPoSt\r\n$1\r\n/\r\n" + body,
		"multibulk Host:":  "*1\r\n$5\r\nHost:\r\n" + body,
		"in a transaction": "MULTI\r\nPOST / HTTP/1.1\r\n" + headers + body + "EXEC\r\n",
		"subscribed":       "SUBSCRIBE c\r\nPOST / HTTP/1.1\r\n" + headers + "UNSUBSCRIBE\r\n" + body,
		"behind others":    strings.Repeat("PING\r\n", 100) + "POST / HTTP/1.1\r\n" + headers + body,
	} {
		for place, to := range map[string]string{"redis": server.Addr, "gateway": addr, "gateway with a password": locked} {
			for _, size := range []int{len(text), 1, 7} {
				if !endsFor(t, to, text, size) {
					t.Errorf("%s, %s, in pieces of %d: the connection stands", name, place, size)
				}
				if n, err := server.Client().Exists(context.Background(), "pwned").Result(); n != 0 || err != nil {
					t.Fatalf("%s, %s: a line of the body was executed (%v)", name, place, err)
				}
			}
		}
	}
	if n := logs.FilterMessageSnippet("Possible SECURITY ATTACK").Len(); n != 1 {
		t.Errorf("%d lines in the log, want one a minute: %v", n, logs.All())
	}
}

// endsFor sends text in pieces and reports that the other side has ended the connection.
func endsFor(t *testing.T, addr, text string, size int) bool {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	go func() {
		for len(text) > 0 {
			n := min(size, len(text))
			if _, err := io.WriteString(nc, text[:n]); err != nil {
				return
			}
			text = text[n:]
		}
	}()
	_, err = io.Copy(io.Discard, nc) // a reset is an end too: it has left input unread
	netErr, late := err.(net.Error)
	return !late || !netErr.Timeout()
}

// TestNotCrossProtocol: keys and arguments may be called anything.
func TestNotCrossProtocol(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t))
	c := dialLine(t, addr)
	c.send("SET Host: POST\nGET Host:\nPOSTX\nPING\n")
	for _, want := range []string{"+OK", "$4", "POST", "-ERR unknown command 'POSTX'", "+PONG"} {
		if line, err := c.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
			t.Fatalf("%q, %v, want %s", line, err, want)
		}
	}
}
