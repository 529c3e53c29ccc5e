package lint

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// What keeps a struct, a function and a file small enough to be read in one go.
const (
	maxFields        = 20 // of a struct; an embedded one counts as one
	maxFunctionLines = 69
	function90Lines  = 28 // nine of ten functions are within
	functionMedian   = 11
	proxyCommentsMin = 0.18 // of the lines of proxy: whys, invariants, interleavings
)

// goFiles calls visit with every Go file of the product: no tests.
func goFiles(t *testing.T, visit func(rel string, src []byte)) {
	t.Helper()
	walkGo(t, func(path, rel string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		visit(rel, src)
	})
}

// TestStructsAreNarrow: a wide struct is several owners in one. Each part of it says who
// touches it.
func TestStructsAreNarrow(t *testing.T) {
	goFiles(t, func(rel string, src []byte) {
		f, err := parser.ParseFile(token.NewFileSet(), rel, src, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			st, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			if n := st.Fields.NumFields(); n > maxFields {
				t.Errorf("%s: struct %s has %d fields; at most %d", rel, spec.Name.Name, n, maxFields)
			}
			return true
		})
	})
}

// TestFunctionsAreShort holds the lengths of functions at what they were when they were found
// readable.
func TestFunctionsAreShort(t *testing.T) {
	var lengths []int
	goFiles(t, func(rel string, src []byte) {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, rel, src, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1
			lengths = append(lengths, n)
			if n > maxFunctionLines {
				t.Errorf("%s: %s has %d lines; at most %d", rel, fn.Name.Name, n, maxFunctionLines)
			}
		}
	})
	slices.Sort(lengths)
	median, most := lengths[len(lengths)/2], lengths[len(lengths)*9/10]
	t.Logf("%d functions, median %d lines, 90 %% within %d, longest %d", len(lengths), median, most, lengths[len(lengths)-1])
	if median > functionMedian || most > function90Lines {
		t.Errorf("functions have a median of %d lines and 90 %% within %d; at most %d and %d", median, most, functionMedian, function90Lines)
	}
}

// TestProxyIsExplained counts the comment lines of proxy and what is below it.
func TestProxyIsExplained(t *testing.T) {
	lines, comments := 0, 0
	goFiles(t, func(rel string, src []byte) {
		if !strings.HasPrefix(rel, "proxy/") {
			return
		}
		for line := range bytes.Lines(src) {
			lines++
			if bytes.HasPrefix(bytes.TrimSpace(line), []byte("//")) {
				comments++
			}
		}
	})
	share := float64(comments) / float64(lines)
	t.Logf("%d of %d lines are comments: %.1f %%", comments, lines, 100*share)
	if share < proxyCommentsMin {
		t.Errorf("%.1f %% of the lines of proxy are comments; at least %.0f %%", 100*share, 100*proxyCommentsMin)
	}
}
