// The WhatsApp child of the OpenClaw gateway: Baileys on one side, child
// protocol 1 (one JSON object a line on stdin and stdout) on the other.
//
//   node --permission --allow-fs-read=… --allow-fs-write=… whatsapp.mjs --modules DIR --auth DIR --media DIR
//
// It reads the modules, writes below the auth and media directories and starts
// nothing. It prints only the protocol: what Baileys and libsignal would print
// holds keys and messages.
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import { isIP } from "node:net";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const PROTOCOL = 1, BAILEYS = "7.0.0-rc14", SOCKET_VARIABLE = "OPENCLAW_WHATSAPP_WEB_SOCKET_URL";
const MAX_LINE = 1 << 20, MAX_TEXT = 65536, MAX_MEDIA = 64 << 20;
const MAX_SENDS = 256, MAX_UNACKED = 256, MAX_INBOX = 10_000, MAX_RECENT = 1000, MAX_BAD = 100;
const MAX_SENDING = 16, MAX_FETCHED = 8, TRIES = 3;
const ACK_MS = 20_000, UPLOAD_MS = 120_000, DOWNLOAD_MS = 60_000;
const RETRY_FIRST_MS = 1000, RETRY_LAST_MS = 300_000, STEADY_MS = 30_000, RESTARTS = 5;

// Closings that no reconnecting mends: the operator has to act.
const STOPS = new Map([
  [402, "the account is banned for a time"],
  [403, "the account is forbidden to connect"],
  [405, "this version of the client is refused"],
  [406, "the account is banned"],
  [411, "the phone does not offer linked devices"],
  [440, "another session took this connection over"],
]);

for (const name of Object.keys(console)) if (typeof console[name] === "function") console[name] = () => {};
process.umask(0o077);

const clip = (s, n) => (typeof s === "string" && s.length > n ? s.slice(0, n) : s || undefined);
const firstLine = (e) => clip(String(e?.message ?? e).split("\n")[0], 200);
const sleep = (ms, value) => new Promise((done) => setTimeout(done, ms, value));
const hash = (...parts) => parts.reduce((h, part) => h.update(part), createHash("sha256")).digest("hex");
const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const log = (level, message) => say({ type: "log", level, message });

/** Ends the process at once: 1 something failed, 2 it cannot work as it was started. */
function die(reason, code = 1) {
  if (!dying) say({ type: "state", state: "closed", reason, ...(code === 2 && { terminal: true }) });
  dying = true;
  process.exit(code);
}
let dying = false;
const thrown = (e) => die(`uncaught ${e?.name ?? "error"}: ${firstLine(e)}`);
process.on("uncaughtException", thrown);
process.on("unhandledRejection", (e) => {
  // What was under way when a connection went fails with it; its close is told by itself.
  if (e?.isBoom && [408, 428].includes(e.output?.statusCode)) log("warn", `given up: ${firstLine(e)}`);
  else thrown(e);
});
process.stdout.on("error", () => process.exit(0)); // the gateway is gone
process.stderr.on("error", () => {});

/** Slots are so many at a time; who waits for one gets it in turn. */
class Slots {
  constructor(free) {
    Object.assign(this, { free, waiting: [] });
  }
  async take() {
    if (this.free > 0) this.free--;
    else await new Promise((go) => this.waiting.push(go));
  }
  give() {
    const next = this.waiting.shift();
    if (next) next();
    else this.free++;
  }
}

/** Lanes do each lane's work in order, and the lanes side by side. Work does not throw. */
class Lanes {
  ends = new Map();
  add(lane, work) {
    const end = (this.ends.get(lane) ?? Promise.resolve()).then(work).then(() => {
      if (this.ends.get(lane) === end) this.ends.delete(lane);
    });
    this.ends.set(lane, end);
  }
  settled = () => Promise.all(this.ends.values());
}

/** Node's permission model forbids fsync, not files whose every write is durable. */
function writeThrough(file, data) {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_SYNC = 0 } = fs.constants;
  fs.writeFileSync(file, data, { mode: 0o600, flag: O_WRONLY | O_CREAT | O_TRUNC | O_SYNC });
}

/**
 * Store keeps an account (credentials and Signal keys) in account/, the last one
 * that was revoked in previous/, and in inbox/ the messages the gateway has not
 * acknowledged. A file is replaced whole or not at all; creds.json has its former
 * generation beside it; only wipe loses an account.
 */
