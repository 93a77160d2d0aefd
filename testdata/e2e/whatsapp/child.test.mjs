// The WhatsApp child on real Baileys against a server of our own.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { Child, place, until } from "./child.mjs";
import { account, accountLid, contact, Mock, wa } from "./mock.mjs";

const me = { id: account, lid: accountLid, name: "bot" }, self = "15550001111@s.whatsapp.net";
const group = "120363000000000001@g.us";
const tls = { key: process.env.WHATSAPP_TLS_KEY, cert: process.env.WHATSAPP_TLS_CERT };
let mock, started = [];
const run = (at, more = {}) => {
  const child = new Child(at, { url: mock.url, env: { NODE_EXTRA_CA_CERTS: tls.cert }, ...more });
  started.push(child);
  return child;
};
beforeEach(async () => { mock = await new Mock().start(tls); });
afterEach(async () => {
  for (const child of started) await child.kill();
  started = [];
  mock.stop();
  assert.deepEqual(mock.errors, []);
});

const files = (dir) => fs.readdirSync(dir, { recursive: true, withFileTypes: true }).map((e) => path.join(e.parentPath ?? e.path, e.name));
function guarded(dir) {
  for (const file of [dir, ...files(dir)]) {
    const stat = fs.statSync(file, { throwIfNoEntry: false }); // the child goes on working
    if (stat) assert.equal(stat.mode & 0o777, stat.isDirectory() ? 0o700 : 0o600, file);
  }
}

test("QR, pairing, 515 and open in one run; then every way to be closed", async () => {
  const at = place(), child = run(at);
  mock.script = (session) => {
    if (!session.payload.devicePairingData) return session.welcome();
    session.pairDevice("ref-one", "ref-two");
    session.on("node", (node) => { if (node.attrs.id === "paired") session.streamError(515); });
  };
  const hello = await child.next({ type: "hello" });
  assert.equal(child.lines[0], hello);
  assert.equal(hello.protocol, 1);
  console.log(`# hello after ${Math.round(performance.now() - child.started)} ms`);
  child.hello();
  await child.next({ state: "not-linked" });
  child.tell({ type: "send", id: "s0", to: contact, text: "too early" });
  assert.equal((await child.next({ type: "failed", id: "s0" })).code, "NOT_LINKED");

  child.tell({ type: "login" });
  await child.next({ state: "connecting" });
  const qr = await child.next({ type: "qr" });
  assert.match(qr.text, /ref-one,/);
  assert.equal(qr.expiresInMs, 60000);
  mock.session.scan(qr.text);
  assert.equal((await child.next({ state: "closed", code: 515 })).retryInMs, 0);
  assert.equal((await child.next({ state: "open" })).self, self);
  await until(() => mock.preKeys > 800);
  guarded(at.auth);
  console.log(`# resident ${fs.readFileSync(`/proc/${child.process.pid}/status`, "utf8").match(/VmRSS:\s+(\d+)/)[1] >> 10} MiB`);

  const closings = [
    [428, () => mock.session.ws.close()], [408, () => mock.session.failure(408)], [503, () => mock.session.streamError(503, "service-unavailable")],
    [undefined, () => mock.session.ws.terminate()],
  ];
  for (const [code, end] of closings) {
    end();
    const line = await child.next({ state: "closed" });
    if (code) assert.equal(line.code, code);
    assert.ok(line.retryInMs >= 500 && line.retryInMs <= 16000 && !line.terminal, JSON.stringify(line));
    if (code !== 428 && code !== 408) child.tell({ type: "login" }); // the operator need not wait
    await child.next({ state: "open" });
  }
  mock.session.streamError(500, "bad");
  assert.ok((await child.next({ state: "closed", code: 500 })).retryInMs > 0);
  await child.next({ state: "open" });
  mock.session.streamError(500, "bad");

  // Terminal: nothing is tried until the operator asks.
  const terminal = [[500], [440, () => mock.session.streamError(undefined, "conflict", { type: "replaced" })], [403, () => mock.session.failure(403)],
    [411, () => mock.session.send("ib", {}, [{ tag: "downgrade_webclient", attrs: {} }])]];
  for (const [code, end] of terminal) {
    end?.();
    const line = await child.next({ state: "closed", code });
    assert.equal(line.terminal, true);
    assert.equal(line.retryInMs, undefined);
    const logins = mock.logins;
    child.tell({ type: "send", id: `s${code}`, to: contact, text: "x" });
    assert.equal((await child.next({ type: "failed", id: `s${code}` })).code, "RETRY");
    await new Promise((go) => setTimeout(go, 300));
    assert.equal(mock.logins, logins);
    child.tell({ type: "login" });
    await child.next({ state: "open" });
  }

  mock.session.streamError(401, "conflict", { type: "device_removed" });
  const gone = await child.next({ state: "not-linked" });
  assert.deepEqual([gone.code, gone.terminal], [401, true]);
  assert.equal(JSON.parse(fs.readFileSync(path.join(at.auth, "previous/creds.json"))).me.id, account);
  assert.ok(!fs.existsSync(path.join(at.auth, "account/creds.json")));
  guarded(at.auth);
  child.tell({ type: "send", id: "s9", to: contact, text: "x" });
  assert.equal((await child.next({ type: "failed", id: "s9" })).code, "NOT_LINKED");

  // Linked anew; and unlinked, which alone deletes.
  child.tell({ type: "login" });
  const again = await child.next({ type: "qr" });
  mock.session.scan(again.text);
  await child.next({ state: "open" });
  let removed;
  mock.session.on("node", (node) => { removed ??= wa.getBinaryNodeChild(node, "remove-companion-device")?.attrs.jid; });
  child.tell({ type: "logout" });
  await child.next({ state: "not-linked" });
  assert.equal(removed, account);
  assert.deepEqual(fs.readdirSync(path.join(at.auth, "account"), { recursive: true }), ["keys"]);
  assert.deepEqual(fs.readdirSync(at.auth).sort(), ["account", "inbox", "settled"]);
  await child.stop();
});

