// Package gateway puts one keyferry process together: store, control plane, migrator, data
// plane and admin listener. cmd and the demo start it; tests that need a whole gateway in their own
// process do too.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"keyferry/conf"
	"keyferry/internal/admin"
	"keyferry/internal/control"
	"keyferry/internal/observe"
	"keyferry/internal/resp"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/internal/web"
	"keyferry/migrator"
	"keyferry/proxy"
	"keyferry/proxy/stats"
	"keyferry/router"
)

// Version is that of the binary.
const Version = "0.1.0"

// Gateway is a running gateway.
type Gateway struct {
	Control *control.Control
	Manager *migrator.Manager
	Proxy   *proxy.Server
	Admin   *admin.Server
	Web     *web.Server // nil: none

	observer *observe.Observer
	watching sync.WaitGroup

	log     *zap.Logger
	store   topology.Store
	cancel  context.CancelFunc
	ended   chan error    // what ended the control plane, for Ended
	running chan struct{} // closed when the control plane has ended
}

// Start brings a gateway up; when it returns, clients are served. Errors: the store is in use,
// unreadable or does not answer, an address is taken.
func Start(c conf.Config, log *zap.Logger) (*Gateway, error) {
	store, err := OpenStore(&c)
	if err != nil {
		return nil, err
	}
	if err := store.Lost(context.Background()); err != nil {
		_ = store.Close()
		return nil, err
	}
	return StartOn(c, log, store)
}

// StartOn is Start on a store that is open, which it takes over. One that keeps topology.Members makes
// this gateway one of several.
func StartOn(c conf.Config, log *zap.Logger, store topology.Store) (*Gateway, error) {
	g := &Gateway{log: log, store: store, ended: make(chan error, 1), running: make(chan struct{})}
	if err := g.start(c); err != nil {
		g.cancel()
		_ = store.Close()
		return nil, err
	}
	return g, nil
}

// spareProcs keeps Go's scheduler from starving everything but the loops. A gnet loop that
// blocks in epoll_wait keeps its P until sysmon takes it away, up to 10 ms later; with
// as many loops as Ps the migrator's goroutines then crawl (measured: 100 keys/s instead
// of 30,000 on an otherwise idle gateway). One more P for each loop ends that.
func spareProcs(loops int) {
	cores := runtime.NumCPU()
	if loops == 0 {
		loops = cores
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(cores + loops)
	}
}

