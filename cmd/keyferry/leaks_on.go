//go:build failpoints

package main

import (
	"fmt"
	"os"

	"go.uber.org/goleak"
)

// tellLeaks says on stderr which goroutines a gateway that has stopped has left behind; the
// tests that run it look for that.
func tellLeaks() {
	err := goleak.Find(
		// It ends within a second of the client that it is of.
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
	}
}