test("a QR code that nobody scans ends the login, not the child", async () => {
  const child = run(place());
  mock.script = (session) => session.pairDevice();
  child.hello();
  child.tell({ type: "login" });
  assert.equal((await child.next({ state: "not-linked", code: 408 })).code, 408);
  await child.stop();
});

test("text, quotes, media, receipts: encrypted both ways", async () => {
  const at = place(me), child = run(at);
  assert.equal((await child.open()).self, self);
  await until(() => mock.preKeys > 800);

  await mock.session.inboundEncrypted("IN1", { conversation: "Grüezi 你好 🦀" });
  const first = await child.next({ type: "inbound" });
  assert.deepEqual(first, { type: "inbound", seq: 1, id: "IN1", from: contact, chat: contact, group: false, name: "Ada", text: "Grüezi 你好 🦀", timestamp: 1700000000000 });

  child.tell({ type: "send", id: "a", to: contact, text: "see https://example.com/", replyTo: "IN1" });
  const sent = await child.next({ type: "sent", id: "a" });
  const got = mock.sent.at(-1);
  assert.equal(got.id, sent.messageId);
  assert.equal(got.message.extendedTextMessage.text, "see https://example.com/");
  assert.equal(got.message.extendedTextMessage.contextInfo.stanzaId, "IN1");
  assert.equal(got.message.extendedTextMessage.contextInfo.quotedMessage.conversation, "Grüezi 你好 🦀");
  for (const [type, status] of [[undefined, "delivered"], ["read", "read"]]) {
    mock.session.receipt(sent.messageId, type);
    assert.equal((await child.next({ type: "receipt", messageId: sent.messageId })).status, status);
  }

  const picture = randomBytes(70_000), file = path.join(at.media, "p.png");
  fs.writeFileSync(file, picture);
  child.tell({ type: "send", id: "b", to: "+15552223333", text: "caption", media: [{ path: file, mime: "image/png", name: "p.png" }, { path: file, mime: "application/pdf", name: "Zürich.pdf" }] });
  await child.next({ type: "sent", id: "b" });
  const [image, paper] = mock.sent.slice(-2).map((s) => s.message);
  assert.equal(image.imageMessage.caption, "caption");
  assert.equal(paper.documentMessage.fileName, "Zürich.pdf");
  const opened = async (m, kind) => Buffer.concat(await (await wa.downloadContentFromMessage({ url: `${mock.url.replace("ws", "http")}${m.directPath.slice(1)}`, mediaKey: m.mediaKey }, kind)).toArray());
  assert.ok((await opened(image.imageMessage, "image")).equals(picture));
  assert.ok((await opened(paper.documentMessage, "document")).equals(picture));

  // The same file comes back from the contact.
  const { mediaKey, directPath } = image.imageMessage;
  const back = (id, more) => mock.session.inbound(id, { imageMessage: { mimetype: "image/png", fileLength: 70000, mediaKey, caption: "back", ...more } });
  back("IN2", { url: mock.url.replace("ws", "http") + directPath.slice(1), directPath });
  const offered = await child.next({ type: "inbound", id: "IN2" });
  assert.deepEqual([offered.text, offered.media], ["back", [{ mime: "image/png", name: "image.png", size: 70000 }]]);
  assert.deepEqual(fs.readdirSync(at.media).filter((f) => f !== ".tmp" && f !== "p.png"), []); // nothing before it is asked for
  child.tell({ type: "fetch", seq: offered.seq });
  const media = (await child.next({ type: "media", seq: offered.seq })).media[0];
  assert.ok(media.path.startsWith(at.media));
  assert.equal(media.size, 70000);
  assert.ok(fs.readFileSync(media.path).equals(picture));
  // Addresses that the sender made up are not visited.
  back("IN3", { url: "https://169.254.169.254/latest", directPath: "@127.0.0.1/x" });
  child.tell({ type: "ack", seq: offered.seq });
  const { seq } = await child.next({ type: "inbound", id: "IN3" });
  child.tell({ type: "fetch", seq });
  const refused = await child.next({ type: "media", seq });
  assert.deepEqual([refused.media, refused.message], [undefined, "the address is not WhatsApp's"]);

  child.tell({ type: "typing", to: contact, on: true });
  child.tell({ type: "typing", to: contact, on: false });
  child.tell({ type: "read", chat: contact, message: "IN1" });
  await until(() => mock.typed.length === 2 && mock.reads.some((r) => r.type === "read" && r.id === "IN1"));
  assert.deepEqual(mock.typed, ["composing", "paused"]);
  child.tell({ type: "react", chat: contact, message: "IN1", emoji: "👀" });
  const reacted = () => mock.sent.find((s) => s.message.reactionMessage)?.message.reactionMessage;
  await until(reacted);
  assert.deepEqual([reacted().text, reacted().key.id], ["👀", "IN1"]);

  mock.ack = () => ({ error: "479" });
  child.tell({ type: "send", id: "c", to: contact, text: "x" });
  assert.equal((await child.next({ type: "failed", id: "c" })).code, "PERMANENT");
  mock.ack = () => ({ error: "429" });
  child.tell({ type: "send", id: "d", to: contact, text: "x" });
  assert.equal((await child.next({ type: "failed", id: "d" })).code, "RATE");
  // The connection goes before the acknowledgement: sent again, it has the same id.
  mock.ack = () => (mock.session.ws.terminate(), null);
  child.tell({ type: "send", id: "e", to: contact, text: "once" });
  assert.equal((await child.next({ type: "failed", id: "e" })).code, "RETRY");
  mock.ack = () => ({});
  await child.next({ state: "open" });
  child.tell({ type: "send", id: "e", to: contact, text: "once" });
  const { messageId } = await child.next({ type: "sent", id: "e" });
  assert.deepEqual(mock.sent.slice(-2).map((s) => s.id), [messageId, messageId]);
  guarded(at.auth);
  assert.deepEqual(fs.readdirSync(path.join(at.media, ".tmp")), []);
  await child.stop();
});