func (g *Gateway) start(c conf.Config) error {
	spareProcs(c.Loops.Count)
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	scheme, err := router.ParseScheme(c.Cluster.Scheme)
	if err != nil {
		return err
	}
	name := c.Name
	if name == "" {
		host, _ := os.Hostname()
		name = "gw-" + strings.Map(nameRune, host)
	}
	create := topology.NewState(scheme.String(), scheme.Slots(), c.Cluster.Databases)
	if g.Control, err = control.Open(ctx, g.store, g.member(c, name), create); err != nil {
		return err
	}
	dialer := upstream.NewDialer(name, g.Control.Incarnation()) // of all who talk to servers
	dialer.Valid = g.Control.Validate
	if g.Manager, err = migrator.New(g.store, migratorConfig(c), g.Control, dialer, g.log); err != nil {
		return err
	}
	g.Manager.SetPeers(&peerCalls{g.Control, dialer, topology.NewSecret(c.Peers.Secret)})
	g.warnOfStored(c)
	table, err := g.Control.Attach(g.Manager)
	if err != nil {
		return err
	}
	if err := resp.Extend(c.Passthrough); err != nil {
		return err
	}
	if scheme := g.Control.State().Scheme; c.ClusterFacade == "on" && scheme != router.Redis.String() {
		return fmt.Errorf("cluster-facade = \"on\": the scheme stored in %s is %s: clients of a Redis Cluster would hash keys otherwise", StoredIn(&c), scheme)
	}
	g.fitFiles(&c)
	opt := proxyOptions(c, name)
	opt.Incarnation, opt.Dialer, opt.Log, opt.Sections, opt.Quiesce, opt.Flushed = g.Control.Incarnation(), dialer, g.log, g.sections, g.Manager.Quiesce, g.Manager.Flushed
	opt.Peers.Calls, opt.Peers.Refused = g.Manager.Serve, g.Control.Refused
	configure(&opt, c)
	g.Proxy = proxy.New(opt, table)
	g.tellManager()
	g.observer = observe.New(observe.Config{Control: g.Control, Manager: g.Manager, Proxy: g.Proxy, Name: name, Version: Version, Dialer: dialer, Log: g.log})
	g.Manager.SetSlotOps(func() []float32 { return g.observer.Last().Heat })
	g.Admin = &admin.Server{Control: g.Control, Manager: g.Manager, Password: c.AdminPassword, Info: g.Proxy.Info, Observer: g.observer, Plane: g.Proxy, Log: g.log}
	dialer.Admit = g.Manager.AdmitConn
	g.Manager.CheckStamps(ctx) // before the first client
	if err := g.Proxy.Start(); err != nil {
		return fmt.Errorf("the clients' address (listen): %w", err)
	}
	if err := g.Admin.Start(c.Admin); err != nil {
		_ = g.Proxy.Stop(ctx)
		return fmt.Errorf("the admin address (admin): %w", err)
	}
	go func() {
		defer close(g.running)
		g.ended <- g.Control.Run(ctx, g.Proxy.Apply)
	}()
	g.watching.Go(func() { g.observer.Run(ctx) })
	g.startWeb(c, name)
	for _, w := range c.Warnings() {
		g.log.Warn(w)
	}
	st := g.Control.State()
	g.log.Info("keyferry is up", zap.String("version", Version), zap.String("name", name), zap.Uint64("incarnation", g.Control.Incarnation()),
		zap.String("listen", c.Listen), zap.String("admin", c.Admin), zap.Uint64("epoch", st.Epoch), zap.Int("groups", len(st.Groups)))
	return nil
}

// tellManager gives the Manager what it asks of the data plane.
func (g *Gateway) tellManager() {
	g.Manager.SetScripted(g.Proxy.Scripted)
	g.Manager.SetClientLatency(g.Proxy.ClientLatency)
	g.Manager.SetSettled(g.Proxy.Settled)
	g.Manager.SetEvents(migrator.Events{Wanted: g.Proxy.EventsWanted, Heard: g.Proxy.EventsHeard})
	g.Manager.SetWaitDeadline(g.Proxy.LockDeadline)
	g.Manager.SetRefuse(g.Proxy.RefuseWrites)
}

// member is what this gateway is in its cluster.
func (g *Gateway) member(c conf.Config, name string) control.Member {
	m := control.Member{Gateway: topology.Gateway{Name: name, Version: Version,
		GatewayAddrs: topology.GatewayAddrs{Clients: c.ClientsAddr(), Peers: c.PeersAddr(), Admin: c.Admin, HTTP: c.HTTP.Listen}},
		Secret: topology.NewSecret(c.Peers.Secret), TTL: time.Duration(c.Peers.Lease),
		Failed: func(err error) {
			g.log.Warn("the cluster's store could not be used for this; it is tried again", zap.Error(err))
		}}
	m.Members, _ = g.store.(topology.Members) // nil: it is this gateway's own
	return m
}

// warnOfStored tells of settings that only the first start goes by.
func (g *Gateway) warnOfStored(c conf.Config) {
	st := g.Control.State()
	for _, x := range []struct {
		key            string
		stored, wanted any
	}{{"cluster.scheme", st.Scheme, c.Cluster.Scheme}, {"cluster.databases", st.Databases, c.Cluster.Databases}} {
		if x.stored != x.wanted {
			g.log.Warn("a setting is ignored: the value of the first start stays in force", zap.String("setting", x.key),
				zap.Any("in_force", x.stored), zap.Any("configured", x.wanted), zap.String("stored_in", StoredIn(&c)))
		}
	}
}

