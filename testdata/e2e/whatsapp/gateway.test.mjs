// The built binary, whole: it installs Baileys, links by a QR code that an
// independent reader reads off its terminal, answers, and survives every way in
// which WhatsApp, the child or the disk lets it down.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import { createServer } from "node:net";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import jsQR from "jsqr";
import { PNG } from "pngjs";
import { until } from "./child.mjs";
import { contact, Mock } from "./mock.mjs";

const home = fs.mkdtempSync(path.join(os.tmpdir(), "openclaw-whatsapp-")), state = path.join(home, "state");
const token = "7d1f0b6c2a9e48f35b60c7d8e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4";
let mock, gateway, port, log = "";

async function freePort() {
  for (let p = 23000; ; p += 111) {
    const s = createServer();
    if (!await new Promise((done) => s.once("error", () => done(false)).listen(p, "127.0.0.1", () => done(true)))) continue;
    s.close();
    await once(s, "close");
    return p;
  }
}

/** Runs a command of the binary; shown gets what it has written so far. */
async function openclaw(args, { env = {}, shown = () => {} } = {}) {
  const child = spawn(process.env.OPENCLAW_BIN, args, { env: { PATH: process.env.PATH, HOME: home, OPENCLAW_STATE_DIR: state, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const out = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"]) child[name].setEncoding("utf8").on("data", (s) => { out[name] += s; shown(out); });
  [out.code] = await once(child, "close");
  return out;
}

async function start(args = ["--whatsapp-test-server"]) {
  gateway = spawn(process.env.OPENCLAW_BIN, ["gateway", ...args], {
    env: { PATH: process.env.PATH, HOME: home, OPENCLAW_STATE_DIR: state, OPENCLAW_WHATSAPP_WEB_SOCKET_URL: mock.url, NODE_OPTIONS: "--must-not-be-seen" }, stdio: ["ignore", "ignore", "pipe"],
  });
  gateway.stderr.on("data", (d) => (log += d));
  gateway.over = once(gateway, "exit");
  for (let up = false; !up; up = await fetch(`http://127.0.0.1:${port}/healthz`).then((r) => r.ok, () => false)) {
    assert.equal(gateway.exitCode, null, log);
    await new Promise((go) => setTimeout(go, 20));
  }
}
async function stop() {
  gateway.kill("SIGTERM");
  assert.equal((await gateway.over)[0], 0, log);
}

const status = async () => JSON.parse((await openclaw(["channels", "status", "--json"])).stdout).channelAccounts.whatsapp[0];
async function reaches(want, ms = 60_000) {
  let s;
  for (const end = performance.now() + ms; ;) {
    s = await status();
    if (Object.entries(want).every(([k, v]) => (v instanceof RegExp ? v.test(s[k]) : s[k] === v))) return s;
    assert.ok(performance.now() < end, `${JSON.stringify(want)} not in time: ${JSON.stringify(s)}`);
  }
}

/** Reads a QR code off a terminal: two modules a character. */
function readCode(text) {
  const rows = text.split("\n").filter((l) => /^[█▀▄ ]{20,}$/.test(l)), scale = 4;
  const side = rows[0].length * scale, data = new Uint8ClampedArray(side * rows.length * 2 * scale * 4);
  for (let y = 0, i = 0; y < rows.length * 2 * scale; y++) {
    for (let x = 0; x < side; x++, i += 4) {
      const block = rows[Math.floor(y / scale / 2)][Math.floor(x / scale)];
      const light = block === "█" || block === (Math.floor(y / scale) % 2 ? "▄" : "▀");
      data.set([light ? 255 : 0, light ? 255 : 0, light ? 255 : 0, 255], i);
    }
  }
  return jsQR(data, side, rows.length * 2 * scale)?.data;
}

/** The child of the gateway, by the kernel. */
function childPid() {
  for (const pid of fs.readdirSync("/proc").filter((n) => /^\d+$/.test(n))) {
    try {
      if (Number(fs.readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1].split(" ")[1]) === gateway.pid) return Number(pid);
    } catch { /* gone meanwhile */ }
  }
}

before(async () => {
  mock = await new Mock().start();
  mock.script = (session) => {
    if (!session.payload.devicePairingData) return session.welcome();
    session.pairDevice("ref-one", "ref-two");
    session.on("node", (node) => { if (node.attrs.id === "paired") session.streamError(515); });
  };
  port = await freePort();
  fs.mkdirSync(state, { mode: 0o700 });
  fs.writeFileSync(path.join(state, "openclaw.json"), JSON.stringify({ gateway: { port, auth: { token } }, channels: { whatsapp: { allowFrom: ["+1 555 222-3333"] } } }), { mode: 0o600 });
});
after(() => {
  gateway?.kill("SIGKILL");
  mock.stop();
  fs.rmSync(home, { recursive: true, force: true });
});

test("without what it runs on, the channel says so and the gateway works", async () => {
  await start();
  const s = await reaches({ state: "failed" });
  assert.match(s.lastError, /not installed; run: openclaw channels install whatsapp/);
  const login = await openclaw(["channels", "login", "whatsapp"]);
  assert.equal(login.code, 1);
  assert.match(login.stderr, /channels install whatsapp/);
  assert.match((await openclaw(["agent", "-m", "hello"])).stdout, /hello/);
});

test("a server of one's own takes the switch, the variable and a loopback address", async () => {
  for (const [args, named] of [[["--whatsapp-test-server"], undefined], [["--whatsapp-test-server"], "ws://192.0.2.1/"], [["--whatsapp-test-server"], "ws://localhost.example/"]]) {
    const refused = await openclaw(["gateway", ...args], { env: named ? { OPENCLAW_WHATSAPP_WEB_SOCKET_URL: named } : {} });
    assert.equal(refused.code, 2, refused.stderr);
  }
});

test("install, and again: by the lock file, with nothing left to do", async () => {
  const bad = await openclaw(["channels", "install", "whatsapp", "--node", "/bin/true"]);
  assert.equal(bad.code, 1);
  assert.match(bad.stderr, /no Node\.js/);
  const env = Object.fromEntries(Object.entries(process.env).filter(([k]) => /^(npm_config_registry|NPM_CONFIG_REGISTRY|HOME|.*_proxy|NODE_EXTRA_CA_CERTS)$/i.test(k)));
  const began = performance.now(), first = await openclaw(["channels", "install", "whatsapp", "--json"], { env });
  assert.equal(first.code, 0, first.stderr);
  console.log(`# installed in ${Math.round(performance.now() - began)} ms`);
  const told = JSON.parse(first.stdout);
  assert.equal(told.changed, true);
  assert.equal(JSON.parse((await openclaw(["channels", "install", "whatsapp", "--json"], { env })).stdout).changed, false);
  for (const e of fs.readdirSync(told.dir, { recursive: true, withFileTypes: true })) {
    assert.ok(e.isFile() || e.isDirectory(), e.name);
    assert.doesNotMatch(e.name, /\.node$/);
  }
});

async function link() {
  let scanned;
  const login = await openclaw(["channels", "login", "whatsapp"], {
    shown: ({ stdout }) => {
      if (scanned || !/^█+\n.*\n█+$/ms.test(stdout.trim()) && !stdout.trim().endsWith("▀")) return;
      scanned = readCode(stdout);
      if (scanned) mock.session.scan(scanned);
    },
  });
  assert.equal(login.code, 0, login.stderr + login.stdout);
  assert.match(login.stdout, /linked as 15550001111@s\.whatsapp\.net/);
  return scanned;
}

test("login shows a code, the phone scans it, 515, open", async () => {
  assert.match(await link(), /ref-one,/);
  const s = await reaches({ state: "open" });
  assert.deepEqual([s.linked, s.connected, s.self], [true, true, "15550001111@s.whatsapp.net"]);
  await until(() => mock.preKeys > 800);
});

test("a text is answered, read and shown as typed; a text is sent and its receipts are taken", async () => {
  await mock.session.inboundEncrypted("IN1", { conversation: "Grüezi 🦀" });
  await until(() => mock.sent.length === 1);
  assert.match(mock.sent[0].message.conversation ?? mock.sent[0].message.extendedTextMessage.text, /Grüezi 🦀/);
  await until(() => mock.reads.some((r) => r.id === "IN1" && r.type === "read") && mock.typed.includes("composing"));
  const sent = await openclaw(["message", "send", "--channel", "whatsapp", "--to", "+15552223333", "-m", "from the operator", "--json"]);
  assert.equal(sent.code, 0, sent.stderr);
  const { messageId } = JSON.parse(sent.stdout);
  assert.equal(mock.sent.at(-1).id, messageId);
  mock.session.receipt(messageId);
  mock.session.receipt(messageId, "read");
  const sessions = (await openclaw(["sessions", "--json"])).stdout;
  assert.match(sessions, /agent:main:whatsapp:direct:15552223333@s\.whatsapp\.net/);
  // A stranger reaches no model, and is told a code.
  mock.session.inbound("IN2", { conversation: "let me in" }, { from: "15559998888@s.whatsapp.net" });
  await until(() => mock.sent.some((m) => /pairing approve whatsapp [A-Z2-9]{8}/.test(JSON.stringify(m.message))));
});

test("a picture is fetched for who was let in, and for nobody else", async () => {
  const picture = (id, name, attrs) => mock.session.inbound(id, { imageMessage: {
    mimetype: "image/png", fileLength: 10, mediaKey: Buffer.alloc(32, 1), url: mock.url.replace("ws", "http") + name, directPath: `/${name}` } }, attrs);
  picture("P1", "of-a-stranger", { from: "15559998888@s.whatsapp.net" });
  picture("P2", "of-a-friend");
  await until(() => mock.sent.some((m) => /\[image\.png, image\/png was not read\]/.test(JSON.stringify(m.message)))); // there is none
  assert.ok(mock.visits.includes("/of-a-friend") && !mock.visits.includes("/of-a-stranger"), String(mock.visits));
});

test("the child, from outside: environment, descriptors, directory, files", async () => {
  const pid = childPid();
  const env = Object.fromEntries(fs.readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").filter(Boolean).map((l) => l.split(/=(.*)/s)));
  assert.deepEqual(Object.keys(env).sort(), ["HOME", "LANG", "OPENCLAW_WHATSAPP_WEB_SOCKET_URL", "PATH", "TMPDIR"]);
  assert.equal(fs.readlinkSync(`/proc/${pid}/cwd`), path.join(state, "channels/whatsapp+default"));
  for (const fd of fs.readdirSync(`/proc/${pid}/fd`)) {
    let to;
    try { to = fs.readlinkSync(`/proc/${pid}/fd/${fd}`); } catch { continue; } // closed meanwhile
    assert.ok(!to.startsWith(state) || to.includes("/auth/") || to.includes("/media/"), to); // the journal and the lock are ours
    if (Number(fd) <= 2) assert.match(to, /^(pipe|socket):/);
  }
  for (const e of fs.readdirSync(path.join(state, "channels"), { recursive: true, withFileTypes: true })) {
    const file = path.join(e.parentPath ?? e.path, e.name), stat = fs.statSync(file, { throwIfNoEntry: false });
    if (stat) assert.equal(stat.mode & 0o777, stat.isDirectory() ? 0o700 : 0o600, file);
  }
});

test("a backup while it runs has the account and not the packages", async () => {
  const file = path.join(home, "backup.tar.gz");
  assert.equal((await openclaw(["backup", "create", "--output", file])).code, 0);
  assert.equal((await openclaw(["backup", "verify", file])).code, 0);
  const names = execFileSync("tar", ["-tzf", file], { encoding: "utf8", maxBuffer: 64 << 20 });
  assert.match(names, /channels\/whatsapp\+default\/auth\/account\/creds\.json\n/);
  assert.doesNotMatch(names, /node_modules/);
});

test("a child that is killed comes back", async () => {
  const pid = childPid();
  process.kill(pid, "SIGKILL");
  await until(() => childPid() && childPid() !== pid);
  await reaches({ state: "open" });
  const sent = await openclaw(["message", "send", "--channel", "whatsapp", "--to", "+15552223333", "-m", "back again"]);
  assert.equal(sent.code, 0, sent.stderr);
});

test("the gateway's kill takes the child along", async () => {
  const pid = childPid();
  gateway.kill("SIGKILL");
  await gateway.over;
  await until(() => !fs.existsSync(`/proc/${pid}`) || /^State:\tZ/m.test(fs.readFileSync(`/proc/${pid}/status`, "utf8")));
  await start();
  await reaches({ state: "open" });
});

test("440 waits for the operator; 503 does not", async () => {
  const script = mock.script, held = [];
  mock.script = (session) => held.push(session); // or it is over before it is seen
  mock.session.streamError(503, "service-unavailable");
  await reaches({ state: /^(waiting|connecting)$/, code: 503 });
  mock.script = script;
  for (const session of held) script(session);
  await reaches({ state: "open" });
  mock.session.streamError(undefined, "conflict", { type: "replaced" });
  const s = await reaches({ state: "failed", terminal: true, code: 440 });
  assert.match(s.lastError, /another session took this connection over/);
  const logins = mock.logins, pid = childPid();
  const sent = await openclaw(["message", "send", "--channel", "whatsapp", "--to", "+15552223333", "-m", "x"]);
  assert.equal(sent.code, 1);
  assert.match(sent.stderr, /took this connection over/);
  await new Promise((go) => setTimeout(go, 3000));
  assert.deepEqual([mock.logins, childPid()], [logins, pid]);
  assert.equal((await openclaw(["channels", "login", "whatsapp"])).code, 0);
  await reaches({ state: "open", terminal: undefined });
});

test("401: not linked, and everything says NOT_LINKED", async () => {
  mock.session.streamError(401, "conflict", { type: "device_removed" });
  const s = await reaches({ state: "not-linked", terminal: true, code: 401 });
  assert.equal(s.linked, false);
  const params = JSON.stringify({ channel: "whatsapp", to: "+15552223333", message: "x", idempotencyKey: "k" });
  for (const args of [["call", "send", "--params", params], ["call", "web.login.wait", "--params", "{}"]]) {
    const refused = await openclaw([...args, "--json"]);
    assert.equal(refused.code, 1);
    assert.equal(JSON.parse(refused.stdout).error.code, "NOT_LINKED", refused.stdout);
  }
  // Over RPC: the picture says what the text says.
  const told = JSON.parse((await openclaw(["call", "web.login.start", "--params", "{}", "--json"])).stdout);
  const png = PNG.sync.read(Buffer.from(told.qrDataUrl.replace("data:image/png;base64,", ""), "base64"));
  assert.equal(jsQR(new Uint8ClampedArray(png.data), png.width, png.height).data, told.qr);
  mock.session.scan(told.qr);
  const linked = await openclaw(["call", "web.login.wait", "--params", JSON.stringify({ currentQrDataUrl: told.qrDataUrl }), "--json"]);
  assert.equal(JSON.parse(linked.stdout).connected, true, linked.stdout);
});

test("logout unlinks, and loses the account", async () => {
  await reaches({ state: "open" });
  assert.equal((await openclaw(["channels", "logout", "whatsapp"])).code, 0);
  await reaches({ state: "not-linked" });
  await until(() => !fs.existsSync(path.join(state, "channels/whatsapp+default/auth/account/creds.json")));
  await link();
  await stop();
});

test("a package that was changed, and a Node.js that is gone, are refused by name", async () => {
  const [dir] = fs.readdirSync(path.join(state, "cache")).filter((n) => n.startsWith("whatsapp-"));
  const tree = path.join(state, "cache", dir), file = path.join(tree, "node_modules/baileys/lib/index.js");
  fs.appendFileSync(file, "\n");
  await start();
  const s = await reaches({ state: "failed" });
  assert.match(s.lastError, /node_modules\/baileys\/lib\/index\.js was changed/);
  assert.equal(childPid(), undefined);
  fs.truncateSync(file, fs.statSync(file).size - 1);
  fs.renameSync(path.join(tree, "NODE"), path.join(home, "NODE"));
  fs.writeFileSync(path.join(tree, "NODE"), "/nonexistent/node", { mode: 0o600 });
  assert.match((await openclaw(["channels", "login", "whatsapp"])).stderr, /\/nonexistent\/node is gone/);
  fs.renameSync(path.join(home, "NODE"), path.join(tree, "NODE"));
  assert.equal((await openclaw(["channels", "login", "whatsapp"])).code, 0);
  await reaches({ state: "open" });
  await stop();
});

test("neither codes nor keys nor texts are in the logs", () => {
  const all = log + fs.readdirSync(path.join(state, "logs")).map((f) => fs.readFileSync(path.join(state, "logs", f), "utf8")).join("");
  for (const secret of ["ref-one", "wa.me", "Grüezi", "privKey", "Closing session", token]) assert.ok(!all.includes(secret), secret);
  assert.ok(all.includes("channel up"));
  assert.deepEqual(mock.errors, []);
});
