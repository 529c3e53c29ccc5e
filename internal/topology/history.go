package topology

// JobEvent is one thing that happened to a job: a line of its history.
type JobEvent struct {
	Job        string    `json:"job"`
	Seq        uint64    `json:"seq"` // from 1, given by the Store
	AtMs       int64     `json:"at_ms"`
	Event      string    `json:"event"` // its name in job.Step, or "submitted"
	From       Phase     `json:"from,omitempty"`
	To         Phase     `json:"to"`
	Reason     string    `json:"reason,omitempty"`
	Attempt    int       `json:"attempt,omitempty"`
	First      *JobError `json:"first_error,omitempty"` // of the attempt that failed
	Error      *JobError `json:"error,omitempty"`       // the last of it
	KeysMoved  int64     `json:"keys_moved"`
	BytesMoved int64     `json:"bytes_moved"`
}

// MaxJobEvents bounds the history of one job.
const MaxJobEvents = 500