class Store {
  constructor(dir) {
    this.dir = dir;
    for (const d of [dir, this.at("account"), this.at("account/keys"), this.at("inbox")]) {
      fs.mkdirSync(d, { recursive: true });
      fs.chmodSync(d, 0o700);
    }
  }
  at(...names) {
    return path.join(this.dir, ...names);
  }
  read(name) {
    if (!fs.existsSync(this.at(name))) return undefined;
    return JSON.parse(fs.readFileSync(this.at(name), "utf8"), wa.BufferJSON.reviver);
  }
  write(name, value, backup) {
    writeThrough(this.at(`${name}.tmp`), JSON.stringify(value, wa.BufferJSON.replacer));
    if (backup && fs.existsSync(this.at(name))) fs.renameSync(this.at(name), this.at(backup));
    fs.renameSync(this.at(`${name}.tmp`), this.at(name));
  }
  /** settle makes renames last: a journal commits them with the synchronous birth of a file. */
  settle() {
    fs.rmSync(this.at("settled"), { force: true });
    writeThrough(this.at("settled"), "1");
  }
  /** setAside takes a message out of the inbox; the last ones are kept for who wants to know. */
  setAside(n) {
    fs.mkdirSync(this.at("inbox/bad"), { recursive: true, mode: 0o700 });
    fs.renameSync(this.at("inbox", `${n}.json`), this.at("inbox/bad", `${Date.now()}-${n}.json`));
    for (const old of fs.readdirSync(this.at("inbox/bad")).sort().slice(0, -MAX_BAD)) fs.rmSync(this.at("inbox/bad", old));
    this.settle();
  }
  /** creds are undefined when there are none; unreadable ones are an error, never replaced. */
  creds() {
    let broken;
    for (const name of ["creds.json", "creds.json.bak"]) {
      try {
        const creds = this.read(`account/${name}`);
        if (creds?.me?.id && creds.noiseKey && creds.signedIdentityKey) return { creds, name };
        if (creds !== undefined) throw new Error("no linked account");
      } catch (e) {
        broken ??= new Error(`${name}: ${e instanceof SyntaxError ? "broken JSON" : firstLine(e)}`);
      }
    }
    if (broken) throw broken;
    return {};
  }
  saveCreds(creds) {
    this.write("account/creds.json", creds, "account/creds.json.bak");
    this.settle();
  }
  /** What the file of a key holds: pre-keys come by the hundred and share one, all others have their own. */
  keyFile(type, id, opened) {
    let name = type === "pre-key" ? type : `${type}-${encodeURIComponent(id)}`;
    if (name.length > 200) name = `${type}-${hash(id)}`;
    name = `account/keys/${name}.json`;
    if (opened.has(name)) return opened.get(name);
    let held = {};
    try {
      held = this.read(name) ?? {};
    } catch (e) {
      if (!(e instanceof SyntaxError)) throw e;
      log("error", `an unreadable ${type} counts as absent`);
    }
    opened.set(name, held);
    return held;
  }
  keys = {
    get: async (type, ids) => {
      const found = {}, opened = new Map();
      for (const id of ids) {
        const value = this.keyFile(type, id, opened)[id];
        if (value) found[id] = type === "app-state-sync-key" ? wa.proto.Message.AppStateSyncKeyData.fromObject(value) : value;
      }
      return found;
    },
    set: async (data) => {
      const opened = new Map();
      for (const [type, values] of Object.entries(data)) {
        for (const [id, value] of Object.entries(values ?? {})) this.keyFile(type, id, opened)[id] = value ?? undefined;
      }
      for (const [name, held] of opened) {
        if (Object.values(held).some(Boolean)) this.write(name, held);
        else fs.rmSync(this.at(name), { force: true });
      }
      this.settle();
    },
  };
  /** leave puts the account aside as the previous one; wipe deletes both. */
  leave() {
    fs.rmSync(this.at("previous"), { recursive: true, force: true });
    fs.renameSync(this.at("account"), this.at("previous"));
    fs.mkdirSync(this.at("account/keys"), { recursive: true });
    this.settle();
  }
  wipe() {
    this.leave();
    fs.rmSync(this.at("previous"), { recursive: true, force: true });
    this.settle();
  }
}

