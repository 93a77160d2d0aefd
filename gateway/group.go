package gateway

import (
	"context"
	"fmt"
	"sync"
)

// group is the gateway's background tasks. The first that fails ends the others.
type group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	failed <-chan struct{} // closed when a task failed, or ctx ended
	tasks  sync.WaitGroup

	mu  sync.Mutex
	err error // of the first task that failed
}

func newGroup(ctx context.Context) *group {
	ctx, cancel := context.WithCancelCause(ctx)
	return &group{ctx: ctx, cancel: cancel, failed: ctx.Done()}
}

// start runs a task. It returns nil when its context has ended; an error
// carries the task's name.
func (g *group) start(name string, run func(context.Context) error) {
	g.tasks.Go(func() {
		if err := run(g.ctx); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
			g.mu.Lock()
			if g.err == nil {
				g.err = err
			}
			g.mu.Unlock()
			g.cancel(err)
		}
	})
}

// wait returns after all tasks, with the first one's error.
func (g *group) wait() error {
	g.tasks.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}
