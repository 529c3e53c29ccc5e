package preflight

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"keyferry/internal/topology"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
	"keyferry/router"
)

// Severity is how bad a finding is.
type Severity string

const (
	Fatal   Severity = "error"   // the job would be refused
	Warning Severity = "warning" // it would run, and somebody should know
	Info    Severity = "info"
)

// Finding is something that a check of both ends has found.
type Finding struct {
	What     string   `json:"what"`  // reachable, version, acl, memory …
	Where    string   `json:"where"` // group and address
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`
	Advice   string   `json:"advice,omitempty"`
	Keys     int64    `json:"keys,omitempty"` // of target-free: how many are in the way

	err error // Fatal: what the job says; its origin and whether waiting mends it
}

// Notable reports that somebody should know of it.
func (f Finding) Notable() bool { return f.Severity != Info }

// Check looks at both ends of a job before anything changes:
//
//	reachable, role, same server ─► databases ─► rights ─► trial with a key of our own
//	and back ─► a payload of each type ─► memory, eviction, persistence, clocks ─► clients that come
//	past the gateway ─► nothing on its way to the target from before ─► target free of the
//	slots ─► functions ─► events
//
// Each step is bounded and can be done again. With act set, what the operator has agreed to
// is done: keys in the way are purged, functions are brought, events are told of.
type Check struct {
	*Env
	Job   topology.Job // ID: of the job, or one of its own for a plan
	Act   bool
	Bytes int64 // thought to move; 0: not known
	Moved int64 // for TryWay: keys that have moved and would come back

	Counted    bool      // the keys in the way are as many as PURGE states: nothing was removed yet, nor looked at what follows
	Life       string    // of the source's data, once Run has tried it
	TargetLife string    // … and of the target's
	Found      []Finding // in the order of the checks

	src, dst *link.Link
}

// Env is what all checks of a gateway have in common.
type Env struct {
	Databases int
	Scheme    router.Scheme
	PageTime  time.Duration // that a server may be busy with one page of SCAN
	PageMost  int           // names of one

	// Dial connects for what changes keys without a lock, and HangUp, which takes nil, must
	// follow. Fence kills what is left at a server of such connections from before.
	Dial   func(context.Context, topology.Group) (*link.Link, error)
	HangUp func(*link.Link)
	Fence  func(context.Context, topology.Group) error
	// Stamp says why a server is not the group's to have: another cluster, another group or a newer store
	// has stamped it. "": it is.
	Stamp func(context.Context, *link.Link, topology.Group) (why string, err error)
}

// errStop ends a check of which the rest makes no sense: what follows would fail for the same
// reason, and bury it under its own findings. It says nothing to anybody.
var errStop = errors.New("stop")

// origin is which end a connection leads to. It decides what the job does about an error, and
// whose server the advice is about.
func (c *Check) origin(l *link.Link) string {
	if l == c.src {
		return joberr.Source
	}
	return joberr.Target
}

// add notes what does not stop the job.
func (c *Check) add(s Severity, what string, l *link.Link, advice, format string, args ...any) {
	c.Found = append(c.Found, Finding{What: what, Where: Where(l.Group), Severity: s, Text: fmt.Sprintf(format, args...), Advice: advice})
}

// Fatal notes what the job can't begin with. err decides whether waiting mends it.
func (c *Check) Fatal(what string, origin string, g topology.Group, advice string, err error) {
	c.Found = append(c.Found, Finding{What: what, Where: Where(g), Severity: Fatal, Text: err.Error(), Advice: advice, err: joberr.At(origin, err)})
}

// Where names a group and its address, as findings do.
func Where(g topology.Group) string { return g.ID + " (" + g.Addr + ")" }

// Run makes all checks; what it found is in Found. Errors: ctx has ended.
//
// The order matters: whoever cannot connect is asked nothing; rights come before the trial,
// which would only say NOPERM of the first command; the fence comes before keys in the way are
// looked for, since an UNLINK that is still on its way could remove one that the job brings.
func (c *Check) Run(ctx context.Context, source, target topology.Group) error {
	defer func() { c.HangUp(c.src); c.HangUp(c.dst) }()
	steps := []func(context.Context) error{c.roles, c.stamps, c.rights, c.trial, c.wayBack, c.databases, c.types, c.memory, c.policies, c.limits, c.clocks, c.durable, c.directClients, c.fence, c.targetFree, c.functions, c.events}
	if !c.dial(ctx, source, target) {
		return ctx.Err()
	}
	for _, step := range steps {
		err := step(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, errStop) {
			return nil
		}
		if o := joberr.Of(err); o != nil { // a call that broke off: nobody can say more
			l := c.dst
			if o.Origin == joberr.Source {
				l = c.src
			}
			c.Fatal("reachable", o.Origin, l.Group, "try again; see the server's log", o.Err)
			return nil
		}
	}
	return nil
}

// stamps are whose servers these are.
func (c *Check) stamps(ctx context.Context) error {
	for _, l := range []*link.Link{c.src, c.dst} {
		why, err := c.Stamp(ctx, l, l.Group)
		if err != nil {
			return joberr.At(c.origin(l), err)
		}
		if why != "" {
			c.Fatal("stamp", c.origin(l), l.Group, "see PROXY STORE STATUS, and PROXY GROUP SET "+l.Group.ID+" TAKEOVER", joberr.Hopeless("%s", why))
		}
	}
	return nil
}

// dial connects to both ends, and says of each if it can't.
func (c *Check) dial(ctx context.Context, source, target topology.Group) bool {
	for _, end := range []struct {
		to     **link.Link
		group  topology.Group
		origin string
	}{{&c.src, source, joberr.Source}, {&c.dst, target, joberr.Target}} {
		l, err := c.Dial(ctx, end.group)
		if err == nil {
			*end.to = l
			continue
		}
		what, advice := refusal(err)
		c.Fatal(what, end.origin, end.group, advice, joberr.Explain("connecting", err))
	}
	if c.dst != nil {
		c.TargetLife = c.dst.Info.Life()
	}
	return c.src != nil && c.dst != nil
}

// refusal says what a server has refused, and what to do about it.
func refusal(err error) (what, advice string) {
	switch {
	case !joberr.Refused(err):
		return "reachable", "start the server, or correct the address with PROXY GROUP SET while no job uses the group"
	case strings.Contains(err.Error(), "LOADING"):
		return "loading", "wait until it has loaded its data"
	case joberr.OfMissing(err):
		return "commands", "give it the command under its own name (rename-command in its configuration)"
	case strings.Contains(err.Error(), "NOPERM"):
		return "acl", "let the group's user run the command (ACL SETUSER)"
	case joberr.OfPassword(err):
		return "auth", "make the server accept the password that the group has (ACL SETUSER default >…), or, while no job uses the group, PROXY GROUP SET … PASSWORD"
	case joberr.OfDisk(err):
		return "disk", DiskAdvice
	case joberr.OfCluster(err):
		return "cluster", "use a server with cluster-enabled no"
	}
	return "commands", "see what it says, and the server's log"
}

// RefusalAdvice is what to do about a server that refuses.
func RefusalAdvice(err error) string {
	_, advice := refusal(err)
	return advice
}

// DiskAdvice is for a server that refuses every write, a job's UNLINK as well, as long as it can't
// write its disk.
const DiskAdvice = "give its disk room; or, to move the keys away from it first, CONFIG SET stop-writes-on-bgsave-error no there " +
	"(if it is the append-only file that can't be written: CONFIG SET appendonly no): until its disk is in order it saves nothing that is written there"

// ClusterText is what is wrong with a server in cluster mode.
const ClusterText = "runs in cluster mode (cluster-enabled yes), where a server has one database and serves only the slots that its cluster gives it: a group needs a server with cluster-enabled no"

// roles checks that these are two primaries that serve.
func (c *Check) roles(context.Context) error {
	if c.src.Info.RunID == c.dst.Info.RunID {
		c.Fatal("same-server", joberr.Target, c.dst.Group, "give one group another server", joberr.Hopeless("%s and %s are the same server", c.src.Group.Addr, c.dst.Group.Addr))
		return errStop
	}
	bad := false
	for _, l := range []*link.Link{c.src, c.dst} {
		switch {
		case l.Info.Loading:
			bad = true
			c.Fatal("loading", c.origin(l), l.Group, "wait until it has loaded its data", fmt.Errorf("%s is loading its data", l.Group.Addr))
		case l.Info.Role != "master":
			bad = true
			c.Fatal("role", c.origin(l), l.Group, "use the address of its primary", joberr.Hopeless("%s is a %s; a group's address must be its primary", l.Group.Addr, l.Info.Role))
		case l.Info.Cluster && c.Databases > 1:
			bad = true
			c.Fatal("cluster", c.origin(l), l.Group, "use a server with cluster-enabled no", joberr.Hopeless("%s %s", l.Group.Addr, ClusterText))
		}
	}
	if bad {
		return errStop
	}
	if c.src.Info.Version != c.dst.Info.Version {
		c.add(Info, "version", c.dst, "", "it runs %s, the source %s", c.dst.Info.Version, c.src.Info.Version)
	}
	return nil
}

// used are the commands that a job sends to each end, with arguments that stand for them.
var used = map[string][][]any{
	joberr.Source: {{"SCAN", "0"}, {"DUMP", "k"}, {"PTTL", "k"}, {"OBJECT", "IDLETIME", "k"}, {"UNLINK", "k"}, {"EXISTS", "k"}, {"SELECT", "0"},
		{"INFO"}, {"CLIENT", "LIST"}, {"CLIENT", "KILL", "ID", "1"}, {"TYPE", "k"}, {"PING"}},
	joberr.Target: {{"RESTORE", "k", "0", "x"}, {"EXISTS", "k"}, {"UNLINK", "k"}, {"SCAN", "0"}, {"SELECT", "0"}, {"WAIT", "0", "0"},
		{"INFO"}, {"CLIENT", "LIST"}, {"CLIENT", "KILL", "ID", "1"}, {"PING"}},
}

// rights asks each server whether it would let us use each command. One that can't be asked
// (ACL DRYRUN came with Redis 7.0, and needs a right of its own) is left to the trial.
func (c *Check) rights(ctx context.Context) error {
	bad := false
	for _, l := range []*link.Link{c.src, c.dst} {
		user, err := l.Conn.Do(ctx, "ACL", "WHOAMI").Text()
		if err != nil {
			continue
		}
		for _, args := range used[c.origin(l)] {
			answer, err := l.Conn.Do(ctx, append([]any{"ACL", "DRYRUN", user}, args...)...).Text()
			if err == nil && answer != "OK" {
				bad = true
				c.Fatal("acl", c.origin(l), l.Group, fmt.Sprintf("ACL SETUSER %s +%s ~*", user, strings.ToLower(fmt.Sprint(args[0]))),
					&joberr.HopelessError{Code: "NOPERM", Text: fmt.Sprintf("%v: NOPERM %s", args[0], answer)})
			}
		}
	}
	if bad {
		return errStop
	}
	return nil
}

// FirstFatal is the error with which a job is refused; nil: there is none.
func (c *Check) FirstFatal() error {
	for _, f := range c.Found {
		if f.Severity == Fatal {
			return f.err
		}
	}
	return nil
}
