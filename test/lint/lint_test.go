// Package lint checks the house rules that go vet and staticcheck don't know: which way
// imports point, which calls are forbidden, how long files may be.
package lint

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// mayImport is the house plan of ARCHITECTURE.md: each package and what of ours it may
// import. An import that is not here points the wrong way.
var mayImport = map[string][]string{
	"cmd/keyferry":                {"bench", "conf", "internal/admin", "internal/gateway", "internal/testetcd", "internal/testredis", "internal/topology", "internal/verb", "migrator", "migrator/job"},
	"internal/gateway":            {"conf", "internal/admin", "internal/control", "internal/metrics", "internal/observe", "internal/resp", "internal/topology", "internal/topology/bolt", "internal/topology/etcd", "internal/upstream", "internal/web", "migrator", "proxy", "proxy/stats", "router"},
	"internal/web":                {"internal/admin", "internal/metrics", "internal/observe", "internal/topology", "internal/verb", "migrator", "proxy", "proxy/stats"},
	"internal/admin":              {"internal/control", "internal/metrics", "internal/observe", "internal/resp", "internal/topology", "internal/verb", "migrator", "migrator/job", "proxy", "proxy/stats", "router"},
	"internal/observe":            {"internal/control", "internal/metrics", "internal/topology", "internal/upstream", "migrator", "proxy", "proxy/stats", "router"},
	"proxy":                       {"internal/metrics", "internal/resp", "internal/transport", "internal/upstream", "proxy/line", "proxy/parking", "proxy/pubsub", "proxy/stats", "router", "slotlock"},
	"proxy/pubsub":                {"internal/resp", "router", "slotlock"},
	"proxy/stats":                 {"internal/metrics", "internal/resp"},
	"proxy/line":                  {"slotlock"},
	"proxy/parking":               {"slotlock"},
	"migrator":                    {"internal/control", "internal/failpoint", "internal/metrics", "internal/resp", "internal/topology", "internal/upstream", "migrator/flow", "migrator/job", "migrator/joberr", "migrator/keymove", "migrator/link", "migrator/preflight", "router", "slotlock"},
	"migrator/job":                {"internal/topology"},
	"migrator/flow":               {},
	"migrator/joberr":             {"internal/topology"},
	"migrator/keymove":            {"internal/failpoint", "internal/topology", "internal/upstream", "migrator/job", "migrator/joberr", "migrator/link", "router", "slotlock"},
	"migrator/preflight":          {"internal/failpoint", "internal/resp", "internal/topology", "internal/upstream", "migrator/job", "migrator/joberr", "migrator/keymove", "migrator/link", "router"},
	"migrator/link":               {"internal/topology", "internal/upstream", "migrator/flow", "migrator/joberr"},
	"router":                      {"internal/resp", "internal/topology", "slotlock"},
	"internal/transport":          {},
	"internal/upstream":           {"internal/resp", "internal/topology"},
	"internal/resp":               {},
	"internal/resp/gendocs":       {"internal/resp", "proxy"}, // a program
	"internal/control":            {"internal/topology", "router", "slotlock"},
	"internal/topology":           {},
	"internal/verb":               {"internal/topology"},
	"internal/verb/gendocs":       {"internal/verb"}, // a program
	"internal/verb/verbtest":      {"internal/verb"},
	"internal/topology/bolt":      {"internal/topology"},
	"internal/topology/etcd":      {"internal/topology"},
	"internal/topology/memory":    {"internal/topology"}, // for tests and simulations
	"internal/topology/storetest": {"internal/topology"},
	"internal/failpoint":          {},
	"internal/metrics":            {},
	"internal/testredis":          {},
	"internal/testetcd":           {"internal/testredis"},
	"internal/testrig":            {"bench", "internal/admin", "internal/testredis", "internal/topology", "migrator", "router"},
	"internal/faultproxy":         {"internal/resp", "internal/testredis"},
	"slotlock":                    {},
	"conf":                        {"internal/resp", "internal/topology"}, // the grammars of declared commands and of slices
	"bench":                       {"internal/testredis"},                 // black box: the endpoint may be anything
	"test/chaos":                  {},
	"test/sim":                    {"migrator/keymove", "proxy/parking", "slotlock"},
	"test/lesson":                 {},
	"test/measure":                {}, // a program
}

const maxLines = 500

func TestHouseRules(t *testing.T) {
	walkGo(t, func(path, rel string) { check(t, path, rel) })
}

// walkGo calls visit with every Go file, tests too: where it is, and its name in the repository.
func walkGo(t *testing.T, visit func(path, rel string)) {
	t.Helper()
	root := "../.."
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		visit(path, filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, path, rel string) {
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	isTest := strings.HasSuffix(rel, "_test.go")
	if n := strings.Count(string(src), "\n"); n > maxLines && !isTest {
		t.Errorf("%s: %d lines; does it hold one concept? (at most %d)", rel, n, maxLines)
	}
	if isTest {
		return
	}
	f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	pkg := filepath.ToSlash(filepath.Dir(rel))
	allowed, known := mayImport[pkg]
	if !known {
		t.Errorf("%s: package %s is not in the house plan", rel, pkg)
	}
	for _, imp := range f.Imports {
		name, _ := strconv.Unquote(imp.Path.Value)
		ours, ok := strings.CutPrefix(name, "keyferry/")
		if !ok {
			continue
		}
		fine := false
		for _, a := range allowed {
			fine = fine || a == ours
		}
		if !fine {
			t.Errorf("%s imports %s: that points the wrong way", rel, name)
		}
	}
	for _, r := range forbidden {
		if r.covers(rel) {
			r.check(t, rel, string(src))
		}
	}
}
