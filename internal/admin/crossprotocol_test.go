package admin

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestCrossProtocol: a web page that makes a browser send HTTP here changes nothing, and is
// told of in the log.
func TestCrossProtocol(t *testing.T) {
	const body = "PROXY GROUP ADD evil 127.0.0.1:1 UNCHECKED\r\n"
	headers := "Host: 127.0.0.1:7381\r\nContent-Length: 44\r\n\r\n"
	core, logs := observer.New(zap.WarnLevel)
	s := &Server{Log: zap.New(core)}
	s.Control, s.Manager = newManager(t)
	if err := s.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	for name, text := range map[string]string{
		"POST":          "POST / HTTP/1.1\r\n" + headers + body,
		"GET":           "GET / HTTP/1.1\r\n" + headers + body,
		"PUT":           "PUT / HTTP/1.1\r\n" + headers + body,
		"OPTIONS":       "OPTIONS / HTTP/1.1\r\nhost: x\r\n\r\n" + body,
		"multibulk":     "*1\r\n$4\r\npost\r\n" + body,
		"behind others": strings.Repeat("PING\r\n", 100) + "POST / HTTP/1.1\r\n" + headers + body,
		"subscribed":    "SUBSCRIBE " + ChannelMigrations + "\r\nPOST / HTTP/1.1\r\n" + headers + body,
	} {
		for _, size := range []int{len(text), 1} {
			c, err := net.Dial("tcp", s.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			go func() {
				for rest := text; len(rest) > 0; rest = rest[min(size, len(rest)):] {
					if _, err := io.WriteString(c, rest[:min(size, len(rest))]); err != nil {
						return
					}
				}
			}()
			_, err = io.Copy(io.Discard, c)
			if e, is := err.(net.Error); is && e.Timeout() {
				t.Errorf("%s: the connection stands", name)
			}
			if groups := s.Control.State().Groups; len(groups) > 0 {
				t.Fatalf("%s: a line of the body was executed: %v", name, groups)
			}
		}
	}
	if n := logs.FilterMessageSnippet("Possible SECURITY ATTACK").Len(); n != 1 {
		t.Errorf("%d lines in the log, want one a minute: %v", n, logs.All())
	}
}
