package migrator

import (
	"context"
	"errors"
	"fmt"

	"keyferry/internal/topology"
	"keyferry/migrator/job"
)

// PauseAll pauses every job that goes on, or would by itself, and ResumeAll resumes those that an
// operator has paused. They return the ids of those that they have changed, also with an error,
// which names the others. A job that ends meanwhile needs neither.
func (m *Manager) PauseAll(ctx context.Context) ([]string, error) {
	return m.tellEach(ctx, m.Pause, func(j *topology.Job) bool {
		return j.Phase != topology.Failed && (j.Phase != topology.Paused || job.Resting(j) || job.WaitsForRoom(j))
	})
}

// ResumeAll is described with PauseAll.
func (m *Manager) ResumeAll(ctx context.Context) ([]string, error) {
	return m.tellEach(ctx, m.Resume, func(j *topology.Job) bool {
		return j.Phase == topology.Paused && j.Reason == job.ReasonOperator
	})
}

// tellEach does not stop at the first job that refuses: whoever pauses all wants the rest paused.
func (m *Manager) tellEach(ctx context.Context, tell func(context.Context, string) error, wanted func(*topology.Job) bool) (told []string, err error) {
	for _, j := range m.Jobs() {
		if j.Phase.Ended() || !wanted(&j.Job) {
			continue
		}
		e := tell(ctx, j.ID)
		if now, known := m.JobStatus(j.ID); e != nil && known && !now.Phase.Ended() {
			err = errors.Join(err, fmt.Errorf("job %s: %w", j.ID, e))
		}
		if e == nil {
			told = append(told, j.ID)
		}
	}
	return told, err
}
