// Runs the WhatsApp child as the gateway does: an environment of its own, three
// descriptors, Node's permission model, a memory cap; and reads its lines.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { wa } from "./mock.mjs";

const modules = process.env.WHATSAPP_MODULES, program = process.env.WHATSAPP_CHILD;
const permission = process.allowedNodeEnvironmentFlags.has("--permission") ? ["--permission"] : ["--experimental-permission"];
if (process.allowedNodeEnvironmentFlags.has("--allow-net")) permission.push("--allow-net");

const places = [];
process.once("exit", () => places.forEach((dir) => fs.rmSync(dir, { recursive: true, force: true })));

/** Two fresh directories; linked ones hold the credentials of an account. */
export function place(me) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "whatsapp-"));
  places.push(dir);
  const at = { dir, auth: path.join(dir, "auth"), media: path.join(dir, "media") };
  for (const d of [at.auth, at.media]) fs.mkdirSync(d, { mode: 0o700 });
  if (me) {
    const creds = { ...wa.initAuthCreds(), me, accountSyncCounter: 1 };
    fs.mkdirSync(path.join(at.auth, "account"), { mode: 0o700 });
    fs.writeFileSync(path.join(at.auth, "account/creds.json"), JSON.stringify(creds, wa.BufferJSON.replacer), { mode: 0o600 });
  }
  return at;
}

export class Child {
  lines = [];
  stderr = "";
  #held = "";
  #waiting = new Set();
  #at = 0; // what next has passed

  constructor(at, { url, args = url ? ["--test-socket"] : [], env = {}, read = [program, modules, at.auth, at.media] } = {}) {
    this.started = performance.now();
    this.process = spawn(
      process.execPath,
      [
        ...permission, ...read.map((p) => `--allow-fs-read=${p}`), ...[at.auth, at.media].map((p) => `--allow-fs-write=${p}`),
        "--max-old-space-size=256", "--no-warnings", program, "--modules", modules, "--auth", at.auth, "--media", at.media, ...args,
      ],
      { cwd: at.dir, env: { ...(url && { OPENCLAW_WHATSAPP_WEB_SOCKET_URL: url }), ...env }, stdio: ["pipe", "pipe", "pipe"] },
    );
    this.exited = once(this.process, "exit").then(([code, signal]) => signal ?? code);
    this.process.stdin.on("error", () => {});
    this.process.stderr.setEncoding("utf8").on("data", (s) => (this.stderr += s));
    this.process.stdout.setEncoding("utf8").on("data", (s) => {
      const parts = (this.#held + s).split("\n");
      this.#held = parts.pop();
      for (const part of parts) {
        assert.ok(Buffer.byteLength(part) < 1 << 20);
        this.lines.push(JSON.parse(part));
      }
      for (const look of this.#waiting) look();
    });
    this.exited.then(() => { for (const look of this.#waiting) look(true); });
  }
  /** The next line, from where the last one was found, that has these fields. */
  next(fields, ms = 60_000) {
    return new Promise((found, fail) => {
      const end = (why) => fail(new Error(`${why}: ${JSON.stringify(fields)} after ${JSON.stringify(this.lines.slice(-6))} ${this.stderr}`));
      const look = (over) => {
        for (; this.#at < this.lines.length; this.#at++) {
          const line = this.lines[this.#at];
          if (!Object.entries(fields).every(([k, v]) => line[k] === v)) continue;
          this.#at++;
          this.#waiting.delete(look);
          clearTimeout(alarm);
          return found(line);
        }
        if (over) this.#waiting.delete(look), clearTimeout(alarm), end("ended without");
      };
      const alarm = setTimeout(() => { this.#waiting.delete(look); end("no"); }, ms);
      this.#waiting.add(look);
      look();
    });
  }
  write(text) {
    this.process.stdin.write(text);
  }
  tell(message) {
    this.write(JSON.stringify(message) + "\n");
  }
  hello() {
    this.tell({ type: "hello", protocol: 1, channel: "whatsapp", account: "default" });
    return this;
  }
  async open() {
    this.hello();
    return this.next({ type: "state", state: "open" });
  }
  kill() {
    this.process.kill("SIGKILL");
    return this.exited;
  }
  async stop() {
    this.tell({ type: "stop" });
    assert.equal(await this.exited, 0);
    assert.equal(this.lines.at(-1).state, "stopped");
    assert.equal(this.stderr, "");
  }
}

/** Waits until a condition of the other side holds. */
export async function until(holds, ms = 60_000) {
  for (const end = performance.now() + ms; !holds();) {
    assert.ok(performance.now() < end, `not in time: ${holds}`);
    await new Promise((go) => setTimeout(go, 10));
  }
}
