package web

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"keyferry/internal/admin"
	"keyferry/internal/metrics"
	"keyferry/internal/observe"
	"keyferry/proxy"
)

// Server answers HTTP.
type Server struct {
	Observer *observe.Observer
	Admin    *admin.Server
	Plane    *proxy.Server
	Token    string   // "": none is asked for
	Hosts    []string // names besides localhost and IP addresses
	Name     string   // of the gateway
	Version  string
	Log      *zap.Logger

	http    *http.Server
	ln      net.Listener
	ctx     context.Context // ends with the server
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	key     []byte        // of this process's session cookies
	tries   *rate.Limiter // of tokens that were wrong
	streams chan struct{} // one value for each stream of events

	toldMu sync.Mutex // protects told
	told   rowsTold   // of the newest snapshot that a stream has told of
}

const (
	maxStreams  = 64
	maxBody     = 64 << 10
	actionBound = 10 * time.Second
	readBound   = 3 * time.Second
	longBound   = time.Hour // of verbs that look at every key
)

// Start listens on addr. Errors: the address is taken or malformed.
func (s *Server) Start(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.ln = ln
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.key = make([]byte, 32)
	_, _ = rand.Read(s.key) // never fails
	s.tries = rate.NewLimiter(5, 10)
	s.streams = make(chan struct{}, maxStreams)
	s.http = &http.Server{
		Handler: s.guard(s.routes()), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 32 << 10, BaseContext: func(net.Listener) context.Context { return s.ctx },
		ErrorLog: zap.NewStdLog(s.Log),
	}
	s.wg.Go(func() {
		if err := s.http.Serve(limit(ln, maxConns)); !errors.Is(err, http.ErrServerClosed) {
			s.Log.Error("http listener ended", zap.Error(err))
		}
	})
	return nil
}

// Addr is where it listens.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Stop closes the listener and every connection.
func (s *Server) Stop() {
	s.cancel()
	_ = s.http.Close()
	s.wg.Wait()
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	s.pages(mux)
	s.api(mux)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", s.metrics())
	for path, h := range map[string]http.HandlerFunc{
		"/debug/pprof/": pprof.Index, "/debug/pprof/cmdline": pprof.Cmdline, "/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace,
	} {
		mux.HandleFunc("GET "+path, h)
	}
	return mux
}

func (s *Server) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(metrics.NewCollector(s.Observer.Values), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	h := promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 8})
	return bounded(readBound, h)
}

// staleAfter is how old a snapshot may be before the gateway is not ready.
const staleAfter = 5 * time.Second

// ready answers whether clients should be sent here: the data plane has a table and its
// loops answer, and writes are served. Servers that are away do not count: no other gateway could reach them.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	last := s.Observer.Last()
	switch {
	case last.Acked == 0:
		plain(w, http.StatusServiceUnavailable, "starting: no table is in force yet\n")
	case time.Since(last.At) > staleAfter || !last.Whole:
		plain(w, http.StatusServiceUnavailable, "an event loop does not answer\n")
	case last.Refusal != "":
		plain(w, http.StatusServiceUnavailable, "writes are refused: "+last.Refusal+"\n")
	default:
		plain(w, http.StatusOK, "ready\n")
	}
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text))
}

// bounded gives a handler's client so long to take the answer.
func bounded(d time.Duration, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d + 5*time.Second))
		ctx, cancel := context.WithTimeout(r.Context(), d)
		defer cancel()
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}