test("media are fetched when they are asked for, up to the limit, and delay no other chat", async () => {
  const at = place(me), child = run(at), ada = "15554445555@s.whatsapp.net";
  child.tell({ type: "hello", protocol: 1, mediaMaxBytes: 1000 });
  await child.next({ state: "open" });
  const url = `${mock.url.replace("ws", "http")}huge`, directPath = "/huge", mediaKey = randomBytes(32);
  mock.uploads.set("/huge", randomBytes(20_026));
  const video = (id, fileLength, attrs) => mock.session.inbound(id, { videoMessage: { mimetype: "video/mp4", fileLength, mediaKey, url, directPath } }, attrs);
  video("V1", 2000, { from: ada });
  const first = await child.next({ type: "inbound", id: "V1" });
  mock.session.inbound("V2", { conversation: "behind it" }, { from: ada });
  for (let i = 0; i < 20; i++) video(`W${i}`, 900, { from: `1555000${1000 + i}@s.whatsapp.net` });
  mock.session.inbound("OWN", { conversation: "of another chat" });
  await child.next({ type: "inbound", id: "OWN" });
  assert.ok(!child.lines.some((l) => l.id === "V2"));
  const asked = child.lines.filter((l) => l.id?.startsWith("W"));
  assert.equal(asked.length, 20);
  for (const { seq } of [first, ...asked]) child.tell({ type: "fetch", seq }), child.tell({ type: "fetch", seq });
  assert.equal((await child.next({ type: "media", seq: first.seq })).message, "larger than 1000 bytes"); // as it says of itself
  await until(() => child.lines.filter((l) => l.type === "media").length === 8); // so many at a time
  child.tell({ type: "ack", seq: first.seq });
  await child.next({ type: "inbound", id: "V2" });
  for (const [i, { seq }] of asked.entries()) { // each acknowledgement makes room for the next
    await until(() => child.lines.filter((l) => l.type === "media").length === Math.min(9 + i, 21));
    assert.match(child.lines.find((l) => l.type === "media" && l.seq === seq).message, /./);
    child.tell({ type: "ack", seq });
  }
  assert.deepEqual(fs.readdirSync(at.media), [".tmp"]);
  await child.stop();
});

