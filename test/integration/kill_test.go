package integration

import (
	"testing"

	"keyferry/bench"
)

// TestKillMatrix kills the gateway at each named step of a move and starts it again: it
// must finish the job by itself, with nothing lost and no key on two servers.
func TestKillMatrix(t *testing.T) {
	for _, point := range []string{
		"move.read.after=kill@3",
		"move.restore.before=kill@5",
		"move.restore.after=kill@5",
		"move.persist.before=kill@4",
		"move.persist.after=kill@4",
		"move.unlink.before=kill@6",
		"move.unlink.after=kill@6",
		"job.preparing.persist.before=kill",
		"job.preparing.persist.after=kill",
		"job.bulk.persist.before=kill",
		"job.bulk.persist.after=kill",
		"job.tail.persist.before=kill",
		"job.tail.persist.after=kill",
		"job.verifying.persist.after=kill",
		"job.flip.before=kill",
		"job.done.persist.before=kill",
		"job.done.persist.after=kill",
		"job.flip.after=kill",
	} {
		t.Run(point, func(t *testing.T) {
			r := newRig(t, 2, "--set", "migration.batch-max-keys=32")
			r.kill()
			r.start(point)
			_, finish := r.oracle(bench.OracleConfig{Keys: 1500, DBs: []int{0, 1}, Clients: 4, Pipeline: 3, Rate: 2000})
			r.proxy("MIGRATE", "0-8191", "TO", "g2")
			r.awaitDeath()
			r.start("")
			r.awaitDone()
			finish()
			r.placesRight()
		})
	}
}

// TestKilledAgainAndAgain kills the gateway at random moments of one job.
func TestKilledAgainAndAgain(t *testing.T) {
	r := newRig(t, 2, "--set", "migration.batch-max-keys=16")
	_, finish := r.oracle(bench.OracleConfig{Keys: 4000, Clients: 4, Pipeline: 3, Rate: 2000})
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "2000")
	for range 5 {
		before := int64(0)
		if jobs := r.jobs(); len(jobs) > 0 {
			before = jobs[0].KeysMoved
		}
		r.await("progress", func() bool {
			jobs := r.jobs()
			return len(jobs) > 0 && (jobs[0].KeysMoved > before+200 || jobs[0].Phase.Ended())
		})
		r.kill()
		r.start("")
	}
	r.awaitDone()
	finish()
	r.placesRight()
}
