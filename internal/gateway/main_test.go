package gateway

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain looks for goroutines that nobody waited for. Three that are left out belong
// to a pool that gnet has for the whole process and never closes; one is go-redis's, which
// finds out up to a second after its pool was closed that it has nothing to dial.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}
