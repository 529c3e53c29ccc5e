// Package bench measures and checks any Redis endpoint from outside: a load generator,
// a write oracle, and a comparison of several endpoints in one run.
//
// The oracle knows for every key what has been acknowledged and what is in doubt, so that
// after any sequence of migrations and failures it can say which writes were lost, which
// old values came back, and which deleted ones rose again.
package bench
