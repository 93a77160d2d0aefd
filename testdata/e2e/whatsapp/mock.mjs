// A WhatsApp server of one account for tests, on loopback, from Baileys' own
// wire helpers: the Noise handshake, pairing by QR, the answers a client waits
// for after login, one contact with a real Signal session, media over TLS, and
// every way in which WhatsApp ends a connection.
import { createHash, randomBytes } from "node:crypto";
import { EventEmitter, once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const modules = process.env.WHATSAPP_MODULES;
export const wa = await import(pathToFileURL(path.join(modules, "node_modules/baileys/lib/index.js")));
const { WebSocketServer } = createRequire(path.join(modules, "package.json"))("ws");
const { Curve, proto } = wa;
console.info = console.warn = () => {}; // libsignal prints its sessions, private keys and all

export const account = "15550001111:7@s.whatsapp.net", accountLid = "9001001:7@lid";
export const contact = "15552223333@s.whatsapp.net", contactLid = "9002002@lid";
const server = "s.whatsapp.net";
const child = (node, tag) => wa.getBinaryNodeChild(node, tag);

/** The server's half of Noise_XX_25519_AESGCM_SHA256 as WhatsApp speaks it. */
class Noise {
  constructor() {
    this.hash = this.salt = this.key = Buffer.from(wa.NOISE_MODE);
    this.counter = 0;
    this.mine = Curve.generateKeyPair();
    this.mix(wa.NOISE_WA_HEADER);
  }
  mix(data) {
    this.hash = createHash("sha256").update(this.hash).update(data).digest();
  }
  iv(n) {
    const iv = Buffer.alloc(12);
    iv.writeUInt32BE(n, 8);
    return iv;
  }
  agree(secret) {
    const keys = wa.hkdf(Buffer.from(secret), 64, { salt: this.salt, info: "" });
    this.salt = Buffer.from(keys.subarray(0, 32));
    this.key = Buffer.from(keys.subarray(32));
    this.counter = 0;
  }
  seal(plain) {
    const out = wa.aesEncryptGCM(plain, this.key, this.iv(this.counter++), this.hash);
    this.mix(out);
    return out;
  }
  unseal(data) {
    const out = wa.aesDecryptGCM(data, this.key, this.iv(this.counter++), this.hash);
    this.mix(data);
    return out;
  }
  hello(frame) {
    const theirs = proto.HandshakeMessage.decode(frame).clientHello.ephemeral;
    const fixed = Curve.generateKeyPair();
    this.mix(theirs);
    this.mix(this.mine.public);
    this.agree(Curve.sharedKey(this.mine.private, theirs));
    const sealed = this.seal(fixed.public);
    this.agree(Curve.sharedKey(fixed.private, theirs));
    const details = proto.CertChain.NoiseCertificate.Details.encode({ serial: 1, issuerSerial: 0, key: fixed.public }).finish();
    const cert = { details, signature: randomBytes(64) };
    const payload = this.seal(proto.CertChain.encode({ leaf: cert, intermediate: cert }).finish());
    return proto.HandshakeMessage.encode({ serverHello: { ephemeral: this.mine.public, static: sealed, payload } }).finish();
  }
  finish(frame) {
    const { clientFinish } = proto.HandshakeMessage.decode(frame);
    const theirs = this.unseal(clientFinish.static);
    this.agree(Curve.sharedKey(this.mine.private, theirs));
    const payload = proto.ClientPayload.decode(this.unseal(clientFinish.payload));
    const keys = wa.hkdf(Buffer.alloc(0), 64, { salt: this.salt, info: "" });
    this.read = { key: Buffer.from(keys.subarray(0, 32)), n: 0 };
    this.write = { key: Buffer.from(keys.subarray(32)), n: 0 };
    return payload;
  }
  encrypt(plain) {
    return wa.aesEncryptGCM(plain, this.write.key, this.iv(this.write.n++), Buffer.alloc(0));
  }
  decrypt(data) {
    return wa.aesDecryptGCM(data, this.read.key, this.iv(this.read.n++), Buffer.alloc(0));
  }
}

/** One connection: "login" tells the client's payload, then every node is answered. */
class Session extends EventEmitter {
  constructor(ws, mock) {
    super();
    Object.assign(this, { ws, mock, noise: new Noise(), phase: 0, held: Buffer.alloc(0), first: true });
    this.turn = Promise.resolve();
    ws.on("message", (data) => { this.turn = this.turn.then(() => this.take(data)).catch((e) => mock.errors.push(e)); });
  }
  async take(data) {
    this.held = Buffer.concat([this.held, data]);
    if (this.first) {
      this.first = false;
      const routed = this.held.toString("latin1", 0, 2) === "ED" ? 7 + this.held.readUIntBE(4, 3) : 0;
      this.held = this.held.subarray(routed + wa.NOISE_WA_HEADER.length);
    }
    while (this.held.length >= 3) {
      const size = this.held.readUIntBE(0, 3);
      if (this.held.length < 3 + size) return;
      const frame = this.held.subarray(3, 3 + size);
      this.held = this.held.subarray(3 + size);
      if (this.phase === 0) {
        this.raw(this.noise.hello(frame));
      } else if (this.phase === 1) {
        this.payload = this.noise.finish(frame);
        await this.mock.arrive(this);
      } else {
        const node = await wa.decodeBinaryNode(this.noise.decrypt(frame));
        this.emit("node", node);
        await this.mock.answer(this, node);
      }
      this.phase = Math.min(this.phase + 1, 2);
    }
  }
  raw(data) {
    const size = Buffer.alloc(3);
    size.writeUIntBE(data.length, 0, 3);
    this.ws.send(Buffer.concat([size, data]));
  }
  send(tag, attrs, content) {
    this.raw(this.noise.encrypt(wa.encodeBinaryNode({ tag, attrs, content })));
  }
  /** failure refuses a login; streamError ends a running connection. */
  failure(reason) {
    this.send("failure", { reason: String(reason) });
    this.ws.close();
  }
  streamError(code, tag, attrs = {}) {
    this.send("stream:error", code ? { code: String(code) } : {}, tag ? [{ tag, attrs }] : undefined);
  }
  welcome() {
    this.send("success", { t: String(Math.floor(Date.now() / 1000)), lid: accountLid });
    this.send("ib", {}, [{ tag: "offline", attrs: { count: "0" } }]);
  }
  pairDevice(...refs) {
    this.send("iq", { id: "pair", type: "set", from: server }, [
      { tag: "pair-device", attrs: {}, content: refs.map((ref) => ({ tag: "ref", attrs: {}, content: Buffer.from(ref) })) },
    ]);
  }
  /** What a phone does with a QR code: sign the device's identity, and vouch with the secret in the code. */
  scan(qr) {
    const [, , identity, secret] = qr.split("#")[1].split(",");
    const owner = Curve.generateKeyPair();
    const details = proto.ADVDeviceIdentity.encode({ rawId: 1, timestamp: 1, keyIndex: 1 }).finish();
    const signed = Curve.sign(owner.private, Buffer.concat([Buffer.from([6, 0]), details, Buffer.from(identity, "base64")]));
    const inner = proto.ADVSignedDeviceIdentity.encode({ details, accountSignatureKey: owner.public, accountSignature: signed }).finish();
    const hmac = wa.hmacSign(inner, Buffer.from(secret, "base64"));
    this.send("iq", { id: "paired", type: "set", from: server }, [
      {
        tag: "pair-success",
        attrs: {},
        content: [
          { tag: "device-identity", attrs: {}, content: proto.ADVSignedDeviceIdentityHMAC.encode({ details: inner, hmac }).finish() },
          { tag: "platform", attrs: { name: "android" } },
          { tag: "device", attrs: { jid: account, lid: accountLid } },
        ],
      },
    ]);
  }
  /** A message in the clear, as the server may deliver one; attrs make it a group's or another sender's. */
  inbound(id, message, attrs = {}) {
    const content = proto.Message.encode(proto.Message.fromObject(message)).finish();
    this.send("message", { id, from: contact, notify: "Ada", t: "1700000000", type: "text", ...attrs }, [{ tag: "plaintext", attrs: {}, content }]);
  }
  /** The same from the contact's own Signal session, with the pre-keys that the client uploaded. */
  async inboundEncrypted(id, message) {
    const { type, ciphertext } = await this.mock.peer.encrypt(proto.Message.encode(proto.Message.fromObject(message)).finish());
    this.send("message", { id, from: contact, notify: "Ada", t: "1700000000", type: "text" }, [{ tag: "enc", attrs: { v: "2", type }, content: ciphertext }]);
  }
  receipt(id, type) {
    this.send("receipt", { id, from: contact, t: "1700000001", ...(type && { type }) });
  }
}

/** The contact: keys and a session store of its own, held in memory. */
class Peer {
  constructor() {
    const held = {};
    const keys = {
      get: async (type, ids) => Object.fromEntries(ids.map((id) => [id, held[`${type} ${id}`]]).filter(([, v]) => v)),
      set: async (data) => {
        for (const [type, values] of Object.entries(data)) for (const [id, v] of Object.entries(values)) held[`${type} ${id}`] = v;
      },
    };
    const silent = { level: "silent", child: () => silent, trace() {}, debug() {}, info() {}, warn() {}, error() {} };
    this.creds = wa.initAuthCreds();
    this.preKeys = 0;
    this.give = (id) => (held[`pre-key ${id}`] = Curve.generateKeyPair());
    this.repository = wa.DEFAULT_CONNECTION_CONFIG.makeSignalRepository(
      { creds: this.creds, keys: wa.addTransactionCapability(keys, silent, { maxCommitRetries: 1, delayBetweenTriesMs: 1 }) }, silent, async () => [],
    );
  }
  bundle(jid) {
    const id = Buffer.alloc(4);
    id.writeUInt32BE(this.creds.registrationId);
    const preKey = ++this.preKeys; // each is good for one session
    return {
      tag: "user",
      attrs: { jid },
      content: [
        { tag: "registration", attrs: {}, content: id },
        { tag: "type", attrs: {}, content: wa.KEY_BUNDLE_TYPE },
        { tag: "identity", attrs: {}, content: this.creds.signedIdentityKey.public },
        wa.xmppSignedPreKey(this.creds.signedPreKey),
        wa.xmppPreKey(this.give(preKey), preKey),
      ],
    };
  }
  async learn(iq) {
    const list = wa.getBinaryNodeChildren(child(iq, "list"), "key"), signed = child(iq, "skey"), one = list[0];
    const number = (node) => Buffer.from(child(node, "id").content).readUIntBE(0, 3);
    const publicKey = (node) => wa.generateSignalPubKey(Buffer.from(child(node, "value").content));
    await this.repository.injectE2ESession({
      jid: account,
      session: {
        registrationId: Buffer.from(child(iq, "registration").content).readUInt32BE(),
        identityKey: wa.generateSignalPubKey(Buffer.from(child(iq, "identity").content)),
        signedPreKey: { keyId: number(signed), publicKey: publicKey(signed), signature: Buffer.from(child(signed, "signature").content) },
        preKey: { keyId: number(one), publicKey: publicKey(one) },
      },
    });
    return list.length;
  }
  encrypt(data) {
    return this.repository.encryptMessage({ jid: account, data: Buffer.concat([data, Buffer.from([1])]) });
  }
  async decrypt(type, ciphertext, group) {
    const data = await (type === "skmsg"
      ? this.repository.decryptGroupMessage({ group, authorJid: account, msg: ciphertext })
      : this.repository.decryptMessage({ jid: account, type, ciphertext }));
    const message = proto.Message.decode(wa.unpadRandomMax16(data));
    if (message.senderKeyDistributionMessage) await this.repository.processSenderKeyDistributionMessage({ authorJid: account, item: message.senderKeyDistributionMessage });
    return message;
  }
}

export class Mock {
  errors = [];
  sent = []; // what the contact decrypted: { id, message }
  typed = [];
  reads = [];
  uploads = new Map();
  visits = []; // of addresses of media
  preKeys = 0;
  logins = 0;
  peer = new Peer();
  ack = () => ({}); // attributes of the acknowledgement of a message; null gives none
  /** script gets each session after its handshake; the default lets everybody in. */
  script = (session) => session.welcome();

  async start(tls) {
    this.http = http.createServer().listen(0, "127.0.0.1");
    this.wss = new WebSocketServer({ server: this.http });
    this.wss.on("connection", (ws) => new Session(ws, this));
    await once(this.http, "listening");
    this.url = `ws://127.0.0.1:${this.http.address().port}/`;
    this.http.on("request", (req, res) => this.serve(req, res));
    if (tls) {
      this.https = https.createServer({ key: fs.readFileSync(tls.key), cert: fs.readFileSync(tls.cert) }, (req, res) => this.serve(req, res)).listen(0, "127.0.0.1");
      await once(this.https, "listening");
    }
    return this;
  }
  stop() {
    for (const ws of this.wss.clients) ws.terminate();
    for (const s of [this.wss, this.http, this.https]) s?.close();
  }
  serve(req, res) {
    const name = new URL(req.url, this.url).pathname, parts = [];
    if (req.method === "GET") this.visits.push(name);
    if (req.method === "GET") return res.writeHead(this.uploads.has(name) ? 200 : 404).end(this.uploads.get(name));
    req.on("data", (part) => parts.push(part)).on("end", () => {
      this.uploads.set(name, Buffer.concat(parts));
      res.end(JSON.stringify({ url: `https://mmg.whatsapp.net${name}`, direct_path: name }));
    });
  }
  async arrive(session) {
    this.logins++;
    this.session = session;
    await this.script(session);
  }
  async answer(session, node) {
    if (node.tag === "message") return this.message(session, node);
    if (node.tag === "chatstate") this.typed.push(node.content[0].tag);
    if (node.tag === "receipt") this.reads.push(node.attrs);
    if (node.tag !== "iq" || node.attrs.type === "result") return;
    const first = Array.isArray(node.content) ? node.content[0] : undefined;
    let content;
    if (first?.tag === "count") content = [{ tag: "count", attrs: { value: String(this.preKeys) } }];
    if (first?.tag === "digest") content = [{ tag: "digest", attrs: {} }];
    if (node.attrs.xmlns === "encrypt" && node.attrs.type === "set") this.preKeys = await this.peer.learn(node);
    if (first?.tag === "key") content = [{ tag: "list", attrs: {}, content: wa.getBinaryNodeChildren(first, "user").map((u) => this.peer.bundle(u.attrs.jid)) }];
    if (first?.tag === "usync") {
      const users = wa.getBinaryNodeChildren(child(first, "list"), "user").map(({ attrs: { jid } }) => ({
        tag: "user",
        attrs: { jid },
        content: [
          { tag: "lid", attrs: { val: jid.startsWith("15550001111") ? accountLid.replace(":7", "") : contactLid } },
          { tag: "devices", attrs: {}, content: [{ tag: "device-list", attrs: {}, content: [{ tag: "device", attrs: { id: jid.startsWith("15550001111") ? "7" : "0", "key-index": "1" } }] }] },
        ],
      }));
      content = [{ tag: "usync", attrs: {}, content: [{ tag: "list", attrs: {}, content: users }] }];
    }
    if (first?.tag === "privacy") content = [{ tag: "privacy", attrs: {}, content: [{ tag: "category", attrs: { name: "readreceipts", value: "all" } }] }];
    if (node.attrs.xmlns === "w:g2") {
      const members = [account.replace(":7", ""), contact].map((jid) => ({ tag: "participant", attrs: { jid } }));
      content = [{ tag: "group", attrs: { id: node.attrs.to.split("@")[0], subject: "G", creation: "1", addressing_mode: "pn" }, content: members }];
    }
    if (first?.tag === "media_conn") {
      content = [{ tag: "media_conn", attrs: { auth: "a", ttl: "300" }, content: [{ tag: "host", attrs: { hostname: `127.0.0.1:${this.https.address().port}`, maxContentLengthBytes: "10485760" } }] }];
    }
    session.send("iq", { id: node.attrs.id, type: "result", from: node.attrs.to ?? server }, content);
  }
  async message(session, node) {
    const encs = (n) => (n.tag === "enc" ? [n] : Array.isArray(n.content) ? n.content.flatMap(encs) : []);
    let message;
    // A group's message is one for all; the key to it comes in each member's own.
    for (const { attrs, content } of encs(node).sort((a, b) => (a.attrs.type === "skmsg") - (b.attrs.type === "skmsg"))) {
      message = await this.peer.decrypt(attrs.type, content, node.attrs.to);
    }
    this.sent.push({ id: node.attrs.id, to: node.attrs.to, message });
    const attrs = this.ack(node);
    if (attrs) session.send("ack", { class: "message", id: node.attrs.id, from: node.attrs.to, t: "1700000001", ...attrs });
  }
}
