// The built binary as a Telegram bot against crabline, a Bot API that other
// people wrote: a stranger's way in, a conversation, restarts, a second gateway.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { freePort, provider, token } from "./gateway.mjs";

const crabline = fileURLToPath(new URL("node_modules/@openclaw/crabline/dist/src/bin/crabline.js", import.meta.url));
const homes = [], running = [];
let server, manifest, models, one;

async function until(what, ok, ms = 60_000) {
  for (const end = Date.now() + ms; ; await new Promise((r) => setTimeout(r, 20))) {
    const got = await ok();
    if (got) return got;
    if (Date.now() > end) assert.fail(`${what}: not seen; the API was told ${manifest && JSON.stringify(sent())}`);
  }
}

/** The texts that the API took, in order; the last line may be half written. */
const sent = () =>
  fs.readFileSync(manifest.recorderPath, "utf8").split("\n").slice(0, -1).filter(Boolean).map((l) => JSON.parse(l))
    .filter((e) => e.accepted && /\/(sendMessage|editMessageText)$/.test(e.path)).map((e) => e.body?.text);

const say = async (fromId, text, more = {}) => {
  const answer = await fetch(manifest.endpoints.adminInboundUrl, {
    method: "POST", headers: { "content-type": "application/json", "x-crabline-admin-token": manifest.adminToken },
    body: JSON.stringify({ chatId: fromId, fromId, chatType: "private", text, ...more }),
  });
  assert.equal(answer.status, 200, await answer.text());
};

class Gateway {
  constructor(port, more = {}) {
    this.home = fs.mkdtempSync(path.join(os.tmpdir(), "openclaw-tg-"));
    homes.push(this.home);
    this.state = path.join(this.home, "state");
    fs.mkdirSync(this.state, { mode: 0o700 });
    this.base = `http://127.0.0.1:${port}`;
    fs.writeFileSync(path.join(this.state, "openclaw.json"), JSON.stringify({
      gateway: { port, auth: { token } },
      agents: { defaults: { model: "up/m" } },
      models: { providers: { up: { baseUrl: models.url, apiKey: "sk-e2e-key", models: [{ id: "m" }] } } },
      channels: { telegram: { botToken: manifest.botToken, apiRoot: manifest.endpoints.apiRoot, groups: { "-100500": { requireMention: false, allowFrom: [7] } }, ...more } },
    }), { mode: 0o600 });
    this.env = { PATH: process.env.PATH, HOME: this.home, OPENCLAW_STATE_DIR: this.state };
    this.log = "";
  }
  async start() {
    this.child = spawn(process.env.OPENCLAW_BIN, ["gateway"], { env: this.env, stdio: ["ignore", "ignore", "pipe"] });
    running.push(this.child);
    this.child.stderr.setEncoding("utf8").on("data", (s) => (this.log += s));
    await until("the gateway", () => fetch(`${this.base}/healthz`).then((r) => r.ok, () => false));
  }
  async end(signal) {
    const gone = once(this.child, "exit");
    this.child.kill(signal);
    await gone;
  }
  async cli(...args) {
    const { stdout } = await promisify(execFile)(process.env.OPENCLAW_BIN, args, { env: this.env });
    return stdout;
  }
  async account() {
    return JSON.parse(await this.cli("channels", "status", "--json")).channelAccounts.telegram[0];
  }
}

before(async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "openclaw-tg-"));
  homes.push(dir);
  server = spawn(process.execPath, [crabline, "--json", "serve", "telegram", "--recorder", path.join(dir, "recorder.jsonl")], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  server.stdout.setEncoding("utf8").on("data", (s) => (text += s));
  await until("crabline", () => { try { return (manifest = JSON.parse(text)); } catch { return false; } });
  fs.closeSync(fs.openSync(manifest.recorderPath, "a"));
  models = await provider();
  one = new Gateway(await freePort());
  await one.start();
});
after(async () => {
  for (const child of running) if (child.exitCode === null) child.kill("SIGKILL");
  models?.stop();
  server.kill();
  await once(server, "exit");
  for (const home of homes) fs.rmSync(home, { recursive: true, force: true });
});

