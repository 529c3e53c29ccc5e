package job

// Durability is what the target must have done with a key before the source gives it up.
const (
	DurabilityAuto    = ""        // replica where the target has one, else none
	DurabilityNone    = "none"    // its reply to RESTORE is enough
	DurabilityReplica = "replica" // a replica has it (WAIT)
	DurabilityAOF     = "aof"     // its append-only file has been synced (WAITAOF, Redis 7.2)
)