test("whatever id a sender chooses, its message is passed on, answered and read", async () => {
  const at = place(me), ids = ["a b", "x".repeat(3000), "\u202e1", "odd-1"];
  let child = run(at);
  await child.open();
  for (const id of ids) mock.session.inbound(id, { conversation: id.slice(0, 9) });
  const got = [];
  for (const id of ids) got.push(await child.next({ type: "inbound" }));
  for (const m of got) assert.match(m.id, /^odd-[0-9a-f]{32}$/);
  assert.equal(new Set(got.map((m) => m.id)).size, ids.length);
  for (const [i, m] of got.entries()) {
    child.tell({ type: "send", id: `r${i}`, to: contact, text: "re", replyTo: m.id });
    await child.next({ type: "sent", id: `r${i}` });
    assert.equal(mock.sent.at(-1).message.extendedTextMessage.contextInfo.stanzaId, ids[i]);
    child.tell({ type: "read", chat: contact, message: m.id });
    await until(() => mock.reads.some((r) => r.type === "read" && r.id === ids[i]));
  }
  await child.kill();
  child = run(at);
  await child.open();
  await until(() => child.lines.filter((l) => l.type === "inbound").length === ids.length);
  assert.deepEqual(child.lines.filter((l) => l.type === "inbound").map((m) => m.id), got.map((m) => m.id));
  child.tell({ type: "send", id: "later", to: contact, text: "re", replyTo: got[0].id });
  await child.next({ type: "sent", id: "later" });
  assert.equal(mock.sent.at(-1).message.extendedTextMessage.contextInfo.stanzaId, ids[0]);
  await child.stop();
});

test("a message that cannot be passed on is set aside, and is in nobody's way", async () => {
  const at = place(me), inbox = path.join(at.auth, "inbox"), bad = path.join(inbox, "bad");
  fs.mkdirSync(bad, { recursive: true });
  for (let i = 0; i < 100; i++) fs.writeFileSync(path.join(bad, `1-${i}.json`), "");
  const key = { remoteJid: contact, id: "P" };
  const poison = [null, {}, { key }, { key, message: "text" }, { key, message: { type: "Buffer", data: Buffer.from("ffffffffff", "hex").toString("base64") } }];
  for (const [i, record] of poison.entries()) fs.writeFileSync(path.join(inbox, `${i + 1}.json`), JSON.stringify(record));
  const child = run(at);
  await child.open();
  mock.session.inbound("AFTER", { conversation: "fine" });
  child.tell({ type: "ack", seq: (await child.next({ type: "inbound", id: "AFTER" })).seq });
  await until(() => fs.readdirSync(inbox).every((f) => f === "bad"));
  const kept = fs.readdirSync(bad);
  assert.equal(kept.length, 100);
  assert.deepEqual(kept.map((f) => f.split("-")[1]).filter((f) => poison.some((_, i) => f === `${i + 1}.json`)).sort().slice(-1), ["5.json"]);
  assert.equal(child.lines.filter((l) => l.level === "error" && /set aside/.test(l.message)).length, poison.length);
  await child.stop();
});

