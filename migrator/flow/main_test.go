package flow

import "time"

// How often the mover tells a governor of its ends and of the clients, more or less.
const (
	pingEvery = 50 * time.Millisecond
	window    = 200 * time.Millisecond
)
