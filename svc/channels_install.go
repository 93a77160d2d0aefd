package svc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"openclaw/gateway/channel/whatsapp"
	"openclaw/gateway/store"
)

// nodeDirs are where a host has Node.js, if --node does not say.
var nodeDirs = append(toolDirs, "/usr/local/bin", "/opt/homebrew/bin", "/opt/local/bin")

// npmTime is how long fetching and unpacking the packages may take.
const npmTime = 10 * time.Minute

// npmVariables are what of the environment npm sees: how packages are reached.
// What comes is held to the lock file and to the manifest whatever they say.
var npmVariables = []string{
	"npm_config_registry", "NPM_CONFIG_REGISTRY", "npm_config_userconfig", "NPM_CONFIG_USERCONFIG", "npm_config_cafile", "NPM_CONFIG_CAFILE", "NODE_EXTRA_CA_CERTS",
	"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy",
}

type installReport struct {
	OK      bool   `json:"ok"`
	Channel string `json:"channel"`
	Changed bool   `json:"changed"`
	Dir     string `json:"dir"`
	Node    string `json:"node"`
	Version string `json:"nodeVersion"`
	Sum     string `json:"sha256"`
}

// channelsInstall has npm fetch what the WhatsApp child runs on. The gateway
// never does: it only checks what is there.
func channelsInstall(ctx context.Context, e *Env, a *Args) error {
	if a.Word(0) != "whatsapp" {
		return usage("%s needs nothing installed; whatsapp does", a.Word(0))
	}
	p, err := e.Paths()
	if err != nil {
		return err
	}
	if p.System && !e.machine().isDir(p.StateDir) {
		return &Error{Code: "NO_SERVICE", Msg: "there is no " + p.StateDir + " yet", Hint: "sudo " + e.Command("gateway install")}
	}
	node, err := e.findNode(ctx, a.Get("node"))
	if err != nil {
		return err
	}
	kit := whatsapp.Embedded()
	out := installReport{OK: true, Channel: "whatsapp", Dir: filepath.Join(p.StateDir, kit.Dir()), Node: node.Path, Version: node.Version, Sum: kit.Sum}
	_, err = store.CheckTree(ctx, p.StateDir, kit.Dir(), kit.Sum, whatsapp.Aside)
	chosen, noted := store.ReadConfigFile(filepath.Join(out.Dir, whatsapp.NodeFile), 4096, false)
	if err != nil || noted != nil || string(chosen) != node.Path {
		out.Changed = true
		if e.ErrTTY {
			e.Warn("npm fetches the packages of the WhatsApp channel …")
		}
		if err := e.installPackages(ctx, p.StateDir, kit, node); err != nil {
			return err
		}
	}
	if e.JSON {
		return e.printJSON(out)
	}
	e.field("packages", out.Dir)
	e.field("node", node.Path+", "+node.Version)
	if !out.Changed {
		return e.printf("nothing to do: they are installed and as they should be\n")
	}
	return e.printf("next: %s\n", e.Command("channels login whatsapp"))
}

// installPackages puts the kit's packages in their place, if they are exactly
// those that this version was built for.
func (e *Env) installPackages(ctx context.Context, state string, kit *whatsapp.Kit, node whatsapp.Node) error {
	npm, err := npmOf(node.Path)
	if err != nil {
		return err
	}
	env := []string{"PATH=" + filepath.Dir(node.Path) + ":" + strings.Join(toolDirs, ":"), "HOME=" + e.Home}
	for _, name := range npmVariables {
		if v := e.getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	fill := func(dir string) error {
		for _, f := range []struct {
			name string
			data []byte
		}{{"package.json", kit.PackageJSON}, {"package-lock.json", kit.PackageLock}, {whatsapp.NodeFile, []byte(node.Path)}} {
			if err := store.ReplaceFile(filepath.Join(dir, f.name), f.data); err != nil {
				return err
			}
		}
		_, err := e.machine().run(ctx, tool{
			name: "node", path: node.Path, dir: dir, env: env, limit: npmTime,
			args: []string{npm, "ci", "--legacy-peer-deps", "--ignore-scripts", "--no-bin-links", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"},
		})
		if err != nil {
			return asError(fmt.Errorf("npm could not install the packages: %w", err), "")
		}
		return nil
	}
	return store.PlaceTree(ctx, state, kit.Dir(), whatsapp.Aside, fill, func(sum string) error {
		if sum != kit.Sum {
			return fmt.Errorf("refused what npm installed: its manifest's SHA-256 is %s, and this version was built for %s", sum, kit.Sum)
		}
		return nil
	})
}

// findNode finds a Node.js that can hold the child within bounds.
func (e *Env) findNode(ctx context.Context, named string) (whatsapp.Node, error) {
	path, err := named, error(nil)
	switch {
	case named == "":
		for _, dir := range nodeDirs {
			path = filepath.Join(dir, "node")
			if err = whatsapp.CheckNode(path); !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
	case !filepath.IsAbs(named):
		return whatsapp.Node{}, usage("--node: %q is not an absolute path", named)
	default:
		err = whatsapp.CheckNode(path)
	}
	const hint = "install Node.js 20 or newer with npm, or name one: --node /path/to/node"
	if errors.Is(err, fs.ErrNotExist) {
		return whatsapp.Node{}, &Error{Code: "NODE_MISSING", Msg: "the WhatsApp channel needs Node.js, and there is none in " + strings.Join(nodeDirs, ", "), Hint: hint}
	}
	if err != nil {
		return whatsapp.Node{}, &Error{Code: "NODE_REFUSED", Msg: err.Error(), Hint: hint}
	}
	said, err := e.machine().run(ctx, tool{name: "node", path: path, args: whatsapp.NodeAsks})
	if err != nil {
		return whatsapp.Node{}, asError(err, hint)
	}
	node, err := whatsapp.ParseNode(path, said)
	if err != nil {
		return node, &Error{Code: "NODE_REFUSED", Msg: err.Error(), Hint: hint}
	}
	return node, nil
}

// npmOf finds the npm that came with a Node.js: a program for it, which stands beside it.
func npmOf(node string) (string, error) {
	real, err := filepath.EvalSymlinks(node)
	if err != nil {
		return "", err
	}
	for _, beside := range []string{node, real} {
		npm, err := filepath.EvalSymlinks(filepath.Join(filepath.Dir(beside), "npm"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = whatsapp.CheckNode(npm)
		}
		return npm, err
	}
	return "", &Error{Code: "NPM_MISSING", Msg: "there is no npm beside " + node, Hint: "install npm, or name the Node.js that has one: --node /path/to/node"}
}
