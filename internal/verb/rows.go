package verb

// What verbs have in common.
var (
	slotsArg  = Arg{Name: "slots", Meta: "<first>-<last>[,<first>-<last>...]", Kind: Ranges, Help: "the slots, as 0-1023,5000"}
	jobOrAll  = Arg{Name: "id", Meta: "<id>|ALL", Kind: Job, Help: "the job, as m1; or ALL"}
	jobArg    = Arg{Name: "id", Kind: Job, Help: "the job, as m1"}
	countArg  = Arg{Name: "count", Kind: Integer, Min: 1, Max: 1000, Optional: true, Default: "20", Want: "1 to 1000", Help: "how many, at most 1000; 20 unless you say otherwise"}
	unchecked = Option{Name: "UNCHECKED", Help: "take the server as it is, and do not ask it anything, as while it is down"}
	takeover  = Option{Name: "TAKEOVER", Not: "UNCHECKED", Help: "take the server although its stamp says that it is another cluster's, another group's, or that the store is not the newest"}
)

// limits are the options of MIGRATE and MIGRATION LIMIT.
var limits = []Option{
	{Name: "RATE", None: "0", Values: []Arg{{Name: "keys/s", Kind: Number, Max: 1e12, Want: "keys per second, or 0 for no limit"}},
		Help: "move at most so many keys per second; 0: no limit"},
	{Name: "BYTES", None: "0", Values: []Arg{{Name: "bytes/s", Kind: Size, Want: "bytes per second, as 500000, 512kb or 20mb, or 0 for no limit"}},
		Help: "move at most so many bytes per second, as 20mb; 0: no limit"},
	{Name: "PARALLEL", None: "0", Values: []Arg{{Name: "n", Kind: Integer, Max: 64, Want: "0 (as configured) to 64"}},
		Help: "move with so many workers; 0: as configured"},
	{Name: "MAXP99", Flag: "max-p99", None: "0", Values: []Arg{{Name: "ms", Meta: "<ms>|auto|off", Kind: P99, Max: 60_000,
		Want: "milliseconds up to 60000, auto (1.3 times what it is without the job), off, or 0 (as configured)"}},
		Help: "yield to clients while their p99 is above so many milliseconds; auto: 1.3 times what it is without the job; off: never yield; 0: as configured"},
	{Name: "SLICE", None: "off", Values: []Arg{{Name: "slice", Meta: "<work>[/<rest>]|off", Kind: Pattern}},
		Help: "work and rest in turn: 1s/4s works a second and rests four; 500ms starts a new slice so often without a rest; off: work until done"},
}

// with is a list of options with others around it.
func with(first []Option, rest ...Option) []Option {
	return append(append([]Option{}, first...), rest...)
}

// Containers are the first words of verbs of two.
var Containers = []struct{ Name, Short string }{
	{"GROUP", "List, add, change and remove groups"},
	{"STORE", "Show whether the store is the newest one, and accept one that is not"},
	{"SLOT", "Show, assign and check slots"},
	{"MIGRATION", "Follow and steer migration jobs"},
	{"GATEWAY", "List, drain and remove the gateways of the cluster"},
}