test("a send that hangs holds up its own chat only", async () => {
  const at = place(me), child = run(at);
  await child.open();
  await until(() => mock.preKeys > 800);
  let held = 0;
  mock.ack = (node) => (node.attrs.to === contact && held++ === 0 ? null : {});
  child.tell({ type: "send", id: "slow", to: contact, text: "1" });
  child.tell({ type: "send", id: "behind", to: "+15552223333", text: "2" });
  await until(() => held === 1);
  child.tell({ type: "send", id: "other", to: group, text: "3" });
  await child.next({ type: "sent", id: "other" });
  assert.ok(!child.lines.some((l) => l.id === "slow" || l.id === "behind"));
  mock.session.ws.terminate();
  assert.equal((await child.next({ type: "failed", id: "slow" })).code, "RETRY");
  await child.next({ id: "behind" });
  await child.stop();
});

test("groups, mentions, edits, forwards, and what is not a message", async () => {
  const at = place(me), child = run(at), ada = "15554445555@s.whatsapp.net";
  await child.open();
  const s = mock.session, inGroup = { from: group, participant: "7007@lid", participant_pn: ada };
  s.inbound("G1", { extendedTextMessage: { text: "@bot hi", contextInfo: { mentionedJid: [self] } } }, inGroup);
  s.inbound("G2", { extendedTextMessage: { text: "and you", contextInfo: { mentionedJid: ["9001001@lid"], isForwarded: true } } }, inGroup);
  s.inbound("G3", { extendedTextMessage: { text: "no", contextInfo: { stanzaId: "OLD", participant: "9001001:7@lid", quotedMessage: { conversation: "mine" } } } }, inGroup);
  s.inbound("R1", { reactionMessage: { key: { remoteJid: group, id: "G1" }, text: "👍" } }, inGroup);
  s.inbound("OWN", { conversation: "from my phone" }, { from: group, participant: account });
  s.inbound("ST", { conversation: "a status" }, { from: "status@broadcast", participant: ada });
  s.inbound("E1", { editedMessage: { message: { protocolMessage: { type: 14, key: { id: "X" }, editedMessage: { conversation: "better" } } } } });
  s.inbound("V1", { ephemeralMessage: { message: { locationMessage: { degreesLatitude: 47.1, degreesLongitude: 7.2 } } } });
  s.inbound("L1", { conversation: "by lid" }, { from: "5005@lid" });
  s.inbound("BIG", { conversation: "é".repeat(200_000) });
  const seen = [];
  for (let i = 0; i < 7; i++) seen.push(await child.next({ type: "inbound" }));
  const ids = (of) => seen.filter((m) => m.chat === of).map((m) => m.id); // the order is that of each chat
  assert.deepEqual([ids(group), ids(contact), ids("5005@lid")], [["G1", "G2", "G3"], ["E1", "V1", "BIG"], ["L1"]]);
  const [g1, g2, g3, e1, v1, l1, big] = ["G1", "G2", "G3", "E1", "V1", "L1", "BIG"].map((id) => seen.find((m) => m.id === id));
  assert.deepEqual([g1.group, g1.chat, g1.from, g1.mentioned], [true, group, ada, true]);
  assert.deepEqual([g2.mentioned, g2.forwarded], [true, true]);
  assert.deepEqual(g3.replyTo, { id: "OLD", from: self, text: "mine" });
  assert.equal(g3.mentioned, undefined);
  assert.deepEqual([e1.edited, e1.text], [true, "better"]);
  assert.equal(v1.text, "[location 47.1, 7.2]");
  assert.equal(l1.from, "5005@lid");
  assert.equal(big.text.length, 65536);

  for (const [id, replyTo] of [["ga", "G1"], ["gb", "NEVER-SEEN"]]) {
    child.tell({ type: "send", id, to: group, text: `to all ${id}`, replyTo });
    await child.next({ type: "sent", id });
  }
  const [ga, gb] = mock.sent.map((m) => m.message.extendedTextMessage);
  assert.deepEqual([mock.sent[0].to, ga.text, ga.contextInfo.stanzaId], [group, "to all ga", "G1"]);
  assert.deepEqual([gb.text, gb.contextInfo?.stanzaId], ["to all gb", undefined]);
  await child.stop();
});

