// Package failpoint lets tests stop or delay the process at named lines.
//
// Without the build tag "failpoints" Hit is empty and costs nothing. With it, the
// environment variable KEYFERRY_FAILPOINTS lists what happens where, for example
//
//	move.restore.after=kill@3;move.unlink.before=sleep:5s
//
// kills the process (SIGKILL) the third time that the first point is reached and sleeps
// once at the second. =hold:/some/file waits there, once, until that file exists, and
// store=fail:3 makes what asks Fails there fail three times.
package failpoint
