package metrics

// Kind is the Prometheus type of a series.
type Kind uint8

const (
	Counter Kind = iota
	Gauge
	Durations // a Histogram, in seconds
)

// Series is one row of the table: everything that is said about a metric but its values.
type Series struct {
	Name   string // keyferry_…
	Help   string
	Unit   string // seconds, bytes, ratio (0 to 1), or "": a count
	Kind   Kind
	Labels []string
}

// Table is every series that /metrics shows, in the order of the declarations below.
var Table []*Series

func series(k Kind, name, unit, help string, labels ...string) *Series {
	s := &Series{Name: "keyferry_" + name, Help: help, Unit: unit, Kind: k, Labels: labels}
	Table = append(Table, s)
	return s
}

// The gateway itself.
var (
	BuildInfo = series(Gauge, "build_info", "", "Always 1; the labels say what runs", "version", "name", "go_version")
	StartTime = series(Gauge, "start_time_seconds", "seconds", "When the process began, as Unix time")
	SampleAge = series(Gauge, "sample_age_seconds", "seconds", "How old the numbers on this page are")
	Loops     = series(Gauge, "loops", "", "Event loops")
)

// Clients.
var (
	Clients          = series(Gauge, "clients", "", "Client connections that are open")
	ClientsBlocked   = series(Gauge, "clients_blocked", "", "Clients that wait in a blocking command")
	ClientBuffers    = series(Gauge, "client_buffers_bytes", "bytes", "Input and output buffers of all clients, as last accounted")
	Connections      = series(Counter, "client_connections_total", "", "Client connections accepted")
	Rejected         = series(Counter, "client_connections_rejected_total", "", "Client connections refused since clients.max-clients were open")
	LimitCloses      = series(Counter, "client_limit_closes_total", "", "Clients closed for going beyond a limit of [clients]")
	Unlingered       = series(Counter, "client_unlingered_closes_total", "", "Clients closed before they had received their last replies, since too many others were waited for")
	ClientInBytes    = series(Counter, "client_received_bytes_total", "bytes", "Bytes received from clients")
	ClientOutBytes   = series(Counter, "client_sent_bytes_total", "bytes", "Bytes sent to clients")
	Commands         = series(Counter, "commands_total", "", "Commands answered, by name", "command")
	CommandsFailed   = series(Counter, "commands_failed_total", "", "Commands answered with an error, by name", "command")
	CommandsRejected = series(Counter, "commands_rejected_total", "", "Commands refused before they were executed, by name", "command")
	CommandSeconds   = series(Durations, "command_duration_seconds", "seconds", "From when a command was parsed to the last byte of its reply, by class", "class")
	ErrorReplies     = series(Counter, "error_replies_total", "", "Error replies to clients, by code", "code")
	CommandsInFlight = series(Gauge, "commands_in_flight", "", "Commands sent to servers that are not answered yet")
	SlowCommands     = series(Counter, "slow_commands_total", "", "Commands that took slowlog.slower-than or longer")
)

// Commands on slots that move.
var (
	CommandsParked  = series(Gauge, "commands_parked", "", "Commands that wait for a key that is being moved")
	ParkedEver      = series(Counter, "commands_parked_total", "", "Commands that had to wait for a key that was being moved")
	LockWaitSeconds = series(Durations, "lock_wait_duration_seconds", "seconds", "How long commands on moving slots waited for their keys before they were sent")
	TryAgain        = series(Counter, "commands_tryagain_total", "", "Commands answered -TRYAGAIN: they timed out waiting for a key that is being moved")
	MovingCommands  = series(Counter, "moving_slot_commands_total", "", "Commands on moving slots, by where they ran", "side")
)

