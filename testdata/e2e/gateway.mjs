// A gateway and a model provider for the suites: the built binary on a free
// port with a state directory of its own, and an OpenAI-compatible server that
// answers as the last user message tells it to.
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createTCP } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";

export const token = "7d1f0b6c2a9e48f35b60c7d8e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4";

/** The first port of a block that nobody listens on. */
export async function freePort() {
  for (let p = 21000; p < 32000; p += 111) {
    const s = createTCP();
    const ok = await new Promise((done) => s.once("error", () => done(false)).listen(p, "127.0.0.1", () => done(true)));
    if (!ok) continue;
    s.close();
    await once(s, "close");
    return p;
  }
  throw new Error("no free port");
}

/** Provider: `requests` are the bodies it got, `closed` counts clients that left early. */
export async function provider() {
  const p = { requests: [], closed: 0, onClose: null };
  const server = createServer((req, res) => {
    let body = "";
    req.on("data", (c) => (body += c));
    req.on("end", () => answer(p, JSON.parse(body), res));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  p.url = `http://127.0.0.1:${server.address().port}/v1`;
  p.stop = () => (server.closeAllConnections(), server.close());
  return p;
}

function answer(p, body, res) {
  p.requests.push(body);
  let ended = false;
  res.on("close", () => {
    if (!ended) p.closed++, p.onClose?.();
  });
  res.writeHead(200, { "content-type": "text/event-stream" });
  const chunk = (delta, finish = null) =>
    res.write(`data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`);
  const last = body.messages.at(-1);
  const text = typeof last.content === "string" ? last.content : (last.content ?? []).map((c) => c.text ?? `<${c.type}>`).join("");
  const end = (finish) => {
    chunk({}, finish);
    res.write(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}\n\n`);
    res.write("data: [DONE]\n\n");
    ended = true;
    res.end();
  };
  if (text.startsWith("hang")) {
    chunk({ content: "begun" });
    return;
  }
  // The functions of the tests take a city; the gateway's own tools are offered beside them.
  const functions = (body.tools ?? []).filter((t) => t.function.parameters?.properties?.city);
  if (last.role === "user" && functions.length && text.startsWith("call")) {
    functions.forEach((t, i) => {
      chunk({ tool_calls: [{ index: i, id: `call_${i}`, type: "function", function: { name: t.function.name, arguments: "" } }] });
      for (const piece of ['{"ci', 'ty":"Bi', 'el"}']) chunk({ tool_calls: [{ index: i, function: { arguments: piece } }] });
    });
    return end("tool_calls");
  }
  const said = last.role === "tool" ? `results: ${body.messages.filter((m) => m.role === "tool").map((m) => m.content).join(",")}` : `you said: ${text} 🦀`;
  // Split so that no piece is a whole character sequence of its own accord.
  for (const piece of said.match(/.{1,3}/gsu)) chunk({ content: piece });
  end("stop");
}

/** Starts the gateway and resolves once it serves. */
export async function gateway(providerURL) {
  const home = mkdtempSync(join(tmpdir(), "openclaw-e2e-"));
  const state = join(home, "state");
  mkdirSync(state, { mode: 0o700 });
  const port = await freePort();
  // A provider that is the gateway itself: both ends of the responses protocol are ours then.
  const self = { baseUrl: `http://127.0.0.1:${port}/v1`, apiKey: token, api: "openai-responses", models: [{ id: "openclaw", input: ["text", "image"] }] };
  writeFileSync(
    join(state, "openclaw.json"),
    JSON.stringify({
      gateway: { port, auth: { token } },
      agents: { defaults: { model: "up/m" }, list: [{ id: "main", default: true }, { id: "loop", model: "self/openclaw" }] },
      models: {
        providers: { up: { baseUrl: providerURL, apiKey: "sk-e2e-key", models: [{ id: "m", input: ["text", "image"] }] }, self },
      },
    }),
    { mode: 0o600 },
  );
  const child = spawn(process.env.OPENCLAW_BIN, ["gateway"], {
    env: { PATH: process.env.PATH, HOME: home, OPENCLAW_STATE_DIR: state },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr.on("data", (d) => (stderr += d));
  const base = `http://127.0.0.1:${port}`;
  for (let i = 0; ; i++) {
    const up = await fetch(`${base}/readyz`).then((r) => r.ok, () => false);
    if (up) break;
    if (i > 6000 || child.exitCode !== null) throw new Error(`the gateway did not start: ${stderr}`);
    await new Promise((r) => setTimeout(r, 10));
  }
  return {
    port, base, home, state,
    stderr: () => stderr,
    async stop() {
      child.kill("SIGTERM");
      if (child.exitCode === null) await once(child, "exit");
      rmSync(home, { recursive: true });
      return child.exitCode;
    },
  };
}
