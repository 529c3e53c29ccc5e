// Package joberr says what an error means for a job: where it came from, what a person is
// told, and whether waiting mends it.
//
//	connection ─► At(origin, err) ─► worker, pass, attempt ─► runner ─► FromError ─► job's record
//
// It talks to nobody. An error is wrapped once, where its origin is known, and described once,
// where it ends something; in between it is passed on as it is.
package joberr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/topology"
)

// Refused reports whether err is the server's own answer, so that the command was
// certainly not executed (redis.Nil is an answer as well, but not an error here).
func Refused(err error) bool {
	var e redis.Error
	return errors.As(err, &e) && !errors.Is(err, redis.Nil)
}

// Origins of errors, as a job's record, advice and the dashboard name them. Source and Target
// are those of the move; on the way back of a revert an errorLog swaps them for those of the job.
const (
	Source  = "source"
	Target  = "target"
	Store   = "store"
	Gateway = "gateway"
)

// Describe describes err for the job's status.
func Describe(origin string, err error) *topology.JobError {
	e := &topology.JobError{Origin: origin, Text: err.Error(), AtMs: time.Now().UnixMilli()}
	var netErr net.Error
	var never *HopelessError
	var answer redis.Error
	var full *FullError
	var coded *CodedError
	var forgot *ForgotError
	switch {
	case errors.As(err, &forgot):
		e.Code = "FORGOT"
	case errors.As(err, &coded):
		e.Code = coded.Code
	case errors.As(err, &full):
		e.Code = "OOM"
	case errors.As(err, &never):
		e.Code = never.Code
	case Refused(err) && errors.As(err, &answer):
		e.Code, _, _ = strings.Cut(answer.Error(), " ")
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout():
		e.Code = "TIMEOUT"
	case errors.Is(err, io.EOF):
		e.Code, e.Text = "IO", "the connection was closed by the server or on the way ("+err.Error()+")"
	default:
		e.Code = "IO"
	}
	if len(e.Text) > maxErrorText {
		e.Text = strings.ToValidUTF8(e.Text[:maxErrorText], "") + "…"
	}
	return e
}

// maxErrorText bounds what is kept of one error.
const maxErrorText = 400

// Error carries where an error came from up to the runner.
type Error struct {
	Origin string
	Err    error
	Noted  bool // an errorLog has it
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Origin, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// At says where an error came from; nil stays nil. What it wraps may have an origin of its own:
// the outermost counts.
func At(origin string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Origin: origin, Err: err}
}

// Of finds the origin of an error; nil: it has none.
func Of(err error) *Error {
	var o *Error
	errors.As(err, &o)
	return o
}

// FromError is the way back.
func FromError(err error) *topology.JobError {
	if o := Of(err); o != nil {
		return Describe(o.Origin, o.Err)
	}
	return Describe(Gateway, err)
}

// IsOOM reports that the target refused for want of memory.
func IsOOM(err error) bool {
	var full *FullError
	return errors.As(err, &full) || Refused(err) && strings.Contains(err.Error(), "OOM ")
}

// IsForgot reports that the target lacks keys that the source has given up.
func IsForgot(err error) bool {
	var f *ForgotError
	return errors.As(err, &f)
}

// HopelessError is one that waiting can't mend.
type HopelessError struct{ Code, Text string }

func (e *HopelessError) Error() string { return e.Text }

// Hopeless is an error that a check has found and only an operator can mend.
func Hopeless(format string, args ...any) error {
	return &HopelessError{"PREFLIGHT", fmt.Sprintf(format, args...)}
}

// IsHopeless reports whether waiting can mend nothing about an error.
func IsHopeless(err error) bool {
	var h *HopelessError
	return errors.As(err, &h)
}

// Explain marks what no waiting mends: missing rights, missing commands.
func Explain(cmd string, err error) error {
	if Unmendable(err) {
		var answer redis.Error // what stands around it is ours
		errors.As(err, &answer)
		code, _, _ := strings.Cut(answer.Error(), " ")
		return &HopelessError{code, fmt.Sprintf("%s: %v", cmd, err)}
	}
	return fmt.Errorf("%s: %w", cmd, err)
}

// BeyondWaiting begin the answers of a server that waiting does not change.
var BeyondWaiting = []string{"NOPERM", "NOAUTH", "WRONGPASS", "ERR unknown command", "ERR DUMP payload version", "ERR Bad data format"}

// Unmendable reports a server's own answer that waiting does not change.
func Unmendable(err error) bool {
	if !Refused(err) {
		return false
	}
	for _, text := range BeyondWaiting {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

// OfPassword reports a server's answer that it does not take a user and a password, or wants one.
func OfPassword(err error) bool {
	return Refused(err) && !OfMissing(err) && !strings.Contains(err.Error(), "NOPERM") && strings.Contains(strings.ToUpper(err.Error()), "AUTH") ||
		Refused(err) && (strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "invalid password"))
}

// OfMissing reports the answer of a server that has no such command, or has given it another name.
func OfMissing(err error) bool {
	return Refused(err) && strings.Contains(err.Error(), "unknown command")
}

// OfDisk reports the answer of a server that writes nothing, since it can't write its disk.
func OfDisk(err error) bool { return Refused(err) && strings.Contains(err.Error(), "MISCONF") }

// OfCluster reports an answer that only a server in cluster mode gives.
func OfCluster(err error) bool {
	if !Refused(err) {
		return false
	}
	for _, text := range []string{"MOVED ", "CLUSTERDOWN", "CROSSSLOT", "cluster mode"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

// CodedError is one of ours with a code as servers have them.
type CodedError struct{ Code, Text string }

func (e *CodedError) Error() string { return e.Text }

// ForgotError says that the target lacks keys that the source has given up.
type ForgotError struct{ Text string }

func (e *ForgotError) Error() string { return e.Text }

// FullError says that the target has too little memory left to go on, before it would have
// to refuse the clients' own writes.
type FullError struct{ Used, Most int64 }

func (e *FullError) Error() string {
	return fmt.Sprintf("it has %d of %d bytes in use (maxmemory): the mover leaves it the rest for its clients", e.Used, e.Most)
}
