package proxy

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"testing"

	"keyferry/internal/testredis"
)

// TestScriptsAfterFlush: a script that is known again after SCRIPT FLUSH is loaded again
// where it had been loaded before, also for commands in a pipeline.
func TestScriptsAfterFlush(t *testing.T) {
	_, addr := startProxyWith(t, func(o *Options) { o.Loops = 1 }, testredis.StartT(t), testredis.StartT(t))
	var low, high string
	for i := 0; low == "" || high == ""; i++ {
		if k := fmt.Sprint("k", i); slotOf(k) < 8192 {
			low = k
		} else {
			high = k
		}
	}
	const body = "return 7"
	sum := sha1.Sum([]byte(body))
	sha := hex.EncodeToString(sum[:])
	c := dialLine(t, addr)
	for range 2 {
		c.send(fmt.Sprintf("EVAL %q 1 %s\n", body, low))
		c.expect(":7")
		c.send(fmt.Sprintf("EVALSHA %s 1 %s\nEVALSHA %s 1 %s\nPING\n", sha, high, sha, high))
		c.expect(":7", ":7", "+PONG")
		c.send("SCRIPT FLUSH\n")
		c.expect("+OK")
	}
	c.send(fmt.Sprintf("EVALSHA %s 1 %s\n", sha, high))
	c.expect("-NOSCRIPT No matching script. Please use EVAL.")
}

// TestScriptsAreBounded in bytes, not only in number.
func TestScriptsAreBounded(t *testing.T) {
	c := newScripts()
	for i := range 3 * scriptsBytesMax / scriptBytesMax {
		body := bytes.Repeat([]byte{'-'}, scriptBytesMax)
		copy(body, fmt.Sprint("-- ", i))
		c.remember(body)
		c.remember(body)
	}
	if n := c.bytes.Load(); n > scriptsBytesMax || n < scriptsBytesMax-scriptBytesMax {
		t.Errorf("%d bytes of scripts are kept, want %d", n, scriptsBytesMax)
	}
	c.forget()
	if n := c.bytes.Load(); n != 0 {
		t.Errorf("%d bytes after SCRIPT FLUSH", n)
	}
}
