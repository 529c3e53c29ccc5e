package resp

import (
	"math"
	"strconv"

	"github.com/tidwall/redcon"
)

// Writer appends reply values to B in the protocol version of one client. What RESP2 has
// no type for is written as Redis writes it to a RESP2 client: a map as an array of twice
// the length, a set or push as an array, a double, verbatim string or big number as a bulk
// string, a boolean as 1 or 0.
type Writer struct {
	Proto int // 2 or 3
	B     []byte
}

// Array begins an array of n values.
func (w *Writer) Array(n int) { w.B = redcon.AppendArray(w.B, n) }

// Map begins a map of n pairs; 2n values follow.
func (w *Writer) Map(n int) {
	if w.Proto < 3 {
		w.Array(2 * n)
		return
	}
	w.header('%', n)
}

// Set begins a set of n values.
func (w *Writer) Set(n int) {
	if w.Proto < 3 {
		w.Array(n)
		return
	}
	w.header('~', n)
}

// Push begins an out-of-band message of n values.
func (w *Writer) Push(n int) {
	if w.Proto < 3 {
		w.Array(n)
		return
	}
	w.header('>', n)
}

func (w *Writer) header(kind byte, n int) {
	w.B = append(strconv.AppendInt(append(w.B, kind), int64(n), 10), '\r', '\n')
}

// Bulk appends a bulk string.
func (w *Writer) Bulk(b []byte) { w.B = redcon.AppendBulk(w.B, b) }

// Text appends a bulk string.
func (w *Writer) Text(s string) { w.B = redcon.AppendBulkString(w.B, s) }

// Status appends a simple string, which has no line break.
func (w *Writer) Status(s string) { w.B = redcon.AppendString(w.B, s) }

// OK appends +OK.
func (w *Writer) OK() { w.B = append(w.B, "+OK\r\n"...) }

// Err appends an error; text begins with its code.
func (w *Writer) Err(text string) { w.B = AppendErr(w.B, text) }

// Int appends an integer.
func (w *Writer) Int(n int64) { w.B = redcon.AppendInt(w.B, n) }

// Null appends the null of a missing value.
func (w *Writer) Null() {
	if w.Proto < 3 {
		w.B = append(w.B, "$-1\r\n"...)
		return
	}
	w.B = append(w.B, "_\r\n"...)
}

// NullArray appends the null of a missing array: the time-out of a blocking command, an
// aborted transaction.
func (w *Writer) NullArray() {
	if w.Proto < 3 {
		w.B = append(w.B, "*-1\r\n"...)
		return
	}
	w.B = append(w.B, "_\r\n"...)
}

// Bool appends a boolean.
func (w *Writer) Bool(b bool) {
	switch {
	case w.Proto < 3 && b:
		w.Int(1)
	case w.Proto < 3:
		w.Int(0)
	case b:
		w.B = append(w.B, "#t\r\n"...)
	default:
		w.B = append(w.B, "#f\r\n"...)
	}
}

// Double appends a floating point number.
func (w *Writer) Double(f float64) {
	s := strconv.FormatFloat(f, 'g', 17, 64)
	if short := strconv.FormatFloat(f, 'g', -1, 64); len(short) < len(s) {
		s = short
	}
	switch {
	case math.IsInf(f, 1):
		s = "inf"
	case math.IsInf(f, -1):
		s = "-inf"
	case math.IsNaN(f):
		s = "nan"
	}
	if w.Proto < 3 {
		w.Text(s)
		return
	}
	w.B = append(append(append(w.B, ','), s...), '\r', '\n')
}

// Verbatim appends a text with a format of three letters, such as "txt".
func (w *Writer) Verbatim(format, text string) {
	if w.Proto < 3 {
		w.Text(text)
		return
	}
	w.header('=', len(text)+4)
	w.B = append(append(append(append(w.B, format...), ':'), text...), '\r', '\n')
}