test("what is not acknowledged comes again after kill -9, in order", async () => {
  const at = place(me);
  let child = run(at);
  await child.open();
  for (let i = 1; i <= 300; i++) mock.session.inbound(`M${i}`, { conversation: `text ${i}` });
  // No more than 256 are on their way unacknowledged.
  await child.next({ type: "inbound", seq: 256 });
  child.tell({ type: "ping", id: "p" });
  await child.next({ type: "pong", id: "p" });
  assert.equal(child.lines.filter((l) => l.type === "inbound").length, 256);
  for (let seq = 1; seq <= 100; seq++) child.tell({ type: "ack", seq });
  child.tell({ type: "ack", seq: 12345 });
  child.tell({ type: "ping", id: "q" }); // by then the acknowledgements are read
  await child.next({ type: "inbound", seq: 300 });
  await until(() => child.lines.some((l) => l.id === "q"));
  guarded(at.auth);
  await child.kill();
  fs.writeFileSync(path.join(at.auth, "inbox/99.json"), "{"); // torn by a power failure
  child = run(at);
  await child.open();
  assert.equal(child.lines.filter((l) => l.level === "error").length, 1);
  await until(() => child.lines.some((l) => l.seq === 300));
  const again = child.lines.filter((l) => l.type === "inbound");
  assert.deepEqual(again.map((l) => l.id), Array.from({ length: 200 }, (_, i) => `M${i + 101}`));
  for (const { seq } of again) child.tell({ type: "ack", seq });
  await child.stop();
  assert.deepEqual(fs.readdirSync(path.join(at.auth, "inbox")), []);
});

test("bad input is told and survived", async () => {
  const at = place(me), child = run(at);
  await child.open();
  const bad = ["{broken", "[]", "null", "42", '"text"', "\u0000", '{"type":"send"}', '{"type":"send","id":7}', '{"type":"typing","to":"x"}'];
  for (const line of bad) {
    child.write(line + "\n");
    assert.equal((await child.next({ type: "log" })).level, "warn", line);
  }
  child.write(Buffer.from([0x7b, 0xff, 0xfe, 0x7d, 10]));
  await child.next({ type: "log" });
  child.write(`{"type":"send","id":"long","text":"${"x".repeat(2 << 20)}"}\n`);
  assert.match((await child.next({ type: "log" })).message, /longer than 1 MiB/);
  for (const line of ['{"type":"unknown"}', '{"type":"constructor"}', '{"type":"__proto__"}', "{}", '{"type":"ack","seq":"x"}', '{"type":"hello","protocol":9}', ""]) child.write(line + "\n");
  const outside = path.join(at.dir, "secret");
  fs.writeFileSync(outside, "secret");
  fs.symlinkSync(outside, path.join(at.media, "link"));
  const to = contact, sends = [
    { to: "x@y" }, { to: 5 }, {}, { to: "status@broadcast", text: "x" }, { to }, { to, text: "" }, { to, text: 5 }, { to, text: "x".repeat(65537) }, { to, media: "x" }, { to, media: [{}] },
    ...[outside, path.join(at.media, "link"), path.join(at.media, "../secret"), "/etc/passwd", "http://127.0.0.1/x", at.media, path.join(at.media, "none")].map((p) => ({ to, media: [{ path: p, mime: "text/plain" }] })),
  ];
  for (const [i, m] of sends.entries()) {
    child.tell({ type: "send", id: `b${i}`, ...m });
    const { code } = await child.next({ type: "failed", id: `b${i}` });
    assert.equal(code, "PERMANENT", JSON.stringify(m).slice(0, 100));
  }
  // A line in pieces, and two in one write.
  child.write('{"type":"pi');
  child.write('ng","id":"p1"}\n{"type":"ping","id":"p2"}\n');
  await child.next({ type: "pong", id: "p1" });
  await child.next({ type: "pong", id: "p2" });
  assert.deepEqual(mock.sent, []);
  child.process.stdin.end();
  assert.equal(await child.exited, 0);
  assert.equal(child.lines.at(-1).state, "stopped");
  assert.equal(child.stderr, "");
});

