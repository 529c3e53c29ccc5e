package parking

import "slices"

// Mark is a place in the history of a connection.
type Mark interface {
	// Answered reports that every command sent before the mark has been answered, or can no
	// longer be executed.
	Answered() bool
}

// drain is an acknowledgement that is due when the commands before the marks are answered.
type drain struct {
	marks []Mark
	done  func()
}

// Await calls done when all marks have been answered, which may be at once. done must not
// call the Lot. Nothing is counted on the path of a command for this: a mark is a number that
// the connection keeps anyway.
func (l *Lot) Await(marks []Mark, done func()) {
	l.drains = append(l.drains, drain{marks, done})
	l.settleDrains()
}

// settleDrains gives the acknowledgements that are due. They need not come in their order: one
// silent server holds up what waits for it, and nothing else.
func (l *Lot) settleDrains() {
	keep := l.drains[:0]
	for _, d := range l.drains {
		d.marks = slices.DeleteFunc(d.marks, Mark.Answered)
		if len(d.marks) == 0 || l.plant.is(DrainsEarly) {
			d.done()
		} else {
			keep = append(keep, d)
		}
	}
	clear(l.drains[len(keep):])
	l.drains = keep
}
