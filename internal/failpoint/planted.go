package failpoint

// Mistakes that a build with failpoints makes on demand (KEYFERRY_FAILPOINTS=<name>=on):
// tests show by them that they would notice.
const (
	PlantReplace     = "plant.replace"      // RESTORE with REPLACE: the source's copy overwrites the target's
	PlantEarlyUnlock = "plant.early-unlock" // a lock is released before UNLINK is confirmed
	PlantNoCreated   = "plant.no-created"   // the filter does not hold the keys that were created at the target
)
