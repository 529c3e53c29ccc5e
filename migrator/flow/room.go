package flow

// reserve is how much of a target's memory the mover leaves free: for the clients' own
// writes, and for the buffers of their connections.
func reserve(maxBytes int64) int64 {
	return min(max(min(maxBytes/16, 64<<20), 1<<20), maxBytes/4)
}

// RoomIn is how many bytes a target has for the mover; -1 when there is no limit: maxBytes
// is 0, or it evicts, which makes room as its operator wants it.
func RoomIn(usedBytes, maxBytes int64, evicts bool) int64 {
	if maxBytes == 0 || evicts {
		return -1
	}
	return max(0, maxBytes-usedBytes-reserve(maxBytes))
}

// RoomAgain reports whether a target that was full takes keys again: room for some of the
// size that is met, else the job would stop again with the next one.
func RoomAgain(room, maxBytes, keyCost int64) bool {
	return room < 0 || room > max(2*keyCost, min(maxBytes/100, 4<<20))
}
