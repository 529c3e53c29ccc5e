package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/migrator/job"
)

// sayAgain is how often a job that moves keys is told of where there is no terminal.
const sayAgain = 10 * time.Second

// screen shows jobs that are followed:
//
//	on a terminal   a frame of one line for each, which the next frame overwrites
//	elsewhere       a line when a job changes, and now and then while it moves keys
//	as JSON         a record when anything of a job has changed
//
// A nil one shows nothing.
type screen struct {
	out, err io.Writer
	json     bool
	rows     int // of the terminal; 0: there is none

	lines int                 // of the frame that stands there
	said  map[string]lastSaid // by job
	alone bool                // it was said that the gateway does not answer
}

type lastSaid struct {
	state, moved string
	at           time.Time
}

func newScreen(out, err io.Writer, asJSON bool) *screen {
	s := &screen{out: out, err: err, json: asJSON, said: make(map[string]lastSaid)}
	if f, ok := out.(*os.File); ok && !asJSON && os.Getenv("TERM") != "dumb" {
		s.rows = terminalRows(f)
	}
	return s
}

func (s *screen) show(jobs []migrator.Status, now time.Time) {
	switch {
	case s == nil:
		return
	case s.rows > 0:
		s.frame(jobs)
	default:
		for _, j := range jobs {
			s.line(j, now)
		}
	}
	s.alone = false
}

// frame overwrites the last one. What has ended is written for good, above the rest, so that a
// frame never grows larger than the terminal, where it could not be overwritten.
func (s *screen) frame(jobs []migrator.Status) {
	var b strings.Builder
	if s.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.lines)
	}
	b.WriteString("\r\x1b[J\x1b[?7l") // clear what is below; long lines are cut, not wrapped
	var open []string
	for _, j := range jobs {
		switch _, told := s.said[j.ID]; {
		case told:
		case j.Phase.Ended():
			s.said[j.ID] = lastSaid{}
			b.WriteString(progressLine(j) + "\n")
		default:
			open = append(open, progressLine(j))
		}
	}
	if most := max(1, s.rows-2); len(open) > most {
		open = append(open[:most-1:most-1], fmt.Sprintf("… and %d more", len(open)-most+1))
	}
	for _, line := range open {
		b.WriteString(line + "\n")
	}
	b.WriteString("\x1b[?7h")
	s.lines = len(open)
	_, _ = io.WriteString(s.out, b.String())
}

func (s *screen) line(j migrator.Status, now time.Time) {
	last, told := s.said[j.ID]
	phase, reason := j.Phase, j.Reason
	if job.Resting(&j.Job) { // that a slice is over is no news
		phase, reason = j.ResumeTo, ""
	}
	state := fmt.Sprint(phase, reason, j.Attempt, j.Stalled != nil)
	moved := fmt.Sprint(j.KeysMoved, " ", j.Scanned)
	due := moved != last.moved && (s.json || now.Sub(last.at) >= sayAgain)
	if told && state == last.state && !due {
		return
	}
	s.said[j.ID] = lastSaid{state, moved, now}
	if s.json {
		_ = json.NewEncoder(s.out).Encode(j)
		return
	}
	fmt.Fprintln(s.out, progressLine(j))
}

// gone says once that the gateway does not answer.
func (s *screen) gone(err error) {
	if s == nil || s.alone {
		return
	}
	s.alone = true
	fmt.Fprintf(s.err, "%v; trying again for %v\n", err, gonePatience)
	s.lines = 0 // the frame stands above that line
}

// progressLine is one job in one line, with a bar.
func progressLine(j migrator.Status) string {
	share := 0.0
	switch {
	case j.Phase == topology.Done:
		share = 1
	case j.KeysLeft >= 0 && j.KeysMoved+j.KeysLeft > 0:
		share = min(float64(j.KeysMoved)/float64(j.KeysMoved+j.KeysLeft), 0.99)
	}
	const width = 24
	n := int(share * width)
	bar := strings.Repeat("█", n) + strings.Repeat("░", width-n)
	line := fmt.Sprintf("%-4s %s→%s %s %3.0f%%  %-9s %9d keys %7d/s", j.ID, j.Source, j.Target, bar, share*100, j.Phase, j.KeysMoved, j.RateNow)
	if j.EtaS > 0 {
		line += fmt.Sprintf("  eta %s", time.Duration(j.EtaS)*time.Second)
	}
	switch {
	case j.Reason == job.ReasonSlice:
		line += "  " + j.Throttle
	case j.Reason != "":
		line += "  " + j.Reason
	case j.Doing != "":
		line += "  " + j.Doing
	}
	if e := j.LastError; e != nil && !j.Phase.Ended() && j.Attempt > 0 {
		line += fmt.Sprintf("  attempt %d/%d: %s %s", j.Attempt, j.MaxAttempts, e.Origin, e.Text)
	}
	return line
}
