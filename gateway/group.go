package gateway

import (
	"context"
	"fmt"
	"sync"
)

// group is the gateway's background tasks. The first that fails ends the others.
type group struct {
	ctx    context.Context // of the tasks; ends with the first error as its cause
	cancel context.CancelCauseFunc
	tasks  sync.WaitGroup
}

func newGroup(ctx context.Context) *group {
	ctx, cancel := context.WithCancelCause(ctx)
	return &group{ctx: ctx, cancel: cancel}
}

// start runs a task. It returns nil when its context has ended; an error
// carries the task's name.
func (g *group) start(name string, run func(context.Context) error) {
	g.tasks.Go(func() {
		if err := run(g.ctx); err != nil {
			g.cancel(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// wait returns after all tasks, with why the first one ended: an error, or
// the cause of the context that the group was made with.
func (g *group) wait() error {
	g.tasks.Wait()
	return context.Cause(g.ctx)
}
