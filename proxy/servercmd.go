package proxy

import (
	"bytes"

	"keyferry/internal/resp"
)

// serverCommand answers the commands about the server itself, which is this gateway.
func (c *call) serverCommand(name, sub string, cmd *resp.Command, args [][]byte) {
	switch name {
	case "config":
		c.config(sub, args)
	case "acl":
		c.acl(sub, args)
	case "memory":
		c.memoryCommand(sub)
	case "debug":
		c.debugCommand(args)
	case "monitor":
		c.startMonitor()
	case "role":
		c.role()
	case "module":
		c.help("MODULE", []string{"LIST", "    Return a list of loaded modules."})
	case "slowlog":
		c.slowlog(sub, args)
	case "latency":
		c.latency(sub, args)
	default:
		c.reject(refusalOf(cmd))
	}
}

// cText is what is seen of an argument in an error that a server makes with C's %s: all
// before the first NUL.
func cText(arg []byte) string {
	text, _, _ := bytes.Cut(arg, []byte{0})
	return string(text)
}
