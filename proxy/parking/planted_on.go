//go:build failpoints

package parking

// plant is the mistake that a Lot makes.
type plant struct{ m Mistake }

func (p plant) is(m Mistake) bool { return p.m == m }

// Plant has a Lot make a mistake from now on.
func (l *Lot) Plant(m Mistake) { l.plant.m = m }