// ---- the connection, by disconnect code

let options, wa, store, creds, sock, timer, current;
let attempts = 0, restarts = 0, badSession = false, stopping = false, unlinking = false;
const recent = new Map(); // message id → { key, message }: quotes, and what a recipient asks for again
const quiet = { level: "silent", child: () => quiet, trace() {}, debug() {}, info() {}, warn() {}, error() {}, fatal() {} };

function enter(state, more) {
  say((current = { type: "state", state, ...more }));
}

function remember(map, id, value) {
  map.delete(id);
  map.set(id, value);
  if (map.size > MAX_RECENT) map.delete(map.keys().next().value);
}

function connect() {
  clearTimeout(timer);
  enter("connecting");
  let codes = 0;
  const account = creds;
  const set = async (data) => creds === account && store.keys.set(data); // a late one of an account that left is void
  const mine = (sock = wa.makeWASocket({
    auth: { creds, keys: { get: store.keys.get, set } },
    ...(options.url && { waWebSocketUrl: options.url }),
    logger: quiet,
    browser: ["OpenClaw", "Chrome", "1"],
    markOnlineOnConnect: false,
    syncFullHistory: false,
    shouldIgnoreJid: unheard,
    getMessage: async (key) => recent.get(told(key.id))?.message,
  }));
  // Baileys holds events back for up to half a minute after connecting, though
  // the server was told that they arrived: they are taken before that buffer.
  const emit = mine.ev.emit;
  mine.ev.emit = (event, data) => {
    if (sock === mine) taps[event]?.(data);
    return emit(event, data);
  };
  mine.ws.on("CB:ack,class:message", ({ attrs }) => acks.get(attrs.id)?.(attrs.error));
  mine.ev.on("creds.update", () => {
    if (sock === mine && creds.me) store.saveCreds(creds);
  });
  mine.ev.on("connection.update", ({ connection, qr, lastDisconnect }) => {
    if (sock !== mine) return;
    if (qr) say({ type: "qr", text: qr, expiresInMs: codes++ ? 20_000 : 60_000 });
    if (connection === "close") closed(lastDisconnect?.error);
    if (connection !== "open") return;
    restarts = 0;
    timer = setTimeout(() => { attempts = 0; badSession = false; }, STEADY_MS);
    enter("open", { self: self()[0] });
  });
}

function closed(error) {
  forget();
  // A failure below WhatsApp (TLS, a proxy's 401 or 403) says nothing about the account.
  const below = error?.message?.startsWith("WebSocket Error");
  const code = below ? undefined : error?.output?.statusCode;
  const told = { ...(Number.isInteger(code) && { code }), reason: STOPS.get(code) ?? firstLine(error ?? "closed") };
  if (stopping || unlinking) return;
  if (code === 515 && creds.me && restarts++ < RESTARTS) {
    enter("closed", { ...told, retryInMs: 0 });
    return connect();
  }
  if (!creds.me || code === 401) {
    if (creds.me) store.leave();
    creds = undefined;
    return enter("not-linked", { ...told, ...(code === 401 && { terminal: true }) });
  }
  if (STOPS.has(code) || (code === 500 && badSession)) return enter("closed", { ...told, terminal: true });
  badSession = code === 500;
  const retryInMs = Math.round(Math.min(RETRY_FIRST_MS * 2 ** attempts++, RETRY_LAST_MS) * (0.5 + Math.random() / 2));
  enter("closed", { ...told, retryInMs });
  timer = setTimeout(connect, retryInMs);
}

function forget() {
  const was = sock;
  sock = undefined;
  clearTimeout(timer);
  for (const settle of acks.values()) settle("closed");
  return was;
}

const hangUp = async () => Promise.race([forget()?.end(undefined), sleep(1000)]).catch(() => {});

function login() {
  if (unlinking || stopping) return;
  if (sock) return say(current);
  creds ??= wa.initAuthCreds();
  attempts = restarts = 0;
  badSession = false;
  connect();
}

async function logout() {
  if (unlinking || stopping) return;
  unlinking = true;
  const told = current.state === "open" && await Promise.race([sock.logout().then(() => true), sleep(3000)]).catch(() => false);
  const reason = creds?.me && !told ? "unlinked here; remove the device on the phone too" : undefined;
  await hangUp();
  store.wipe();
  creds = undefined;
  recent.clear();
  unlinking = false;
  enter("not-linked", { reason });
}

