package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

// page is one page of the dashboard.
type page struct {
	Path  string
	Name  string // of its template and its script
	Title string
	Key   string // that leads there, after g
}

// Pages are the dashboard's, in the order of the menu.
var Pages = []page{
	{"/", "overview", "Overview", "o"},
	{"/slots", "slots", "Slots", "s"},
	{"/migrations", "migrations", "Migrations", "m"},
	{"/groups", "groups", "Groups", "g"},
	{"/keys", "keys", "Keys", "k"},
	{"/verbs", "verbs", "Verbs", "v"},
}

// A template that does not parse is a mistake in the program: it panics at start and no
// test passes.
var templates = template.Must(template.New("").Funcs(template.FuncMap{"dict": dict}).ParseFS(templateFiles, "templates/*.html"))

// dict makes a map of keys and values that follow one another.
func dict(pairs ...any) map[string]any {
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}

// render writes a page; nothing in it is from outside but what the template escapes.
func (s *Server) render(w http.ResponseWriter, name string, data map[string]any) {
	data["Gateway"], data["Version"], data["Pages"] = s.Name, s.Version, Pages
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name+".html", data); err != nil {
		s.Log.Error("page not rendered: " + err.Error())
		plain(w, http.StatusInternalServerError, "this page could not be made\n")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

func (s *Server) pages(mux *http.ServeMux) {
	for _, p := range Pages {
		pattern := "GET " + p.Path
		if p.Path == "/" {
			pattern += "{$}"
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			s.render(w, p.Name, map[string]any{"Page": p, "Token": s.Token != ""})
		})
	}
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		s.render(w, "login", map[string]any{"Next": r.URL.Query().Get("next"), "Wrong": false})
	})
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("GET /static/{file}", static())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { plain(w, http.StatusNotFound, "no such page\n") })
}

// static serves the embedded files. A browser asks each time whether they are still the
// same, which costs a round trip and never shows an old dashboard.
func static() http.HandlerFunc {
	type file struct {
		body []byte
		tag  string
	}
	files := make(map[string]file)
	_ = fs.WalkDir(staticFiles, "static", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			body, _ := staticFiles.ReadFile(name)
			sum := sha256.Sum256(body)
			files[path.Base(name)] = file{body, `"` + hex.EncodeToString(sum[:8]) + `"`}
		}
		return err
	})
	types := map[string]string{".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
	return func(w http.ResponseWriter, r *http.Request) {
		f, ok := files[r.PathValue("file")]
		if !ok {
			plain(w, http.StatusNotFound, "no such file\n")
			return
		}
		h := w.Header()
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", f.tag)
		if strings.Contains(r.Header.Get("If-None-Match"), f.tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		t := types[path.Ext(r.PathValue("file"))]
		if t == "" {
			t = "text/plain"
		}
		h.Set("Content-Type", t+"; charset=utf-8")
		_, _ = w.Write(f.body)
	}
}