// Groups.
var (
	GroupUp         = series(Gauge, "group_up", "", "1 if the group's primary answered the last probe", "group")
	GroupPing       = series(Gauge, "group_ping_seconds", "seconds", "Round trip of the last probe", "group")
	GroupMemory     = series(Gauge, "group_memory_bytes", "bytes", "used_memory of the primary", "group")
	GroupMemoryMax  = series(Gauge, "group_memory_limit_bytes", "bytes", "maxmemory of the primary; 0: none", "group")
	GroupKeys       = series(Gauge, "group_keys", "", "Keys of all databases of the primary", "group")
	GroupClients    = series(Gauge, "group_clients", "", "Connections open at the primary", "group")
	GroupStrangers  = series(Gauge, "group_strangers", "", "Connections at the primary that are not this gateway's: what they write to moving slots can be lost", "group")
	GroupCommands   = series(Counter, "group_commands_total", "", "Commands that the primary has processed", "group")
	GroupReplicas   = series(Gauge, "group_replicas", "", "Replicas connected to the primary", "group")
	GroupSlots      = series(Gauge, "group_slots", "", "Slots that the group owns", "group")
	ServerLost      = series(Counter, "server_connections_lost_total", "", "Connections to servers that died with commands in flight")
	LostReplies     = series(Counter, "lost_replies_total", "", "Commands whose outcome the client was not told")
	Epoch           = series(Gauge, "epoch", "", "Epoch of the stored topology")
	WritesRefused   = series(Gauge, "writes_refused", "", "1 while no writes are served, because servers show that the store is not the newest or that they are another cluster's")
	EpochAcked      = series(Gauge, "epoch_acknowledged", "", "Epoch that every loop routes by")
	SlotsUnassigned = series(Gauge, "slots_unassigned", "", "Slots that no group serves")
	SlotsMoving     = series(Gauge, "slots_moving", "", "Slots in motion")
)

// Gateways of the cluster.
var (
	GatewayUp    = series(Gauge, "gateway_up", "", "1 if the gateway is part of the cluster and the store hears of it", "gateway")
	GatewayEpoch = series(Gauge, "gateway_epoch_acknowledged", "", "Epoch that the gateway has acknowledged; behind keyferry_epoch it holds up the beginning of jobs", "gateway")
	GatewayJobs  = series(Gauge, "gateway_jobs", "", "Jobs that the gateway runs", "gateway")
)

// Migration. Those with the label migration, which is the job's id, are of open jobs and of the newest ended ones.
var (
	Jobs             = series(Gauge, "migration_jobs", "", "Jobs that are remembered, by phase", "phase")
	JobPhase         = series(Gauge, "migration_job_phase", "", "1 for the phase that the job is in", "migration", "source", "target", "phase")
	JobKeys          = series(Counter, "migration_keys_moved_total", "", "Keys moved", "migration")
	JobBytes         = series(Counter, "migration_moved_bytes_total", "bytes", "Bytes moved, as DUMP gives them", "migration")
	JobTouched       = series(Counter, "migration_keys_moved_on_touch_total", "", "Keys moved because a client asked for them", "migration")
	JobKeysLeft      = series(Gauge, "migration_keys_left", "", "Keys thought to be left; absent while not known", "migration")
	JobRate          = series(Gauge, "migration_keys_per_second", "", "Keys moved per second, now", "migration")
	JobRateLimit     = series(Gauge, "migration_rate_limit", "", "The operator's ceiling in keys per second; 0: none", "migration")
	JobSlices        = series(Counter, "migration_slices_total", "", "Slices that came to their planned end; absent where the job has none", "migration")
	JobHold          = series(Gauge, "migration_lock_hold_seconds", "seconds", "How long keys were locked: p50, p99, max", "migration", "stat")
	JobWaiting       = series(Gauge, "migration_keys_waited_for", "", "Keys that clients wait for", "migration")
	JobInDoubt       = series(Gauge, "migration_keys_in_doubt", "", "Keys whose outcome is not known; they stay locked until it is", "migration")
	JobBigKeys       = series(Counter, "migration_big_keys_total", "", "Keys met that are larger than migration.big-key-bytes", "migration")
	JobAttempts      = series(Gauge, "migration_failed_attempts", "", "Failed attempts in a row", "migration")
	JobProgress      = series(Gauge, "migration_last_progress_timestamp_seconds", "seconds", "When a key was last moved, as Unix time", "migration")
	JobSpeed         = series(Gauge, "migration_speed_ratio", "ratio", "Part of what may be in flight that flow control lets the job have; 1: neither end holds it back", "migration")
	JobPace          = series(Gauge, "migration_pace_per_second", "", "Keys, and units of 4096 bytes, that the job may move in a second for the clients' sake; 0: any", "migration")
	JobStalled       = series(Gauge, "migration_stalled", "", "1 while the job has made no progress for long", "migration")
	MigrationErrors  = series(Counter, "migration_errors_total", "", "Failed attempts, by where the error came from and its code", "origin", "code")
	MigrationRetries = series(Counter, "migration_retries_total", "", "Times that a job went on after a failed attempt")
)