async function stop() {
  if (stopping) return;
  stopping = true;
  setTimeout(() => process.exit(0), 4000);
  await Promise.race([sends.settled(), sleep(2000)]);
  await hangUp();
  enter("stopped");
  process.exit(0);
}

// ---- outbound

const sends = new Lanes(), sending = new Slots(MAX_SENDING);
let pending = 0;
const salt = randomBytes(16);
const acks = new Map(); // WhatsApp's message id → settle(error or undefined)
const passed = new Map(); // message id → the last receipt passed on

class Refusal extends Error {
  constructor(code, message, retryAfterMs) {
    super(message);
    Object.assign(this, { code, retryAfterMs });
  }
}
const never = (message) => { throw new Refusal("PERMANENT", message); };

function target(to) {
  if (/^\+?\d{5,20}$/.test(to)) return `${to.replace("+", "")}@s.whatsapp.net`;
  if (/^(\d{5,20}@(s\.whatsapp\.net|lid)|\d{5,30}(-\d{5,20})?@g\.us)$/.test(to)) return to;
  never("to: not a phone number, a user's JID or a group's JID");
}

function attachment({ path: named, mime, name }) {
  let url, stat;
  try {
    url = fs.realpathSync(named);
    stat = fs.statSync(url);
  } catch (e) {
    never(`media: ${e.code ?? "no path"}`);
  }
  if (!url.startsWith(options.media + path.sep)) never("media: not below the media directory");
  if (!stat.isFile() || stat.size > MAX_MEDIA) never("media: not a file of at most 64 MiB");
  const mimetype = /^[\w.+-]+\/[\w.+-]+(;.*)?$/.test(mime) ? mime : "application/octet-stream", kind = mimetype.split("/")[0];
  // Without a preview given, Baileys would look for programs that make one.
  if (kind === "image" || kind === "video") return { [kind]: { url }, mimetype, jpegThumbnail: null };
  if (kind === "audio") return { audio: { url }, mimetype };
  return { document: { url }, mimetype, fileName: clip(name, 255) ?? path.basename(url) };
}

function contents({ text = "", media = [] }) {
  if (typeof text !== "string" || text.length > MAX_TEXT) never("text: not a string of at most 65,536 units");
  if (!Array.isArray(media) || media.length > 16) never("media: not a list of at most 16");
  const parts = media.map((m) => attachment(m ?? {}));
  if (text && parts[0] && !parts[0].audio) parts[0].caption = text;
  else if (text) parts.unshift({ text, linkPreview: null }); // no page is fetched for a preview
  return parts.length ? parts : never("nothing to send: neither text nor media");
}

/** One message: written, then acknowledged by the server. */
async function deliver(jid, content, messageId, quoted) {
  const ack = new Promise((settle) => acks.set(messageId, (error) => settle({ error })));
  try {
    let end = await Promise.race([sock.sendMessage(jid, content, { quoted, messageId }), ack, sleep(UPLOAD_MS, { error: "late" })]);
    if (!end.error) end = await Promise.race([ack, sleep(ACK_MS, { error: "late" })]);
    if (!end.error) return;
    if (end.error === "closed" || end.error === "late") throw new Refusal("RETRY", "no acknowledgement by the server; the same id sent again is not shown twice");
    remember(passed, messageId, "error");
    throw end.error === "429" ? new Refusal("RATE", "too many messages", 60_000) : new Refusal("PERMANENT", `refused by the server: ${end.error}`);
  } finally {
    acks.delete(messageId);
  }
}

