// Package whatsapp is what the WhatsApp child is made of: our program, which
// speaks the child protocol, other people's packages by lock file, and a
// Node.js of the host. The command line installs the packages, the gateway
// checks them and starts the child; both have it from here.
package whatsapp

import (
	"crypto/sha256"
	_ "embed" // of the four files
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

var (
	//go:embed whatsapp.mjs
	program []byte
	//go:embed package.json
	packageJSON []byte
	//go:embed package-lock.json
	packageLock []byte
	//go:embed packages.sha256
	packagesSum string
)

// Kit is the child's parts.
type Kit struct {
	Program                  []byte // ours, run by Node
	PackageJSON, PackageLock []byte // what npm installs, and exactly which
	Sum                      string // SHA-256 of the manifest of what npm makes of them
}

// Embedded is the kit of this binary.
func Embedded() *Kit {
	return &Kit{Program: program, PackageJSON: packageJSON, PackageLock: packageLock, Sum: strings.TrimSpace(packagesSum)}
}

// NodeFile holds the path of the Node.js that the operator chose. It lies in the
// directory of the packages and in no manifest.
const NodeFile = "NODE"

// Aside are the files that no manifest has: this one, and npm's notes, which
// differ between its versions and are no code.
var Aside = []string{NodeFile, "node_modules/.package-lock.json"}

// Dir is where the packages are, below the state directory: by their lock, so
// that each version of this program finds its own. A cache is in no backup.
func (k *Kit) Dir() string {
	sum := sha256.Sum256(slices.Concat(k.PackageJSON, k.PackageLock))
	return "cache/whatsapp-" + hex.EncodeToString(sum[:6])
}

// Node is a Node.js that can hold the child within bounds.
type Node struct {
	Path, Version string
	Flags         []string // that switch the permission model on
}

const leastNode = 20

// NodeAsks has a Node.js tell its version and which of the flags it knows.
var NodeAsks = []string{"-p", `JSON.stringify([process.versions.node, ["--permission", "--experimental-permission", "--allow-net"].filter((f) => process.allowedNodeEnvironmentFlags.has(f))])`}

// ParseNode judges what a Node.js told.
func ParseNode(path, said string) (Node, error) {
	var told [2]json.RawMessage
	n := Node{Path: path}
	var flags []string
	if json.Unmarshal([]byte(said), &told) != nil || json.Unmarshal(told[0], &n.Version) != nil || json.Unmarshal(told[1], &flags) != nil {
		return n, fmt.Errorf("%s is no Node.js", path)
	}
	major, _, _ := strings.Cut(n.Version, ".")
	if v, err := strconv.Atoi(major); err != nil || v < leastNode {
		return n, fmt.Errorf("%s is Node.js %.32q; %d or newer is needed", path, n.Version, leastNode)
	}
	switch {
	case slices.Contains(flags, "--permission"):
		n.Flags = []string{"--permission"}
	case slices.Contains(flags, "--experimental-permission"):
		n.Flags = []string{"--experimental-permission"}
	default:
		return n, fmt.Errorf("%s, Node.js %.32q, has no permission model", path, n.Version)
	}
	if slices.Contains(flags, "--allow-net") {
		n.Flags = append(n.Flags, "--allow-net")
	}
	return n, nil
}

// CheckNode refuses a program that others than root or this user may change.
func CheckNode(path string) error {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !filepath.IsAbs(path) || !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0:
		return fmt.Errorf("%s is not a program by its absolute path", path)
	}
	if owner := int(fi.Sys().(*syscall.Stat_t).Uid); owner != 0 && owner != os.Geteuid() || fi.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("refused %s: others than root and this user may change it", path)
	}
	return nil
}

// Places are the directories and the program that a child works with.
type Places struct{ Program, Modules, Auth, Media string }

// Command is the child's command line: it may read its four places, write to
// two of them, start nothing and load no native code.
func (n Node) Command(p Places) []string {
	argv := append([]string{n.Path}, n.Flags...)
	for _, path := range []string{p.Program, p.Modules, p.Auth, p.Media} {
		argv = append(argv, "--allow-fs-read="+path)
	}
	for _, path := range []string{p.Auth, p.Media} {
		argv = append(argv, "--allow-fs-write="+path)
	}
	return append(argv, "--max-old-space-size=256", "--no-warnings", p.Program, "--modules", p.Modules, "--auth", p.Auth, "--media", p.Media)
}
