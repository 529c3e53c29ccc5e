package proxy

import (
	"bytes"
	"slices"
	"strconv"

	"keyferry/internal/resp"
	"keyferry/slotlock"
)

// Servers may have more databases than the cluster. Nobody could read what is there, and no job
// would move it: so commands get from the gateway what a server says that has only as many.

const (
	outsideText = "ERR DB index is out of range"
	maxDB       = 1<<16 - 1 // no cluster has more
	noDB        = 1<<31 - 1 // no server has it
)

// outside reports whether a command names a database that the cluster does not have.
//
// SELECT is checked when it runs; this is for COPY and MOVE, and for what is queued behind
// MULTI, where SELECT goes to the server as it is.
func (l *loop) outside(cmd *resp.Command, args [][]byte) bool {
	if cmd != copyCommand && cmd != moveCommand && cmd != selectCommand {
		return false
	}
	n, ok := otherDB(cmd, args)
	return ok && n >= l.table.Databases
}

// inNoDatabase makes any server refuse such a command, in the middle of a transaction.
//
// It must be refused at its place in the block, as a server with fewer databases would, and
// not abort the rest.
func inNoDatabase(cmd *resp.Command, args [][]byte) [][]byte {
	args = slices.Clone(args)
	args[whichDB(cmd, args)] = strconv.AppendInt(nil, noDB, 10)
	return args
}

// otherDB is the database that SELECT, MOVE and COPY … DB name.
func otherDB(cmd *resp.Command, args [][]byte) (int, bool) {
	i := whichDB(cmd, args)
	if i == 0 {
		return 0, false
	}
	n, err := strconv.Atoi(string(args[i]))
	return n, err == nil && n >= 0
}

// whichDB is the argument that names it; 0: there is none, or a server will refuse the
// command for its form.
//
// COPY is read as the server reads it, up to the first word that it would not take.
func whichDB(cmd *resp.Command, args [][]byte) (at int) {
	switch cmd {
	case selectCommand:
		at = 1
	case moveCommand:
		at = 2
	case copyCommand:
		for i := 3; i < len(args); i++ {
			switch {
			case bytes.EqualFold(args[i], []byte("replace")):
			case bytes.EqualFold(args[i], []byte("db")) && i+1 < len(args):
				i++
				at = i
			default:
				return 0
			}
		}
	}
	if at >= len(args) {
		return 0
	}
	return at
}

// appendKeys makes lock keys of the keys of a command, with the other database of COPY
// and MOVE.
//
// COPY writes its second key in the other database. MOVE has one key, which it takes from here
// to there: both names are locked. What a lock is about is a name in a database.
func appendKeys(dst []slotlock.Key, db int, cmd *resp.Command, args [][]byte, keys []int) []slotlock.Key {
	for i, k := range keys {
		key := slotlock.Key{DB: db, Name: string(args[k])}
		if other, ok := otherDB(cmd, args); ok && other <= maxDB && (cmd == moveCommand || i == 1) {
			if cmd == moveCommand {
				dst = append(dst, key)
			}
			key.DB = other
		}
		dst = append(dst, key)
	}
	return dst
}