async function transmit(m) {
  const jid = target(m.to), parts = contents(m);
  if (!creds?.me) throw new Refusal("NOT_LINKED", "no account is linked; run: openclaw channels login whatsapp");
  let quoted = m.replyTo && recent.get(m.replyTo), messageId;
  // Of a message before this process only the id is known; in a group its author is needed too.
  if (m.replyTo && !quoted && !jid.endsWith("@g.us") && !String(m.replyTo).startsWith("odd-")) quoted = { key: { remoteJid: jid, id: String(m.replyTo), fromMe: false }, message: { conversation: "" } };
  for (const [i, part] of parts.entries()) {
    if (current.state !== "open") throw new Refusal("RETRY", `not connected: ${current.reason ?? current.state}`, current.retryInMs || 5000);
    // The same for the same send: a repeat after a doubt is one message to the recipient.
    messageId = "3EB0" + hash(salt, JSON.stringify([m.id, jid, i])).slice(0, 18).toUpperCase();
    try {
      await deliver(jid, part, messageId, i === 0 ? quoted : undefined);
    } catch (e) {
      m.begun ||= codeOf(e) === "RETRY"; // it may have been written
      throw e;
    }
    m.begun = true;
  }
  return messageId;
}

const codeOf = (e) => (e instanceof Refusal ? e.code : e instanceof TypeError || [400, 404, 406].includes(e?.output?.statusCode) ? "PERMANENT" : "RETRY");

function send(m) {
  const failed = (code, e) => say({ type: "failed", id: m.id, code, message: firstLine(e), retryAfterMs: e.retryAfterMs, begun: m.begun || undefined });
  if (typeof m.id !== "string" || !m.id || m.id.length > 128) return log("warn", "a send without a usable id is ignored");
  if (pending >= MAX_SENDS) return failed("RATE", { message: "too many messages are waiting", retryAfterMs: 5000 });
  pending++;
  m.begun = false; // whether something of it may have arrived
  sends.add(lane(m.to), async () => {
    await sending.take();
    try {
      say({ type: "sent", id: m.id, messageId: await transmit(m) });
    } catch (e) {
      failed(codeOf(e), e);
    }
    sending.give();
    pending--;
  });
}

/** One for a chat, however it is written. */
const lane = (to) => String(to).replace(/^\+/, "").replace(/@s\.whatsapp\.net$/, "");

function receipt(messageId, status, error) {
  const now = status === 0 ? "error" : status >= 4 ? "read" : status === 3 ? "delivered" : undefined, before = passed.get(messageId);
  if (!now || acks.has(messageId) || before === now || before === "read" || before === "error") return;
  remember(passed, messageId, now);
  say({ type: "receipt", messageId, status: now, ...(now === "error" && { message: clip(String(error ?? "not shown"), 200) }) });
}

// ---- inbound

let seq = 0;
const chats = new Lanes(), ahead = new Slots(MAX_UNACKED), fetched = new Slots(MAX_FETCHED);
const unacked = new Set(); // in the inbox
const passing = new Map(); // those of them that are on their way to the gateway: seq → { fetch, over } of one with media
const MEDIA = ["image", "video", "audio", "document", "sticker", "ptv"];

const unheard = (jid) => wa.isJidBroadcast(jid) || wa.isJidNewsletter(jid);
/** The sender chooses a message's id: for one that is none, the gateway gets another. */
const told = (id) => (/^[!-~]{1,128}$/.test(id) && !id.startsWith("odd-") ? id : `odd-${hash(id).slice(0, 32)}`);
const user = (jid) => (jid ? wa.jidNormalizedUser(jid) : undefined);
const self = () => [creds?.me?.id, creds?.me?.lid].map(user).filter(Boolean);

/** One id for a person: the phone number's where it is known, else the anonymous one. */
async function person(...jids) {
  const known = jids.filter(Boolean).map(user), number = known.find((j) => j.endsWith("@s.whatsapp.net"));
  if (number || !known.length) return number;
  if (known[0] === self()[1]) return self()[0];
  return user(await sock?.signalRepository.lidMapping.getPNForLID(known[0]).catch(() => undefined)) ?? known[0];
}

