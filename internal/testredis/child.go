package testredis

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Child is a process that cannot outlive this one.
type Child struct {
	process *os.Process
	done    chan struct{} // closed once the process has been reaped
}

// StartChild starts cmd so that the kernel kills it when this process dies, in
// whatever way, and reaps it when it ends. It gets its own process group: a
// Ctrl-C at the terminal reaches only us, and we stop it in our own order.
//
// PR_SET_PDEATHSIG is sent when the *thread* that forked ends, not the process,
// and Go ends and reuses threads as it likes. So one goroutine keeps its thread
// to itself from the fork until the child has been reaped.
func StartChild(cmd *exec.Cmd) (*Child, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true

	c := &Child{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		c.process = cmd.Process
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // how it ended is no news: its owner ended it, or finds out by Done
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// PID is the process id; it stays the same after the process has ended.
func (c *Child) PID() int { return c.process.Pid }

// Done is closed when the process has ended and been reaped.
func (c *Child) Done() <-chan struct{} { return c.done }

// ended reports whether Done is closed.
func (c *Child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Signal sends sig. A process that has already ended is no error.
func (c *Child) Signal(sig syscall.Signal) error {
	err := c.process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Kill ends the process with SIGKILL and returns when it has been reaped.
func (c *Child) Kill() error {
	if err := c.Signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill pid %d: %w", c.PID(), err)
	}
	<-c.done
	return nil
}

// Terminate asks the process to end with SIGTERM and kills it when it has not
// done so within bound. It returns when the process has been reaped.
func (c *Child) Terminate(bound time.Duration) error {
	// A frozen process would not see the SIGTERM. SIGCONT comes after it, so
	// that the process does nothing else in between.
	if err := c.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("terminate pid %d: %w", c.PID(), err)
	}
	if err := c.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("continue pid %d: %w", c.PID(), err)
	}
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		return c.Kill()
	}
}
