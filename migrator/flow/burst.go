package flow

// Burst is how many keys may go at once under a ceiling of so many a second; 0: there is
// none. They are those of a hundredth of a second, and no more than a batch has at most.
func Burst(perSecond float64, most int) int {
	if perSecond <= 0 {
		return most
	}
	return max(1, min(most, int(perSecond/100)))
}