// Events of Baileys, as they happen.
const taps = {
  "messages.upsert": ({ messages }) => {
    for (const { key, message, pushName, messageTimestamp } of messages) {
      if (!message || !key?.id || !key.remoteJid) continue;
      let record;
      try { // what somebody wrote must not end the child, which the server would give it again
        remember(recent, told(key.id), { key, message });
        const { content, kind } = unwrap(message);
        if (key.fromMe || unheard(key.remoteJid) || !(kind || words(content, kind))) continue;
        record = { key: { ...key }, name: clip(pushName, 256), timestamp: Number(messageTimestamp) * 1000 || Date.now(), message: Buffer.from(wa.proto.Message.encode(message).finish()) };
      } catch (e) {
        log("warn", `a message cannot be read and is lost: ${firstLine(e)}`);
        continue;
      }
      if (unacked.size >= MAX_INBOX) die("the inbox is full: the gateway acknowledges nothing");
      // Baileys has just told the server that it arrived; from here on it outlives a crash.
      store.write(`inbox/${++seq}.json`, record);
      store.settle();
      queue(seq, record);
    }
  },
  "messages.update": (updates) => {
    for (const { key, update } of updates) if (key.fromMe && update.status != null) receipt(key.id, update.status, update.messageStubParameters?.[0]);
  },
  "message-receipt.update": (updates) => {
    for (const { key, receipt: r } of updates) if (key.fromMe) receipt(key.id, r.readTimestamp ? 4 : 3);
  },
};

/** Passes each chat's messages on in order, a bounded number of them ahead of the acknowledgements. */
function queue(n, record) {
  unacked.add(n);
  chats.add(String(record?.key?.remoteJid), async () => {
    await ahead.take();
    passing.set(n, {});
    for (let tries = 1; unacked.has(n); tries++) {
      try {
        return await pass(n, record);
      } catch (e) {
        log("warn", `a message cannot be passed on: ${firstLine(e)}`);
        if (tries === TRIES) setAside(n);
        else await sleep(200);
      }
    }
  });
}

/** A message that cannot be passed on must not be in the way of all others at each start. */
function setAside(n) {
  try {
    store.setAside(n);
  } catch (e) {
    die(`inbox: ${firstLine(e)}`);
  }
  log("error", `message ${n} of the inbox is set aside in inbox/bad`);
  acknowledge(n);
}

function replay() {
  const numbers = fs.readdirSync(store.at("inbox")).map((f) => Number(/^(\d+)\.json$/.exec(f)?.[1])).filter(Boolean);
  for (const n of numbers.sort((a, b) => a - b)) {
    seq = n;
    try {
      queue(n, store.read(`inbox/${n}.json`));
    } catch (e) {
      if (!(e instanceof SyntaxError)) throw e;
      log("error", "a message of the inbox is unreadable and lost");
      fs.rmSync(store.at("inbox", `${n}.json`));
    }
  }
}

function acknowledge(n) {
  if (!unacked.delete(n)) return;
  fs.rmSync(store.at("inbox", `${n}.json`), { force: true });
  const was = passing.get(n);
  passing.delete(n);
  if (!was) return;
  ahead.give();
  if (was.fetching) fetched.give();
  was.over?.();
}

/** What a message holds, out of its envelopes. */
function unwrap(message) {
  let content = wa.extractMessageContent(message);
  const edited = Boolean(content?.protocolMessage?.editedMessage);
  if (edited) content = wa.extractMessageContent(content.protocolMessage.editedMessage);
  return { content, edited, kind: MEDIA.find((k) => content?.[`${k}Message`]) };
}

function words(content, kind) {
  const at = content?.locationMessage ?? content?.liveLocationMessage, contact = content?.contactMessage;
  return clip(
    content?.conversation || content?.extendedTextMessage?.text || content?.[`${kind}Message`]?.caption
    || content?.buttonsResponseMessage?.selectedDisplayText || content?.listResponseMessage?.title
    || (at && `[location ${at.degreesLatitude}, ${at.degreesLongitude}]`) || (contact && `[contact ${contact.displayName}]`),
    MAX_TEXT,
  );
}

/** Passes a message on. One with media is over once it is acknowledged: they may be fetched before. */
async function pass(n, { key, name, timestamp, message }) {
  const decoded = wa.proto.Message.decode(message), { content, edited, kind } = unwrap(decoded), id = told(key.id);
  if (!recent.has(id)) remember(recent, id, { key, message: decoded });
  const group = key.remoteJid.endsWith("@g.us");
  const from = await (group ? person(key.participantAlt, key.participant) : person(key.remoteJidAlt, key.remoteJid));
  if (!from) return acknowledge(n); // nobody who could be answered
  const context = Object.values(content).find((part) => part?.contextInfo)?.contextInfo;
  const text = words(content, kind), media = kind && content[`${kind}Message`];
  let replyTo;
  if (context?.stanzaId) {
    const quoted = unwrap(context.quotedMessage);
    replyTo = { id: told(context.stanzaId), from: clip(await person(context.participant) ?? from, 128), text: clip(words(quoted.content, quoted.kind), 4096) ?? "" };
  }
  const over = media && new Promise((go) => Object.assign(passing.get(n), { fetch: () => fetchMedia(media, kind, key), over: go }));
  say({
    type: "inbound", seq: n, id, from, chat: group ? key.remoteJid : from, group, name, text, timestamp,
    mentioned: context?.mentionedJid?.some((jid) => self().includes(user(jid))) || undefined, replyTo, media: media && [described(media, kind)],
    edited: edited || undefined, forwarded: context?.isForwarded || context?.forwardingScore > 0 || undefined,
  });
  await over;
}

