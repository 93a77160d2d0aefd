package channel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"openclaw/gateway/channel/whatsapp"
	"openclaw/gateway/store"
	"openclaw/reload/config"
)

// socketVariable tells the child of another server than WhatsApp's. The child
// wants the argument too, and an address of this machine.
const socketVariable = "OPENCLAW_WHATSAPP_WEB_SOCKET_URL"

// newWhatsApp is the program channel with our own program, whose parts are
// looked at before each start.
func newWhatsApp(c *config.ChannelAccount, o *Options) *process {
	kit := o.WhatsApp
	if kit == nil {
		kit = whatsapp.Embedded()
	}
	p := newProgram(c, o.Dir, o.Log, nil)
	p.command = func(ctx context.Context) (argv, env []string, err error) {
		argv, err = p.whatsapp(ctx, kit)
		if o.WhatsAppTest != "" {
			argv, env = append(argv, "--test-socket"), []string{socketVariable + "=" + o.WhatsAppTest}
		}
		return argv, env, err
	}
	return p
}

const installHint = "run: openclaw channels install whatsapp"

// whatsapp is the child's command line, once packages and Node.js are as they
// should be. What an operator has to mend is final.
func (p *process) whatsapp(ctx context.Context, kit *whatsapp.Kit) ([]string, error) {
	modules, err := store.CheckTree(ctx, p.dir.Path(), kit.Dir(), kit.Sum, whatsapp.Aside)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, final("what the WhatsApp channel runs on is not installed; %s", installHint)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, final("the WhatsApp channel is not started: %w; %s", err, installHint)
	}
	named, err := p.dir.ReadFile(kit.Dir()+"/"+whatsapp.NodeFile, 4096)
	if err != nil {
		return nil, final("%w; %s", err, installHint)
	}
	path := string(named)
	if err := whatsapp.CheckNode(path); errors.Is(err, fs.ErrNotExist) {
		return nil, final("the WhatsApp channel needs Node.js, and %s is gone; %s", path, installHint)
	} else if err != nil {
		return nil, final("%w; %s", err, installHint)
	}
	if err := p.dir.WriteFile(p.home()+"/whatsapp.mjs", kit.Program); err != nil {
		return nil, fmt.Errorf("place the program: %w", err)
	}
	home, err := filepath.EvalSymlinks(filepath.Join(p.dir.Path(), p.home()))
	if err != nil {
		return nil, err
	}
	said, err := ask(append([]string{path}, whatsapp.NodeAsks...), home)
	if err != nil {
		return nil, fmt.Errorf("%s does not run: %w; a service's unit that is older than the channel forbids it: openclaw gateway install", path, err)
	}
	node, err := whatsapp.ParseNode(path, said)
	if err != nil {
		return nil, final("%w; %s", err, installHint)
	}
	// What lies there was the last child's, which fetches it again with its message.
	if err := p.dir.Empty(p.media()); err != nil {
		return nil, err
	}
	places := whatsapp.Places{Program: home + "/whatsapp.mjs", Modules: modules, Auth: home + "/auth", Media: home + "/media"}
	for _, dir := range []string{places.Auth, places.Media} {
		if err := p.dir.EnsureWorkspace(dir); err != nil {
			return nil, err
		}
	}
	return node.Command(places), nil
}