// startWeb serves the dashboard. That its address is taken is no reason to leave clients
// without their data: it is logged, and the rest goes on.
func (g *Gateway) startWeb(c conf.Config, name string) {
	if c.HTTP.Listen == "" {
		return
	}
	w := &web.Server{Observer: g.observer, Admin: g.Admin, Plane: g.Proxy, Token: c.HTTP.Token, Hosts: c.HTTP.Hosts, Name: name, Version: Version, Log: g.log}
	if err := w.Start(c.HTTP.Listen); err != nil {
		g.log.Error("no dashboard and no metrics: its address can't be used; set http.listen", zap.Error(err))
		return
	}
	g.Web = w
	g.log.Info("dashboard", zap.String("url", "http://"+w.Addr()+"/"))
}

func nameRune(r rune) rune {
	if r == ':' || r <= ' ' || r > '~' {
		return '_'
	}
	return r
}

// ErrFenced is what Ended says when others have taken this gateway out of the cluster: it may be started again,
// as a new incarnation.
var ErrFenced = control.ErrFenced

// Ended is signalled if the control plane ends by itself, which it does only on errors
// that it can't mend.
func (g *Gateway) Ended() <-chan error { return g.ended }

// How long each part of a gateway may take to stop. What takes longer is logged and left
// behind, so that the process ends whatever hangs.
const (
	stopHandOver  = 2 * time.Second  // of jobs, to other gateways
	stopListeners = 2 * time.Second  // each: admin, HTTP
	stopPlane     = 8 * time.Second  // once the time to answer commands in flight is over
	stopMovers    = 10 * time.Second // the migrator, with the batches that are under way
	stopRest      = 2 * time.Second  // each: observer, store
)

// Stop drains: no new admin commands, commands in flight are answered until ctx ends, the
// migrator stops where it is and goes on from there at the next start. It returns within
// the sum of the bounds above after ctx has ended, with an error if a part did not stop.
func (g *Gateway) Stop(ctx context.Context) error {
	var errs []error
	step := func(what string, limit time.Duration, stop func(context.Context) error) {
		errs = append(errs, g.within(what, limit, stop))
	}
	step("hand-over of jobs", stopHandOver, g.Control.HandOver)
	step("admin listener", stopListeners, g.Admin.Stop)
	if g.Web != nil {
		step("dashboard", stopListeners, func(context.Context) error { g.Web.Stop(); return nil })
	}
	step("data plane", remaining(ctx)+stopPlane, func(context.Context) error { return g.Proxy.Stop(ctx) })
	g.cancel()
	step("observer", stopRest, func(context.Context) error { g.watching.Wait(); return nil })
	step("migrator", stopMovers, func(context.Context) error { <-g.running; return nil })
	step("cluster", stopRest, g.Control.Leave)
	step("store", stopRest, func(context.Context) error { return g.store.Close() })
	return errors.Join(errs...)
}

// drainAtMost bounds the wait for commands in flight where the caller of Stop does not.
const drainAtMost = 10 * time.Minute

// remaining is how long it is until ctx ends.
func remaining(ctx context.Context) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return drainAtMost
	}
	return max(0, time.Until(end))
}

// within stops one part and waits for it no longer than limit.
func (g *Gateway) within(what string, limit time.Duration, stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- stop(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		g.log.Error("a part of the gateway did not stop in time; the gateway stops without waiting for it", zap.String("part", what), zap.Duration("waited", limit))
		return fmt.Errorf("%s: did not stop within %v", what, limit)
	}
}

// sections are the parts of INFO that the control plane knows.
func (g *Gateway) sections() map[string]string {
	st := g.Control.State()
	var groups, slots, jobs strings.Builder
	for _, x := range st.Groups {
		rs := st.SlotsOf(x.ID)
		fmt.Fprintf(&groups, "group_%s:addr=%s,slots=%d,ranges=%s\r\n", x.ID, x.Addr, topology.CountSlots(rs), strings.ReplaceAll(topology.FormatRanges(rs), ",", "|"))
	}
	open := 0
	for _, j := range g.Manager.Jobs() {
		if j.Phase.Ended() {
			continue
		}
		open++
		fmt.Fprintf(&jobs, "job_%s:phase=%s,source=%s,target=%s,slots=%d,keys_moved=%d,keys_per_s=%d,slices=%d\r\n", j.ID, j.Phase, j.Source, j.Target, j.SlotCount, j.KeysMoved, j.RateNow, j.Slices)
	}
	fmt.Fprintf(&slots, "scheme:%s\r\nslots:%d\r\nslots_unassigned:%d\r\nslots_moving:%d\r\nepoch:%d\r\nepoch_acknowledged:%d\r\n",
		st.Scheme, st.SlotCount, topology.CountSlots(st.Unassigned()), st.SlotsMoving(), st.Epoch, g.Control.Epoch())
	return map[string]string{"groups": groups.String(), "slots": slots.String(),
		"migration": fmt.Sprintf("jobs_open:%d\r\n%s", open, jobs.String())}
}