test("a stranger is told a code, reaches no model, and is let in by the operator", async () => {
  await say(7, "let me in");
  const text = await until("the code", () => sent().find((t) => t?.includes("openclaw pairing approve telegram ")));
  const code = text.match(/telegram ([A-Z2-9]{8})/)[1];
  assert.equal(models.requests.length, 0);
  assert.match(await one.cli("pairing", "list", "telegram"), new RegExp(code));
  await one.cli("pairing", "approve", "telegram", code);
  await say(7, "hello");
  await until("the answer", () => sent().includes("you said: hello 🦀"));
  assert.equal((await one.account()).state, "open");
});

test("the operator writes by the command line", async () => {
  await one.cli("message", "send", "--channel", "telegram", "--to", "7", "--text", "from the *operator* <b>");
  assert.ok(sent().some((t) => t === "from the *operator* &lt;b&gt;"), JSON.stringify(sent()));
});

test("a long answer arrives whole, in pieces that the API takes", async () => {
  const word = (i) => `${i}🦀`, count = 1100;
  await say(7, Array.from({ length: count }, (_, i) => word(i)).join(" ").slice(0, 4090));
  const before = sent().length;
  await until("the answer", () => sent().some((t) => t?.endsWith(" 🦀") && !t.startsWith("you said: hello")));
  const text = models.requests.at(-1).messages.at(-1).content;
  const parts = sent().slice(-2);
  assert.ok(parts.every((t) => t.length <= 4096), parts.map((t) => t.length).join());
  assert.equal(parts.join(" ").replace(/\s+/g, ""), `you said: ${text} 🦀`.replace(/\s+/g, ""), `${before}`);
});

test("a group is heard by its id, and who is not in its list is not", async () => {
  const asked = models.requests.length;
  await say(8, "stranger", { chatId: -100500, chatType: "supergroup" });
  await say(7, "elsewhere", { chatId: -100501, chatType: "supergroup" });
  await say(7, "all", { chatId: -100500, chatType: "supergroup" });
  await until("the answer", () => sent().some((t) => /all 🦀$/.test(t ?? "")));
  assert.equal(models.requests.length, asked + 1);
});

test("a restart and a kill -9 lose nothing, and meet no poll of their own", async () => {
  for (const signal of ["SIGTERM", "SIGKILL"]) {
    await one.end(signal);
    await say(7, `while down after ${signal}`);
    await one.start();
    await until("the answer", () => sent().includes(`you said: while down after ${signal} 🦀`), 60_000);
    if (signal === "SIGTERM") assert.doesNotMatch(one.log, /another program polls/);
  }
  const texts = sent().filter((t) => t?.startsWith("you said: while"));
  assert.equal(texts.length, 2, JSON.stringify(texts));
});

test("of two gateways with one token one says so, and the other goes on", async () => {
  const two = new Gateway(await freePort(), { allowFrom: [7] });
  await two.start();
  const says = (a) => a.state === "waiting" && /another program polls with this bot token/.test(a.lastError);
  await until("the word of one", async () => says(await one.account()) || says(await two.account()));
  const states = [await one.account(), await two.account()];
  assert.deepEqual(states.map((a) => a.connected).sort(), [false, true], JSON.stringify(states));
  await say(7, "still there?");
  await until("the answer", () => sent().includes("you said: still there? 🦀"));
  assert.equal((`${one.log}${two.log}`.match(/another program polls/g) ?? []).length, 1);
  await two.end("SIGTERM");
});

test("the token is in no log", async () => {
  await one.end("SIGTERM");
  assert.ok(!one.log.includes(manifest.botToken.split(":")[1]));
});
