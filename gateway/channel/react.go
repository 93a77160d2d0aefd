package channel

import "context"

// Reactor is a Channel that can answer a message by an emoji.
type Reactor interface {
	// React does so, best effort.
	React(ctx context.Context, m Inbound, emoji string)
}

// react answers a message that was let in by the emoji that is configured, if one is.
func (a *Account) react(ctx context.Context, m Inbound) {
	emoji := a.conf.Messages.Reaction(m.Group, m.Mentioned)
	if r, ok := a.channel.(Reactor); ok && emoji != "" && m.Message != "" && !m.Again {
		a.contained(func() error { r.React(ctx, m, emoji); return nil })
	}
}