/** The gateway has let a message in and wants its media: a bounded number lies on disk until acknowledged. */
async function fetch({ seq: n }) {
  const of = passing.get(n);
  if (!of?.fetch || of.asked) return;
  of.asked = true;
  await fetched.take();
  if (!passing.has(n)) return fetched.give();
  of.fetching = true;
  try {
    say({ type: "media", seq: n, media: [await of.fetch()] });
  } catch (e) {
    say({ type: "media", seq: n, message: firstLine(e) });
  }
}

/** What is known of media before they are fetched, as the sender says. */
function described({ mimetype, fileName, fileLength }, kind) {
  const mime = clip(mimetype, 128) ?? "application/octet-stream";
  return { mime, name: clip(fileName, 255) ?? `${kind}.${ending(mime)}`, size: Number(fileLength) || undefined };
}
const ending = (mime) => /^[a-z]+\/([a-z0-9]{2,5})\b/.exec(mime)?.[1] ?? "bin";

/** The sender writes the address: it may name WhatsApp's media hosts and nothing else. */
function mediaSource({ url, directPath, mediaKey }) {
  const at = URL.canParse(url ?? "") ? new URL(url) : undefined;
  if (options.url && at && loopback(at.hostname)) return { url, mediaKey };
  if (directPath?.startsWith("/")) return { directPath, mediaKey };
  if (at?.protocol === "https:" && at.hostname.endsWith(".whatsapp.net") && !at.port) return { url, mediaKey };
  throw new Error("the address is not WhatsApp's");
}

async function fetchMedia(media, kind, key) {
  const { mime, name, size: announced } = described(media, kind), limit = options.mediaMax;
  if (announced > limit) throw new Error(`larger than ${limit} bytes`);
  const file = path.join(options.media, `${hash(`${key.remoteJid} ${key.id}`).slice(0, 32)}.${ending(mime)}`);
  const stream = await Promise.race([wa.downloadContentFromMessage(mediaSource(media), kind, { host: "mmg.whatsapp.net" }), sleep(DOWNLOAD_MS)]);
  if (!stream) throw new Error("no answer in time");
  const alarm = setTimeout(() => stream.destroy(new Error("too slow")), DOWNLOAD_MS);
  const fd = fs.openSync(`${file}.tmp`, "w", 0o600);
  let size = 0;
  try {
    for await (const chunk of stream) {
      if ((size += chunk.length) > limit) throw new Error(`larger than ${limit} bytes`);
      fs.writeSync(fd, chunk);
    }
    fs.renameSync(`${file}.tmp`, file);
  } finally {
    clearTimeout(alarm);
    fs.closeSync(fd);
    fs.rmSync(`${file}.tmp`, { force: true });
  }
  return { path: file, mime, name, size };
}

// ---- the protocol

const handlers = {
  send, login, logout, stop, fetch,
  ack: ({ seq: n }) => acknowledge(n),
  ping: ({ id }) => say({ type: "pong", id }),
  typing: ({ to, on }) => sock?.sendPresenceUpdate(on ? "composing" : "paused", target(to)).catch(() => {}),
  read: ({ chat, message }) => {
    const key = recent.get(message)?.key ?? { remoteJid: target(chat), id: String(message), fromMe: false };
    if (current.state === "open") sock.readMessages([key]).catch(() => {});
  },
  react: ({ chat, message, emoji }) => {
    const key = recent.get(message)?.key; // its author is needed too
    if (key && current.state === "open") sock.sendMessage(target(chat), { react: { text: clip(emoji, 32) ?? "", key } }).catch(() => {});
  },
};
let greeted = false;

