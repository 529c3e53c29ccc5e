package resp

import "bytes"

// NotifySetting is the setting of servers that says which keyspace events they tell of.
const NotifySetting = "notify-keyspace-events"

// NotifyFlags is a value of NotifySetting with its flag A, for many others, written out.
func NotifyFlags(value []byte) []byte {
	return bytes.ReplaceAll(value, []byte("A"), []byte("g$lshzxetd"))
}
