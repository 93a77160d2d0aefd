package store

// Wipe removes everything in the state directory but the lock, which this
// process holds: no gateway runs on it. It is for a directory just opened.
func (d *Dir) Wipe() error {
	if d.lock == nil {
		return errReadOnly
	}
	names, err := d.top.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == lockName {
			continue
		}
		if err := d.top.root.RemoveAll(name); err != nil {
			return err
		}
	}
	return d.top.sync()
}