// Rows is the table, in the order of the help. Nobody changes it.
var Rows = []Row{
	{Name: "GROUP LIST", Role: View, Short: "List groups with their slots", Show: ShowTable,
		Help: "The groups: one primary each, with the slots that it serves, and its server's state: up, down (can't be reached, or does not answer), " +
			"refuses (answers, and takes no new connection, as for a wrong password), unknown (not tried yet).",
		Columns: []Column{{"GROUP", "{id}"}, {"ADDRESS", "{addr}"}, {"STATE", "{state}"}, {"SLOTS", "{slots}"}, {"RANGES", "{ranges}"}, {"ERROR", "{error}"}}},
	{Name: "GROUP ADD", Role: Administer, Short: "Add a group without slots",
		Args: []Arg{{Name: "id", Kind: Text, Help: "a name for the group"}, {Name: "addr", Meta: "<host:port>", Kind: Address, Help: "its primary"}},
		Options: []Option{{Name: "PASSWORD", Flag: "server-password", Values: []Arg{{Name: "password", Kind: Secret, Want: "the server's password"}},
			Help: "the password of the server"}, {Name: unchecked.Name, Not: takeover.Name, Help: unchecked.Help}, takeover},
		Help: "The group gets no slots: give it some with SLOT ASSIGN, MIGRATE or REBALANCE. The server must answer, take the password, be a primary and no other group's or cluster's, and have no keys in databases that the gateway does not serve. " +
			"It gets a stamp that says which cluster it belongs to."},
	{Name: "GROUP SET", Role: Administer, AnyOf: true, Short: "Change the address or the password of a group's server",
		Args: []Arg{{Name: "id", Kind: Group, Help: "the group"}},
		Options: []Option{
			{Name: "ADDR", Values: []Arg{{Name: "host:port", Kind: Address, Want: "host:port"}}, Help: "host:port of the primary that has the group's keys now"},
			{Name: "PASSWORD", Flag: "server-password", Not: "NOPASSWORD", Values: []Arg{{Name: "password", Kind: Secret, Want: "the server's password"}}, Help: "the password of the server; empty: none"},
			{Name: "NOPASSWORD", Not: "PASSWORD", Help: "the server has no password"},
			{Name: "TAKEOVER", Help: takeover.Help},
		},
		Help: "For a group whose primary has another address, as after a failover, or another password. The server there must be a primary and must have the group's keys."},
	{Name: "GROUP DEL", Role: Administer, Short: "Remove a group that owns no slots",
		Args:    []Arg{{Name: "id", Kind: Group, Help: "the group"}},
		Options: []Option{{Name: "UNCHECKED", Help: "do not ask the server whether it has keys in databases that the gateway does not serve"}},
		Help:    "Refused while the group owns slots or a job uses it, and where the server says that it has keys in databases that the gateway does not serve. The server's keys are left as they are; only the cluster's stamp is removed."},

	{Name: "STORE STATUS", Role: View, Short: "Show whether the store is the newest one, by the stamps of the groups' servers", Show: ShowFields,
		Help: "Whether writes are served, why not, and what each server's stamp says: own, newer (than the store), of another cluster, not checked (it has not answered since the gateway started)."},
	{Name: "STORE ACCEPT", Role: Administer, Short: "Go on with this store although servers show that it is not the newest, or belong to another cluster",
		Help: "For when writes are refused and there is no newer topology.db to put back. Writes are served, and jobs go on, by the slot map of this store; its epoch rises above all that servers show, and these get this cluster's stamp. " +
			"Keys at groups that this store does not have as the owner of their slots stay hidden: look for them with SLOT CHECK, and move them with SLOT CHECK FIX ADOPT. " +
			"A group that it does not have at all is to be added first."},

	{Name: "GATEWAY LIST", Role: View, Short: "List the gateways of the cluster", Show: ShowTable,
		Help: "Every gateway, with its state: serving, draining (its jobs go to others), silent (the cluster has not heard of it; it is about to be taken out), out (it may not talk to servers; started again it comes back). " +
			"EPOCH is the one that it has acknowledged: one that stays behind the cluster's holds up the beginning of jobs.",
		Columns: []Column{{"GATEWAY", "{name}"}, {"STATE", "{state}"}, {"EPOCH", "{epoch}"}, {"JOBS", "{jobs}"}, {"CLIENTS AT", "{clients}"}, {"PEERS AT", "{peers}"}, {"VERSION", "{version}"}}},
	{Name: "GATEWAY DRAIN", Role: Operate, Short: "Give the jobs of a gateway to others",
		Args: []Arg{{Name: "name", Kind: Text, Help: "the gateway"}},
		Help: "For a planned stop. The gateway gets no more jobs until it is started again, and goes on to serve clients. Jobs that have not begun to move keys stay with it until it stops."},
	{Name: "GATEWAY REMOVE", Role: Administer, Short: "Take a gateway out of the cluster, or forget one that is out",
		Args: []Arg{{Name: "name", Kind: Text, Help: "the gateway"}},
		Help: "One that is part of the cluster is taken out: its connections to servers are killed where slots move, and others go on with its jobs. If its process is alive it joins again: stop it first. One that is out is forgotten."},

	{Name: "SLOT LIST", Role: View, Short: "Show which group serves which slot", Show: ShowTable,
		Help:    "Runs of slots with their group and state: stable, moving, returning or unassigned.",
		Columns: []Column{{"SLOTS", "{first}-{last}"}, {"GROUP", "{group}"}, {"STATE", "{state}"}, {"TARGET", "{target}"}, {"JOB", "{job}"}}},
	{Name: "SLOT OF", Role: View, Short: "Show the slot and the group of a key", Show: ShowFields,
		Args: []Arg{{Name: "key", Kind: Key, Help: "the key"}}, Help: "Computed: no server is asked whether the key exists."},
	{Name: "SLOT ASSIGN", Role: Administer, Short: "Give slots that nobody owns to a group",
		Args:    []Arg{slotsArg, {Name: "group", Kind: Group, Help: "the group that gets them"}},
		Options: []Option{unchecked},
		Help:    "Moves no keys: for slots that nobody owns. Slots that have an owner are moved with MIGRATE. The group's server must answer, take the password and be a primary."},
	{Name: "SLOT UNASSIGN", Role: Administer, Short: "Take slots from the groups that own them",
		Args: []Arg{slotsArg},
		Help: "Takes back a SLOT ASSIGN to a wrong group. Moves and removes no keys; until SLOT ASSIGN gives the slots to another group, commands on them are refused."},
	{Name: "SLOT CHECK", Role: View, Long: true, Short: "Look through all keys for those in a group that does not own them", Show: ShowTable, Columns: orphanColumns,
		Options: []Option{{Name: "FIX", Role: Operate, Without: "TWINS", Values: []Arg{{Name: "what", Meta: "TWINS|DROP|ADOPT", Kind: Choice, Choices: []string{"TWINS", "DROP", "ADOPT"}}},
			Help: "remove what is found. TWINS (what FIX alone means): only keys that the owner has as well; DROP: the others too; ADOPT: move the others to the owner"}},
		Help: "Scans every database of every group that the gateway serves; keys in others are counted (NOT SERVED). Without FIX nothing is changed. keyferry exits with 1 if keys of either kind are left."},

	{Name: "MIGRATE", Role: Operate, Short: "Move slots with their keys while clients go on", Show: ShowTable, Columns: planColumns,
		Args: []Arg{slotsArg},
		Options: with(append([]Option{{Name: "TO", Required: true, Values: []Arg{{Name: "group", Kind: Group, Want: "the group that gets the slots"}}, Help: "the group that gets the slots"}}, limits...),
			Option{Name: "DURABILITY", Values: []Arg{{Name: "durability", Meta: "auto|none|replica|aof", Kind: Choice, Choices: []string{"auto", "none", "replica", "aof"}}},
				Help: "what the target must have done with a key before the source gives it up: none, replica (a replica has it), aof (it is on disk); auto: a replica where there is one"},
			Option{Name: "VERIFY", Values: []Arg{{Name: "share", Meta: "sample=<n>%|full", Kind: Share, Want: "full, or a share of the keys as sample=1%"}},
				Help: "compare that share of the keys, value by value, before the source gives them up"},
			Option{Name: "PURGE", Without: "0", Values: []Arg{{Name: "keys", Kind: Integer, Max: 1e15, Want: "the number of keys that it will remove, as DRYRUN counts them"}},
				Help: "remove keys of these slots that the target holds already, where the job would be refused: so many as you say, and none if another number is there. Look at them with SLOT CHECK first"},
			Option{Name: "DRYRUN", Role: View, Help: "check both ends, list findings and change nothing"}),
		Waits: true,
		Help: "Answers the job's id, or an array of ids when the slots come from several groups. Follow it with MIGRATION STATUS; stop it with MIGRATION PAUSE or CANCEL. " +
			"A job checks both ends before it moves anything: over RESP and HTTP its status says what that found; keyferry migrate waits for it, and exits with 1 if the job can't begin. " +
			"PURGE removes no more keys than stated. Fewer are accepted only if those that are missing may have expired since you counted (no more are missing than there still are with an expiry), " +
			"or if the job itself has removed them in an attempt that broke off. With slots of several groups DRYRUN counts for each; then MIGRATE those of each group by themselves.",
		Alias: &Alias{Name: "check", Given: "DRYRUN", Short: "Check both ends of a migration and change nothing. Exit code 1 if it would be refused",
			Help: "Takes what migrate takes, and finds what would stop or slow that migration: servers, versions, rights, memory, clients that bypass the gateway, keys in the way."}},
	{Name: "REBALANCE", Role: Operate, Short: "Move slots so that every group has its share", Show: ShowTable, Columns: planColumns,
		Options: []Option{
			{Name: "BY", Values: []Arg{{Name: "measure", Meta: "SLOTS|KEYS|MEMORY|OPS", Kind: Choice, Choices: []string{"SLOTS", "KEYS", "MEMORY", "OPS"}}},
				Help: "what to share out: slots (the default), keys, memory or commands per second"},
			{Name: "WEIGHT", Repeats: true, Values: []Arg{{Name: "group", Kind: Group, Want: "a group"},
				{Name: "weight", Kind: Number, Max: 1e6, Want: "a number from 0, which empties the group, to 1000000"}},
				Help: "the part that a group is to have; 1 where none is given; 0 empties it"},
			{Name: "DRYRUN", Role: View, Help: "check both ends of each job, list findings and change nothing"}},
		Waits: true,
		Help:  "Answers the ids of the jobs, one for each pair of groups."},

	{Name: "MIGRATION LIST", Role: View, Short: "List every job that is remembered", Show: ShowTable,
		Help: "Every job that is remembered, the oldest first.",
		Columns: []Column{{"JOB", "{id}"}, {"PHASE", "{phase}"}, {"FROM", "{source}"}, {"TO", "{target}"}, {"SLOTS", "{slot_count}"},
			{"KEYS MOVED", "{keys_moved}"}, {"REASON", "{reason}"}}},
	{Name: "MIGRATION STATUS", Role: View, Short: "Show everything about one job, or about all that are open", Show: ShowFields,
		Args: []Arg{{Name: "id", Kind: Job, Optional: true, Help: "the job; without it all open jobs, or the last if none is open"}},
		Help: "Without an id: all open jobs, or the last one if none is open."},
	{Name: "MIGRATION WATCH", Role: View, Only: OnlyCLI, Short: "Follow jobs until they end: progress, rate, time left",
		Args: []Arg{{Name: "ids", Meta: "<id> ...", Kind: Words, Of: Job, Optional: true, Help: "the jobs; without it all that are open"}},
		Help: "On a terminal one line for each job, which is kept up to date; elsewhere a line when a job changes, and every ten seconds while it moves keys. " +
			"Goes on while the gateway restarts, for up to two minutes. Exit code 0: every job is done, or, of one that was being reverted when it was first seen, reverted; " +
			"1: one failed or ended otherwise; 3: one is paused until an operator resumes it."},
	{Name: "MIGRATION PAUSE", Role: Operate, Short: "Stop moving keys; clients go on", Args: []Arg{jobOrAll},
		Help: "What has moved is served from the target, the rest from the source. RESUME goes on. ALL pauses every job that moves keys or would go on by itself, and names them."},
	{Name: "MIGRATION RESUME", Role: Operate, Short: "Go on with a paused or failed job", Args: []Arg{jobOrAll},
		Options: []Option{{Name: "FORWARD", Help: "move on to the target, also from the way back of CANCEL REVERT, whether the job waits or not"}},
		Waits:   true,
		Help:    "It goes on where it was, at once, also out of a backoff. ALL resumes every job that an operator has paused, and names them."},
	{Name: "MIGRATION CANCEL", Role: Operate, Short: "End a job that has moved nothing; leave another paused, or move back what has moved", Args: []Arg{jobArg},
		Options: []Option{{Name: "STAY", Not: "REVERT", Help: "leave a job that has moved keys paused as it is (the default)"},
			{Name: "REVERT", Not: "STAY", Help: "move back what has moved, while clients go on"}},
		Waits: true,
		Help:  "A job that has moved nothing ends. Nothing is lost either way. REVERT is refused where the source would not take the keys back, as one of an older version does not; that it lacks room for them is said, and stops nothing. MIGRATION RESUME FORWARD takes a REVERT back."},
	{Name: "MIGRATION LIMIT", Role: Operate, AnyOf: true, Short: "Change the limits of a job that runs", Args: []Arg{jobArg}, Options: limits,
		Help: "Only the limits that are named change, at once."},
	{Name: "MIGRATION LOG", Role: View, Short: "Show everything that happened to a job", Args: []Arg{jobArg}, Show: ShowLines,
		Help: "The oldest event first. SUBSCRIBE keyferry:migrations gives events as they happen, with the progress, as JSON."},
	{Name: "MIGRATION VERIFY", Role: View, Long: true, Short: "Look for keys that an ended job has left behind", Args: []Arg{jobArg}, Show: ShowTable, Columns: orphanColumns,
		Help: "At any time after the job has ended. Changes nothing: SLOT CHECK FIX removes what is found. keyferry exits with 1 if it finds any, or keys in databases that are not served."},

	{Name: "KEY", Role: View, Short: "Show what the servers have under a key", Show: ShowFields,
		Args:    []Arg{{Name: "key", Kind: Key, Help: "the key"}},
		Options: []Option{{Name: "DB", Values: []Arg{{Name: "n", Kind: Integer, Max: 1e6, Want: "the number of a database"}}, Help: "the database; 0 unless you say otherwise"}},
		Help:    "Type, encoding, size, time to live, and at which server."},
	{Name: "EXPLAIN", Role: View, Short: "Show how a command would be routed, and why", Show: ShowFields,
		Args: []Arg{{Name: "arg", Meta: "<command> [<arg> ...]", Kind: Words, Help: "the command and its arguments"}},
		Help: "The command is not run. Over RESP, one whose last argument is JSON needs it twice; flags of keyferry come before the command."},
	{Name: "HOTKEYS", Role: View, Short: "Show the keys that are used most", Args: []Arg{countArg}, Show: ShowTable,
		Help:    "By a sample of commands of the last seconds.",
		Columns: []Column{{"KEY", "{key}"}, {"DB", "{db}"}, {"SLOT", "{slot}"}, {"COMMANDS/S", "{per_s:whole}"}, {"WRITES", "{writes:percent}"}}},
	{Name: "BIGKEYS", Role: View, Short: "Show big values that were seen", Args: []Arg{countArg}, Show: ShowTable,
		Help:    "Values that clients sent or read, and those that jobs have met.",
		Columns: []Column{{"KEY", "{key}"}, {"DB", "{db}"}, {"BYTES", "{bytes}"}, {"SEEN BY", "{by}"}}},
	{Name: "LOCKS", Role: View, Short: "Show the keys that are being moved", Args: []Arg{countArg}, Show: ShowTable,
		Help: "Keys with a lock: state, commands in flight, event loops that wait.",
		Columns: []Column{{"KEY", "{key}"}, {"DB", "{db}"}, {"JOB", "{job}"}, {"STATE", "{state}"}, {"COMMANDS IN FLIGHT", "{commands_in_flight}"},
			{"LOOPS WAITING", "{loops_waiting}"}}},
	{Name: "INFO", Role: View, Short: "Show the gateway's own sections of INFO", Help: "Gateway, groups, slots and migration."},
	{Name: "EPOCH", Role: View, Short: "Show the epoch of the topology", Show: ShowFields, Help: "The stored epoch, and the one that every event loop routes by."},
	{Name: "HELP", Role: View, Only: OnlyRESP, Short: "Print this help", Show: ShowLines,
		Args: []Arg{{Name: "verb", Meta: "<verb> ...", Kind: Words, Optional: true, Help: "of which verb; without it of all"}}, Help: "With a verb: only that one."},
}

var (
	orphanColumns = []Column{{"GROUP", "{group}"}, {"KEYS", "{keys_scanned}"}, {"TWINS", "{twins}"}, {"ALONE", "{alone}"}, {"REMOVED", "{removed}"}, {"ADOPTED", "{adopted}"}, {"NOT SERVED", "{keys_unserved}"}, {"SUCH AS", "{sample:quoted}"}}
	planColumns   = []Column{{"FROM", "{source}"}, {"TO", "{target}"}, {"SLOTS", "{slots:count}"}, {"KEYS (ESTIMATE)", "{estimated_keys:known}"}, {"BYTES", "{estimated_bytes:known}"},
		{"SECONDS", "{estimated_seconds:known}"}, {"RANGES", "{slots:ranges}"}}
)
