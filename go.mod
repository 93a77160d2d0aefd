module openclaw

go 1.25.0

require (
	golang.org/x/net v0.58.0
	golang.org/x/sys v0.47.0
)
