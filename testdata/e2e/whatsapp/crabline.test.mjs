// The WhatsApp child on real Baileys against crabline, a WhatsApp server that
// other people wrote: it holds the recipients' Signal keys and decrypts.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Child, place, until } from "./child.mjs";

const crabline = fileURLToPath(new URL("node_modules/@openclaw/crabline/dist/src/bin/crabline.js", import.meta.url));
const ada = "15552223333@s.whatsapp.net", group = "120363000000000001@g.us";
let server, manifest, at, child;
const recorded = () => fs.readFileSync(manifest.recorderPath, "utf8").split("\n").slice(0, -1).filter(Boolean).map((l) => JSON.parse(l)); // the last may be half written
const inbound = async (body) => {
  const answer = await fetch(manifest.endpoints.adminInboundUrl, {
    method: "POST", headers: { "content-type": "application/json", "x-crabline-admin-token": manifest.adminToken }, body: JSON.stringify(body),
  });
  assert.equal(answer.status, 200, await answer.text());
};

before(async () => {
  at = place({ id: "15550000000:1@s.whatsapp.net", name: "bot" });
  server = spawn(process.execPath, [crabline, "--json", "serve", "whatsapp", "--recorder", path.join(at.dir, "recorder.jsonl")], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  server.stdout.setEncoding("utf8").on("data", (s) => (text += s));
  await until(() => { try { return (manifest = JSON.parse(text)); } catch { return false; } }, 60_000);
  child = new Child(at, { url: manifest.endpoints.baileysWebSocketUrl });
});
after(async () => {
  await child?.kill();
  server.kill();
  await once(server, "exit");
});

test("open, as the account that crabline serves", async () => {
  assert.equal((await child.open()).self, manifest.selfJid);
});

test("a text goes out encrypted, and crabline reads it", async () => {
  for (const [i, text] of ["first", "Grüezi 你好 🦀", "x".repeat(20_000)].entries()) {
    child.tell({ type: "send", id: `s${i}`, to: ada, text });
    const { messageId } = await child.next({ type: "sent", id: `s${i}` });
    await until(() => recorded().some((e) => JSON.stringify(e).includes(messageId) && JSON.stringify(e).includes(JSON.stringify(text).slice(1, -1))));
  }
});

test("texts come in, from a person and from a group", async () => {
  await inbound({ chatJid: ada, senderJid: ada, pushName: "Ada", text: "Hi 🦀" });
  const one = await child.next({ type: "inbound" });
  assert.deepEqual([one.from, one.chat, one.group, one.name, one.text], [ada, ada, false, "Ada", "Hi 🦀"]);
  await inbound({ chatJid: group, senderJid: ada, pushName: "Ada", text: "all" });
  const two = await child.next({ type: "inbound" });
  assert.deepEqual([two.from, two.chat, two.group, two.text], [ada, group, true, "all"]);
  child.tell({ type: "send", id: "r", to: ada, text: "answer", replyTo: one.id });
  await child.next({ type: "sent", id: "r" });
});

test("it stops, and nothing of the conversation was printed", async () => {
  await child.stop();
});
