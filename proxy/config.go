package proxy

import (
	"context"
	"slices"
	"strings"

	"go.uber.org/zap"

	"keyferry/internal/resp"
	"keyferry/proxy/pubsub"
)

// CONFIG is about this gateway: the data servers keep their own.

// configSet: one name is not the gateway's: notify-keyspace-events is passed on to all groups, since
// session stores and job queues set it at their start. Together with others it is refused, as
// nothing could make the two kinds all or none.
func (c *call) configSet() {
	srv, args := c.s.l.srv, c.args
	if len(args)%2 != 0 {
		c.reject("ERR syntax error")
		return
	}
	var pairs [][2]string
	for i := 2; i < len(args); i += 2 {
		pairs = append(pairs, [2]string{string(args[i]), string(args[i+1])})
	}
	if len(pairs) == 1 && isNotify(pairs[0][0]) {
		c.setNotify(args)
		return
	}
	client := c.s.who.addr
	c.changes(func() string { return srv.configSet(srv.life.ctx, pairs, client) })
}

// configResetStat: held, so that what the client asks next shows counts from after it.
func (c *call) configResetStat() {
	srv := c.s.l.srv
	c.changes(func() string {
		srv.resetStats(srv.life.ctx)
		return ""
	})
}

// configRewrite: held too: it writes a file, off the loop.
func (c *call) configRewrite() { c.changes(c.s.l.srv.configRewrite) }

// changes answers OK when f has changed something, or with the reason why it has not.
func (c *call) changes(f func() (why string)) {
	c.laterHeld(func(w *resp.Writer) {
		if why := f(); why != "" {
			w.Err(why)
			return
		}
		w.OK()
	})
}

var configHelp = []string{
	"GET <pattern>", "    Return parameters matching the glob-like <pattern> and their values.",
	"SET <directive> <value>", "    Set the configuration <directive> to <value>.",
	"RESETSTAT", "    Reset statistics reported by the INFO command.",
	"REWRITE", "    Rewrite the configuration file.",
}

// configGet answers with each name once. A name without wildcards is given back as it was
// asked for, as Redis does.
//
// All patterns are answered from one set of options, even if somebody sets some meanwhile.
// notify-keyspace-events is the one name that servers are asked for.
func (c *call) configGet() {
	s, patterns := c.s, c.args[2:]
	srv := s.l.srv
	o := srv.settings.live.Load()
	found := make(map[string]string)
	for _, p := range patterns {
		pattern := strings.ToLower(string(p))
		if !strings.ContainsAny(pattern, "[*?") {
			if v, ok := srv.settingValue(o, pattern); ok && !hasFold(found, pattern) {
				found[string(p)] = v
			}
			continue
		}
		for _, name := range srv.settingNames() {
			if v, ok := srv.settingValue(o, name); ok && pubsub.Match(pattern, name) && !hasFold(found, name) {
				found[name] = v
			}
		}
	}
	if i := slices.IndexFunc(patterns, isNotify[[]byte]); i >= 0 {
		c.getNotify(found, string(patterns[i]))
		return
	}
	w := s.reply()
	appendConfig(w, found)
	c.answer(w.B)
}

// hasFold: names differ in case only in what was asked for; the map has them as they were.
func hasFold(m map[string]string, name string) bool {
	for have := range m {
		if strings.EqualFold(have, name) {
			return true
		}
	}
	return false
}

// settingNames are all that GET knows: the data plane's, and the rest of keyferry.toml.
func (s *Server) settingNames() []string {
	names := make([]string, 0, len(settings)+len(s.opt.Settings))
	for _, x := range settings {
		names = append(names, x.name)
	}
	for key := range s.opt.Settings {
		if settingOfKey[key] == nil {
			names = append(names, key)
		}
	}
	return names
}

// settingValue is the value by name, or by the key of keyferry.toml if that is another.
func (s *Server) settingValue(o *Options, name string) (string, bool) {
	if x := settingByName[name]; x != nil {
		return x.get(s, o), true
	}
	if x := settingOfKey[name]; x != nil && x.set != nil && len(x.keys) == 1 {
		return x.get(s, o), true
	}
	v, ok := s.opt.Settings[name]
	return v, ok
}

// configSet changes all settings or none, and returns when every loop goes by them; else
// it says why not. Not for a loop's goroutine.
//
// The copy is checked as a whole and stored before any loop has it; loops then take it by
// message, and the hot path reads its loop's pointer without a lock. The mutex makes two of these
// one at a time, or the later could undo the earlier.
func (s *Server) configSet(ctx context.Context, pairs [][2]string, client string) (why string) {
	s.settings.mu.Lock()
	defer s.settings.mu.Unlock()
	next := *s.settings.live.Load()
	var done []*setting
	for i, p := range pairs { // what can't be set at all is seen before any value is
		x, why := settable(p[0], s.opt.Settings)
		if x == nil && why == "" {
			return "ERR Unknown option or number of arguments for CONFIG SET - '" + cText([]byte(p[0])) + "'"
		}
		if slices.Contains(done, x) && x != nil {
			why = "duplicate parameter"
		}
		if why != "" {
			return setFailed(pairs[i][0], why)
		}
		done = append(done, x)
	}
	for i, x := range done {
		if why := x.set(&next, pairs[i][1]); why != "" {
			return setFailed(pairs[i][0], why)
		}
	}
	if s.opt.Check != nil {
		if err := s.opt.Check(&next); err != nil {
			return setFailed(pairs[0][0], strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	s.settings.live.Store(&next)
	var names []string
	for _, x := range done {
		s.settings.changed[x] = true
		names = append(names, x.name)
	}
	s.log.Info("settings changed", zap.Strings("names", names), zap.String("by", client))
	s.each(ctx, func(l *loop) { l.observe(&next) })
	return ""
}

// setFailed: Redis's text, which tools look for.
func setFailed(name, why string) string {
	return "ERR CONFIG SET failed (possibly related to argument '" + name + "') - " + why
}

// settable finds a setting that CONFIG SET may change; or why it may not; or neither, for
// a name that there is not.
//
// Who is refused is told why: most names that people try are settings of data servers, which
// the gateway does not pass on but for one.
func settable(name string, more map[string]string) (x *setting, why string) {
	name = strings.ToLower(name)
	if x = settingByName[name]; x == nil {
		x = settingOfKey[name]
	}
	_, known := ofServers[name]
	switch {
	case isNotify(name):
		return nil, "it is set at the data servers, and not together with others"
	case known:
		return nil, "it is a setting of the data servers: set it at each of them"
	case x != nil && x.set != nil && (x.name == name || len(x.keys) == 1):
		return x, ""
	case x != nil || more[name] != "":
		return nil, "can't set immutable config"
	}
	_, known = more[name]
	if known {
		return nil, "can't set immutable config"
	}
	return nil, ""
}

// configRewrite writes what CONFIG SET has changed into the configuration file; else it
// says why not.
//
// Only what was set at run time is written: the rest of the file is the operator's, with its
// comments.
func (s *Server) configRewrite() (why string) {
	if s.opt.Rewrite == nil {
		return "ERR The server is running without a config file"
	}
	s.settings.mu.Lock()
	defer s.settings.mu.Unlock()
	var keys []string
	for x := range s.settings.changed {
		keys = append(keys, x.keys...)
	}
	slices.Sort(keys)
	if err := s.opt.Rewrite(s.settings.live.Load(), keys); err != nil {
		s.log.Warn("configuration file not rewritten", zap.Error(err))
		return "ERR Rewriting config file: " + strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	s.log.Info("configuration file rewritten", zap.Strings("keys", keys))
	return ""
}