function line(bytes) {
  let m;
  try {
    m = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    m = undefined;
  }
  if (m === null || typeof m !== "object" || Array.isArray(m)) return log("warn", "a line that is not a JSON object is ignored");
  if (!greeted) return begin(m);
  try {
    if (Object.hasOwn(handlers, m.type)) handlers[m.type](m);
  } catch (e) {
    if (!(e instanceof Refusal)) throw e;
    log("warn", `${m.type}: ${e.message}`);
  }
}

function begin({ type, protocol, mediaMaxBytes }) {
  if (type !== "hello" || protocol !== PROTOCOL) die(`the first line must be a hello of protocol ${PROTOCOL}`, 2);
  greeted = true;
  options.mediaMax = Math.min(mediaMaxBytes > 0 ? mediaMaxBytes : MAX_MEDIA, MAX_MEDIA);
  let name;
  try {
    ({ creds, name } = store.creds());
  } catch (e) {
    die(`the credentials are unreadable: ${firstLine(e)}`, 2);
  }
  if (name === "creds.json.bak") store.write("account/creds.json", creds); // the backup stays what it is
  replay();
  if (creds) connect();
  else enter("not-linked");
}

function listen() {
  let held = [], size = 0;
  process.stdin.on("data", (chunk) => {
    for (let at = 0, end; at < chunk.length; at = end + 1) {
      end = chunk.indexOf(10, at);
      const part = chunk.subarray(at, end < 0 ? chunk.length : end);
      size += part.length;
      if (size <= MAX_LINE) held.push(part);
      else held = [];
      if (end < 0) return;
      if (size > MAX_LINE) log("warn", "a line longer than 1 MiB is ignored");
      else if (size) line(Buffer.concat(held));
      held = [];
      size = 0;
    }
  });
  process.stdin.on("end", stop).on("error", stop);
}

function loopback(host) {
  return host === "[::1]" || (isIP(host) === 4 && host.startsWith("127."));
}

/** Another server than WhatsApp's takes the variable and the argument, and is on this machine. */
function socketURL(flag) {
  const named = process.env[SOCKET_VARIABLE];
  if (!named !== !flag) throw new Error(`${SOCKET_VARIABLE} and --test-socket go together`);
  if (!named) return undefined;
  const url = URL.canParse(named) ? new URL(named) : undefined;
  if (!/^wss?:$/.test(url?.protocol) || !loopback(url.hostname)) throw new Error(`${SOCKET_VARIABLE} is not a loopback ws URL`);
  return url.href;
}

function parse() {
  const directory = { type: "string" };
  const { values } = parseArgs({ options: { modules: directory, auth: directory, media: directory, "test-socket": { type: "boolean" } } });
  for (const name of ["modules", "auth", "media"]) if (!path.isAbsolute(values[name] ?? "")) throw new Error(`--${name}: an absolute directory is needed`);
  return { ...values, url: socketURL(values["test-socket"]) };
}

async function load(modules) {
  const home = path.join(modules, "node_modules", "baileys");
  const { version } = JSON.parse(fs.readFileSync(path.join(home, "package.json"), "utf8"));
  if (version !== BAILEYS) throw new Error(`version ${version} is installed, not ${BAILEYS}`);
  return import(pathToFileURL(path.join(home, "lib", "index.js")));
}

let step = "wrong arguments", failure;
try {
  options = parse();
  step = "Baileys cannot be loaded";
  wa = await load(options.modules);
  step = "the directories cannot be used";
  store = new Store(path.resolve(options.auth));
  options.media = fs.realpathSync(options.media);
  // Baileys encrypts uploads into the system's temporary directory.
  process.env.TMPDIR = path.join(options.media, ".tmp");
  fs.rmSync(process.env.TMPDIR, { recursive: true, force: true });
  fs.mkdirSync(process.env.TMPDIR);
} catch (e) {
  failure = e;
}
say({ type: "hello", protocol: PROTOCOL, name: "whatsapp", version: `baileys ${BAILEYS}, node ${process.versions.node}`, features: ["login", "media", "fetch", "typing", "read", "react", "replyTo"] });
if (failure) die(`${step}: ${firstLine(failure)}`, 2);
listen();
