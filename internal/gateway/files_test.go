package gateway

import (
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"keyferry/conf"
)

func TestFit(t *testing.T) {
	for _, x := range []struct {
		files                    uint64
		clients, dedicated, a, b int
	}{
		{20000, 10000, 8000, 10000, 8000},
		{18128, 10000, 8000, 10000, 8000},
		{18127, 10000, 8000, 9999, 8000},
		{1024, 10000, 8000, 497, 399},
		{1024, 100, 10, 100, 10},
		{20, 10000, 1, 1, 1},
	} {
		if a, b := fit(x.files, x.clients, x.dedicated); a != x.a || b != x.b {
			t.Errorf("%d files for %d and %d: %d and %d, want %d and %d", x.files, x.clients, x.dedicated, a, b, x.a, x.b)
		}
	}
}

// TestFewFiles: where the process may not have a descriptor for each client and for the
// servers, fewer clients are let in, and the log says so.
func TestFewFiles(t *testing.T) {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	few := was
	few.Cur = 1024
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &was) }()
	c := conf.Default()
	c.Listen, c.Admin, c.HTTP.Listen, c.DataDir = "127.0.0.1:0", "127.0.0.1:0", "", t.TempDir()
	core, logs := observer.New(zap.WarnLevel)
	g, err := Start(c, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Stop(t.Context()) }()
	if info := g.Proxy.Info(map[string]bool{"clients": true}); !strings.Contains(info, "maxclients:497\r\n") {
		t.Errorf("INFO clients:\n%s", info)
	}
	if n := logs.FilterMessageSnippet("ulimit").Len(); n != 1 {
		t.Errorf("%d warnings: %v", n, logs.All())
	}
	if err := checkFiles(1024, &c); err == nil || !strings.Contains(err.Error(), "try with 497") {
		t.Errorf("of the settings as configured: %v", err)
	}
}
