package lint

import (
	"os/exec"
	"strings"
	"testing"
)

// pure names packages that must stay free of what reaches the outside world, and what that
// is: whatever they import, directly or through others, has none of these path prefixes.
var pure = map[string][]string{
	"proxy/parking":     {"net", "go.uber.org/zap", "github.com/redis/go-redis", "keyferry/internal/upstream", "keyferry/internal/transport"},
	"proxy/line":        {"net", "go.uber.org/zap", "github.com/redis/go-redis", "keyferry/internal", "keyferry/router"},
	"internal/topology": {"go.etcd.io/", "go.uber.org/zap", "github.com/redis/go-redis", "keyferry/internal/upstream", "keyferry/internal/transport"},
	"migrator/job":      {"net", "go.etcd.io/", "go.uber.org/zap", "github.com/redis/go-redis", "keyferry/internal/upstream", "keyferry/internal/transport"},
	"migrator/flow":     {"net", "go.etcd.io/", "go.uber.org/zap", "github.com/redis/go-redis", "keyferry/internal"},
}

func TestPurePackages(t *testing.T) {
	for pkg, forbidden := range pure {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+pkg)
		cmd.Dir = "../.."
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list -deps ./%s: %v", pkg, err)
		}
		deps := strings.Fields(string(out))
		if len(deps) < 2 {
			t.Fatalf("go list -deps ./%s says %q", pkg, out)
		}
		for _, dep := range deps {
			for _, bad := range forbidden {
				if dep == strings.TrimSuffix(bad, "/") || strings.HasPrefix(dep, strings.TrimSuffix(bad, "/")+"/") {
					t.Errorf("%s depends on %s", pkg, dep)
				}
			}
		}
	}
}
