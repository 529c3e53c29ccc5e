package proxy

import (
	"bytes"
)

// cText is what is seen of an argument in an error that a server makes with C's %s: all
// before the first NUL.
func cText(arg []byte) string {
	text, _, _ := bytes.Cut(arg, []byte{0})
	return string(text)
}
