package loop

// Guarded says whether PostgreSQL must not outlive the lock: it may be writable as it was seen last, or a job is under way that makes
// it so, and the cluster is not paused. The driver arms the guard with the lock's deadline while this holds, and leaves it
// armed when the lock is lost. Ask after a decision, when what was seen is newer than the end of any job.
func (l *Loop) Guarded() bool { return !l.Limits.Paused && l.mayWrite() }
