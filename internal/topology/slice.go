package topology

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Slice has a job work for a while and rest for a while, again and again. Its text is
// "1s/4s"; "1s" does not rest, "off" is the zero Slice.
type Slice struct {
	Work time.Duration // 0: the job is not sliced
	Rest time.Duration // 0: the next slice begins at once
}

// What a slice may be: one that is shorter would be nothing but its own end.
const (
	ShortestWork = 100 * time.Millisecond
	LongestSlice = 24 * time.Hour // and rest
)

var errSlice = errors.New("want 100ms to 24h of work and, behind a slash, up to 24h of rest, as 1s/4s or 500ms; or off")

// ParseSlice reads a slice's text. A time without its unit is refused, but for 0.
func ParseSlice(text string) (Slice, error) {
	var s Slice
	work, rest, _ := strings.Cut(strings.ToLower(text), "/")
	if work == "off" {
		work = "0"
	}
	var err error
	if s.Work, err = time.ParseDuration(work); err == nil && strings.Contains(text, "/") {
		s.Rest, err = time.ParseDuration(rest)
	}
	if err != nil || s.Work == 0 && s.Rest != 0 || s.check() != nil {
		return Slice{}, errSlice
	}
	return s, nil
}

func (s Slice) check() error {
	if s == (Slice{}) || s.Work >= ShortestWork && s.Work <= LongestSlice && s.Rest >= 0 && s.Rest <= LongestSlice {
		return nil
	}
	return fmt.Errorf("slice %v: %w", s, errSlice)
}

func (s Slice) String() string {
	switch {
	case s.Work == 0:
		return "off"
	case s.Rest == 0:
		return s.Work.String()
	}
	return s.Work.String() + "/" + s.Rest.String()
}

// MarshalText and UnmarshalText give and read the text, for JSON and settings.
func (s Slice) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s *Slice) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSlice(string(text))
	return err
}