test("a start that cannot be is refused with its reason", async () => {
  const linked = place(me), broken = place(me), url = mock.url;
  fs.writeFileSync(path.join(broken.auth, "account/creds.json"), "{");
  const cases = [
    [linked, { args: [] }, /go together/],
    [linked, { url: undefined, args: ["--test-socket"] }, /go together/],
    [linked, { url: "ws://192.0.2.1/" }, /not a loopback/],
    [linked, { url: "ws://127.0.0.1.example.com/" }, /not a loopback/],
    [linked, { url: "ws://localhost/" }, /not a loopback/],
    [linked, { url: "http://127.0.0.1/" }, /not a loopback/],
    [linked, { args: ["--test-socket", "--unknown"] }, /unknown/],
    [linked, { read: [process.env.WHATSAPP_CHILD, linked.auth, linked.media] }, /cannot be loaded.*restricted/],
    [broken, {}, /unreadable: creds.json: broken JSON/],
  ];
  for (const [at, more, reason] of cases) {
    const child = run(at, { url, ...more });
    child.hello();
    assert.equal(await child.exited, 2, String(reason));
    assert.equal(child.lines[0].type, "hello");
    assert.match(child.lines.at(-1).reason, reason);
    assert.equal(child.lines.at(-1).terminal, true);
  }
  assert.equal(fs.readFileSync(path.join(broken.auth, "account/creds.json"), "utf8"), "{");
  const child = run(linked);
  child.tell({ type: "hello", protocol: 2 });
  assert.equal(await child.exited, 2);
  assert.equal(mock.logins, 0);
});

test("it ends in time whatever the server does, with no file held open and no process of its own", async () => {
  mock.script = () => {}; // never an answer
  const ends = [(child) => child.tell({ type: "stop" }), (child) => child.process.stdin.end(), (child) => child.process.stdin.destroy()];
  for (const end of ends) {
    const logins = mock.logins, child = run(place(me));
    child.hello();
    await until(() => mock.logins > logins);
    if (fs.existsSync("/proc/self/fd")) {
      const fds = fs.readdirSync(`/proc/${child.process.pid}/fd`).map((fd) => { try { return fs.readlinkSync(`/proc/${child.process.pid}/fd/${fd}`); } catch { return ""; } });
      assert.deepEqual(fds.filter((f) => f.startsWith("/") && !f.startsWith("/dev/")), []);
      assert.deepEqual(fs.readdirSync(`/proc/${child.process.pid}/task/${child.process.pid}`).includes("children") && fs.readFileSync(`/proc/${child.process.pid}/task/${child.process.pid}/children`, "utf8"), "");
    }
    const since = performance.now();
    end(child);
    assert.equal(await child.exited, 0);
    assert.ok(performance.now() - since < 9000); // by itself after four seconds
    assert.equal(child.stderr, "");
  }
});

test("an error thrown inside Baileys ends the child with its reason", async () => {
  const child = run(place(me));
  await child.open();
  mock.session.streamError("nonsense", "x");
  assert.equal(await child.exited, 1);
  assert.match(child.lines.at(-1).reason, /^uncaught /);
  assert.equal(child.lines.at(-1).state, "closed");
  assert.equal(child.stderr, "");
});

test("kill -9 while credentials are written: they always parse", async () => {
  const at = place(me), rounds = Number(process.env.WHATSAPP_KILLS ?? 10), creds = path.join(at.auth, "account/creds.json");
  let writes = 0;
  for (let i = 0; i < rounds; i++) {
    const child = run(at);
    await child.open();
    const session = mock.session, before = fs.statSync(creds).ino;
    const flood = setInterval(() => {
      for (let n = 0; n < 20; n++) {
        session.send("ib", {}, [{ tag: "edge_routing", attrs: {}, content: [{ tag: "routing_info", attrs: {}, content: randomBytes(4000) }] }]);
        writes++;
      }
    }, 1);
    await until(() => fs.statSync(creds, { throwIfNoEntry: false })?.ino !== before);
    await new Promise((go) => setTimeout(go, Math.random() * 60));
    clearInterval(flood);
    await child.kill();
    const held = ["creds.json", "creds.json.bak"].map((name) => path.join(at.auth, "account", name)).filter((f) => fs.existsSync(f));
    assert.ok(held.length);
    for (const file of held) assert.equal(JSON.parse(fs.readFileSync(file)).me.id, account);
  }
  console.log(`# ${rounds} kills among ${writes} changes of the credentials`);
  // Whatever else befalls the file: the generation before it serves.
  for (const harm of ["", "{", "[]"]) {
    if (fs.existsSync(creds)) fs.copyFileSync(creds, `${creds}.bak`); // a kill between two renames leaves the backup alone
    fs.writeFileSync(creds, harm);
    const child = run(at);
    await child.open();
    await child.stop();
    assert.equal(JSON.parse(fs.readFileSync(creds)).me.id, account);
  }
});
