package testredis

// TB is the part of testing.TB that StartT needs: the demo, which uses this package too,
// must not link package testing.
type TB interface {
	Helper()
	Fatal(args ...any)
	Errorf(format string, args ...any)
	Cleanup(f func())
}

// StartT starts a server for one test, with more redis.conf settings in args,
// and stops it at the test's end. It fails the test when it cannot: a test
// that needs a server and was skipped has tested nothing.
func StartT(t TB, args ...string) *Server {
	t.Helper()
	server, err := Start(Options{Args: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stop %s: %v", server.Addr, err)
		}
	})
	return server
}
