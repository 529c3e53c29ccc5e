package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// csp lets a page load what this server has embedded, and nothing else.
const csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

const cookie = "keyferry_session"

// guard turns away who may not ask. In this order:
//
//	Host    must be localhost, an IP address or a name of ours, so that no page on the web
//	        reaches us by a name that it makes resolve to this machine
//	token   where one is set, and always for /debug/pprof
//	origin  actions are POST, with a header that no form and no foreign script can send
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", csp)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin") // no-referrer would have browsers send "Origin: null" with the login form
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		probe := r.URL.Path == "/healthz" || r.URL.Path == "/readyz"
		debug := strings.HasPrefix(r.URL.Path, "/debug/")
		switch {
		case !probe && !s.knownHost(r.Host):
			plain(w, http.StatusMisdirectedRequest, "unknown host name: add it to http.hosts\n")
		case debug && s.Token == "":
			plain(w, http.StatusForbidden, "/debug/pprof needs http.token to be set\n")
		case probe || public(r.URL.Path) || s.authorized(r, debug):
			if r.Method != http.MethodGet && r.Method != http.MethodHead && !sameOrigin(r) {
				plain(w, http.StatusForbidden, "actions come from this page, or with the header X-Keyferry: 1\n")
				return
			}
			next.ServeHTTP(w, r)
		case r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html"):
			http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.Path), http.StatusSeeOther)
		default:
			h.Set("WWW-Authenticate", `Bearer realm="keyferry"`)
			fail(w, http.StatusUnauthorized, "a token is needed: Authorization: Bearer …")
		}
	})
}

// public is what the login page needs.
func public(path string) bool { return path == "/login" || strings.HasPrefix(path, "/static/") }

func (s *Server) knownHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return true
	}
	return slices.Contains(s.Hosts, host)
}

// authorized reports that the request has the token, or a cookie that was given for it.
// Wrong tokens are bounded in number for each second.
func (s *Server) authorized(r *http.Request, always bool) bool {
	if s.Token == "" && !always {
		return true
	}
	if got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return s.rightToken(got)
	}
	if c, err := r.Cookie(cookie); err == nil {
		return subtle.ConstantTimeCompare([]byte(c.Value), []byte(s.session())) == 1
	}
	return false
}

func (s *Server) rightToken(got string) bool {
	if s.Token != "" && subtle.ConstantTimeCompare([]byte(got), []byte(s.Token)) == 1 {
		return true
	}
	_ = s.tries.Wait(s.ctx)
	return false
}

// session is what the cookie holds: nothing that says what the token is, and nothing that
// another process would take.
func (s *Server) session() string {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte(s.Token))
	return hex.EncodeToString(m.Sum(nil))
}

// sameOrigin reports that a request was not made by a page of another site. A header of
// our own can't be sent across origins without a preflight, which nobody answers; the
// login form, which can't have it, shows its origin. Where a browser is told to keep that
// for itself, and says null, it still says in Sec-Fetch-Site that the page is of this server,
// if it takes the way here for secure.
func sameOrigin(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	if site != "" && site != "same-origin" && site != "none" {
		return false
	}
	origin := r.Header.Get("Origin")
	switch {
	case origin == "null" && site == "same-origin":
	case origin != "":
		u, err := url.Parse(origin)
		if err != nil || u.Host != r.Host {
			return false
		}
	}
	return r.Header.Get("X-Keyferry") != "" || origin != "" && r.URL.Path == "/login"
}

// ownPath is a path of this server, or "/". Browsers leave out tabs and line breaks, and take
// a backslash for a slash: two of these at the beginning would be another host.
func ownPath(next string) string {
	u, err := url.Parse(next) // an error for control characters
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.Contains(next, "\\") {
		return "/"
	}
	return next
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	next := ownPath(r.PostFormValue("next"))
	if s.Token != "" && !s.rightToken(r.PostFormValue("token")) {
		w.WriteHeader(http.StatusUnauthorized)
		s.render(w, "login", map[string]any{"Next": next, "Wrong": true})
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookie, Value: s.session(), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil})
	http.Redirect(w, r, next, http.StatusSeeOther)
}
