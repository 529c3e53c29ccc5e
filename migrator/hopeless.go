package migrator

import (
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// hopelessError is one that waiting can't mend.
type hopelessError struct{ code, text string }

func (e *hopelessError) Error() string { return e.text }

func hopeless(format string, args ...any) error {
	return &hopelessError{"PREFLIGHT", fmt.Sprintf(format, args...)}
}

func isHopeless(err error) bool {
	var h *hopelessError
	return errors.As(err, &h)
}

// explain marks what no waiting mends: missing rights, missing commands.
func explain(cmd string, err error) error {
	if unmendable(err) {
		var answer redis.Error // what stands around it is ours
		errors.As(err, &answer)
		code, _, _ := strings.Cut(answer.Error(), " ")
		return &hopelessError{code, fmt.Sprintf("%s: %v", cmd, err)}
	}
	return fmt.Errorf("%s: %w", cmd, err)
}