func proxyOptions(c conf.Config, name string) proxy.Options {
	d := func(x conf.Duration) time.Duration { return time.Duration(x) }
	x := &c.Clients
	return proxy.Options{
		Peers: proxy.PeerOptions{Listen: c.Peers.Listen, Secret: c.Peers.Secret, Patience: d(c.Peers.Lease)},
		ListenOptions: proxy.ListenOptions{Listen: c.Listen, Loops: c.Loops.Count, Transport: c.Loops.Transport, ReadBuffer: int(c.Loops.ReadBuffer),
			ClusterFacade: c.ClusterFacade == "on", Advertise: c.Advertise},
		Identity: proxy.Identity{Name: name, Version: Version},
		ClientOptions: proxy.ClientOptions{Password: c.Password, MaxClients: x.MaxClients, MaxBulk: int(x.MaxBulk), QueryLimit: int(x.QueryBufferLimit),
			Output:       proxy.OutputLimit{Hard: int(x.OutputBufferHard), Soft: int(x.OutputBufferSoft), SoftFor: d(x.OutputBufferSoftFor)},
			OutputPubSub: proxy.OutputLimit{Hard: int(x.PubSubBufferHard), Soft: int(x.PubSubBufferSoft), SoftFor: d(x.PubSubBufferSoftFor)},
			MemoryTotal:  int(x.MemoryTotal), MaxInFlight: x.MaxInFlight, IdleTimeout: d(x.IdleTimeout)},
		ServerOptions: proxy.ServerOptions{ConnectTimeout: d(c.Servers.ConnectTimeout), RequestTimeout: d(c.Servers.RequestTimeout),
			ReconnectMin: d(c.Servers.ReconnectMin), ReconnectMax: d(c.Servers.ReconnectMax), PipeBytes: int(c.Servers.InFlightBytes), MaxDedicated: c.Servers.MaxDedicated},
		LockOptions: proxy.LockOptions{LockDeadline: d(c.Locks.WaitDeadline), MaxParked: c.Locks.MaxParked},
		Config: stats.Config{SlowerThan: d(c.Slowlog.SlowerThan), SlowMax: c.Slowlog.MaxLen, LatencyThreshold: d(c.Slowlog.LatencyThreshold),
			SampleEvery: c.Hotkeys.SampleEvery, BigValue: int(c.Migration.BigKeyBytes)},
	}
}

func migratorConfig(c conf.Config) migrator.Config {
	d := func(x conf.Duration) time.Duration { return time.Duration(x) }
	return migrator.Config{
		Parallel: c.Migration.Parallel, GroupParallel: c.Migration.GroupParallel, BatchMaxKeys: c.Migration.BatchMaxKeys,
		LockHoldTarget: d(c.Migration.LockHoldTarget), MoverPatience: d(c.Locks.MoverPatience), BigKeyBytes: int64(c.Migration.BigKeyBytes),
		MemoryLimit: int64(c.Migration.MemoryLimit), MaxP99Auto: c.Migration.MaxP99 == "auto", Slice: c.Migration.Slice, StalledAfter: d(c.Migration.StalledAfter),
		ScanCount: int64(c.Migration.ScanCount), CheckpointEvery: d(c.Migration.CheckpointEvery), MaxAttempts: c.Migration.MaxAttempts,
		BackoffMin: d(c.Migration.BackoffMin), BackoffMax: d(c.Migration.BackoffMax), CallTimeout: d(c.Migration.CallTimeout),
		MaxWaiting: c.Locks.MaxKeysWaiting,
	}
}
