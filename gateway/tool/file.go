package tool

func fileTools() []*row { return nil }
