// Clients that other people wrote, against the built binary: OpenAI's own
// library over HTTP, and ws over WebSocket.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { createOpenResponses } from "@ai-sdk/open-responses";
import { generateText, isStepCount, jsonSchema, streamText, tool } from "ai";
import OpenAI from "openai";
import WebSocket from "ws";
import { gateway, provider, token } from "./gateway.mjs";

let up, gw, openai;
before(async () => {
  up = await provider();
  gw = await gateway(up.url);
  openai = new OpenAI({ apiKey: token, baseURL: `${gw.base}/v1`, maxRetries: 0 });
});
after(async () => {
  assert.equal(await gw.stop(), 0);
  up.stop();
});

const tools = ["weather", "time"].map((name) => ({
  type: "function",
  function: { name, description: name, parameters: { type: "object", properties: { city: { type: "string" } } } },
}));

test("a completion, whole and streamed, is the same text with its usage", async () => {
  const messages = [{ role: "user", content: "Grüezi 你好" }];
  const whole = await openai.chat.completions.create({ model: "openclaw", messages });
  assert.equal(whole.choices[0].message.content, "you said: Grüezi 你好 🦀");
  assert.equal(whole.choices[0].finish_reason, "stop");
  assert.deepEqual([whole.usage.prompt_tokens, whole.usage.completion_tokens], [11, 7]);

  let text = "", usage, finish;
  for await (const c of await openai.chat.completions.create({ model: "openclaw", messages, stream: true, stream_options: { include_usage: true } })) {
    text += c.choices[0]?.delta?.content ?? "";
    finish = c.choices[0]?.finish_reason ?? finish;
    usage = c.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(finish, "stop");
  assert.equal(usage.total_tokens, 18);
});

for (const stream of [false, true]) {
  test(`three turns with parallel tool calls, ${stream ? "streamed" : "whole"}`, async () => {
    const messages = [{ role: "user", content: "call them" }];
    const ask = async () => {
      if (!stream) return (await openai.chat.completions.create({ model: "openclaw/main", messages, tools })).choices[0];
      const s = openai.chat.completions.stream({ model: "openclaw/main", messages, tools });
      return (await s.finalChatCompletion()).choices[0];
    };
    const first = await ask();
    assert.equal(first.finish_reason, "tool_calls");
    assert.deepEqual(first.message.tool_calls.map((c) => [c.function.name, JSON.parse(c.function.arguments).city]), [["weather", "Biel"], ["time", "Biel"]]);
    messages.push({ role: "assistant", tool_calls: first.message.tool_calls.map(({ id, type, function: f }) => ({ id, type, function: { name: f.name, arguments: f.arguments } })) });
    for (const c of first.message.tool_calls) messages.push({ role: "tool", tool_call_id: c.id, content: `${c.function.name} ok` });
    const second = await ask();
    assert.equal(second.message.content, "results: weather ok,time ok");
    messages.push({ role: "assistant", content: second.message.content }, { role: "user", content: "thanks" });
    const third = await ask();
    assert.equal(third.message.content, "you said: thanks 🦀");
  });
}

test("an image reaches the model", async () => {
  const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  const r = await openai.chat.completions.create({
    model: "openclaw",
    messages: [{ role: "user", content: [{ type: "text", text: "see " }, { type: "image_url", image_url: { url: `data:image/png;base64,${png}` } }] }],
  });
  assert.equal(r.choices[0].message.content, "you said: see <image_url> 🦀");
  assert.equal(up.requests.at(-1).messages.at(-1).content.find((c) => c.type === "image_url").image_url.url, `data:image/png;base64,${png}`);
});

test("leaving ends the upstream request at once", async () => {
  const gone = new Promise((done) => (up.onClose = done));
  const s = await openai.chat.completions.create({ model: "openclaw", messages: [{ role: "user", content: "hang" }], stream: true });
  for await (const c of s) {
    if (c.choices[0]?.delta?.content === "begun") break; // leaving the loop aborts the request
  }
  const left = performance.now();
  await gone;
  assert.ok(performance.now() - left < 8000, "the provider saw the end of the request late");
});

// The text of a response; its output_text is there only where it came whole.
const said = (r) => r.output.flatMap((o) => (o.type === "message" ? o.content : [])).map((c) => c.text).join("");

for (const model of ["openclaw/main", "openclaw/loop"]) {
  test(`${model}: a response, whole and streamed, is the same`, async () => {
    const ask = { model, input: "Grüezi 你好", instructions: "Be brief." };
    const whole = await openai.responses.create(ask);
    assert.equal(whole.output_text, "you said: Grüezi 你好 🦀");
    assert.deepEqual([whole.status, whole.usage.input_tokens, whole.usage.output_tokens, whole.usage.total_tokens], ["completed", 11, 7, 18]);
    const kinds = [];
    let text = "", last;
    for await (const e of await openai.responses.create({ ...ask, stream: true })) {
      assert.equal(e.sequence_number, kinds.length);
      kinds.push(e.type);
      if (e.type === "response.output_text.delta") text += e.delta;
      last = e;
    }
    assert.equal(text, whole.output_text);
    assert.equal(last.type, "response.completed");
    assert.equal(last.response.output[0].content[0].text, text);
    const final = await openai.responses.stream(ask).finalResponse(); // which the library pieces together itself
    assert.equal(said(final), text);
  });

  for (const stream of [false, true]) {
    test(`${model}: responses with parallel tool calls, ${stream ? "streamed" : "whole"}, by previous_response_id`, async () => {
      const flat = tools.map(({ type, function: f }) => ({ type, ...f, strict: false }));
      const ask = (more) => (stream ? openai.responses.stream({ model, tools: flat, ...more }).finalResponse() : openai.responses.create({ model, tools: flat, ...more }));
      const first = await ask({ input: "call them" });
      const calls = first.output.filter((o) => o.type === "function_call");
      assert.deepEqual(calls.map((c) => [c.name, JSON.parse(c.arguments).city]), [["weather", "Biel"], ["time", "Biel"]]);
      const outputs = calls.map((c) => ({ type: "function_call_output", call_id: c.call_id, output: `${c.name} ok` }));
      const second = await ask({ input: outputs, previous_response_id: first.id });
      assert.equal(said(second), "results: weather ok,time ok");
      const third = await ask({ input: "thanks", previous_response_id: second.id });
      assert.equal(said(third), "you said: thanks 🦀");
      assert.equal(up.requests.at(-1).messages.filter((m) => m.role === "tool").length, 2);
      const again = await ask({ input: [{ role: "user", content: "call them" }, ...calls, ...outputs] }); // all of it, instead
      assert.equal(said(again), "results: weather ok,time ok");
    });
  }
}

test("the AI SDK's provider of OpenResponses: text, a stream, tools in steps, an image", async () => {
  const model = createOpenResponses({ name: "openclaw", url: `${gw.base}/v1/responses`, apiKey: token })("openclaw");
  const whole = await generateText({ model, prompt: "hello", maxRetries: 0 });
  assert.equal(whole.text, "you said: hello 🦀");
  assert.equal(whole.usage.inputTokens, 11);
  let text = "";
  for await (const piece of streamText({ model, prompt: "hello", maxRetries: 0 }).textStream) text += piece;
  assert.equal(text, whole.text);
  const weather = tool({ description: "weather", inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } } }), execute: async ({ city }) => `rain in ${city}` });
  const steps = await generateText({ model, prompt: "call it", tools: { weather }, stopWhen: isStepCount(3), maxRetries: 0 });
  assert.match(steps.text, /results: .*rain in Biel/);
  const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  const seen = await generateText({ model, maxRetries: 0, messages: [{ role: "user", content: [{ type: "text", text: "see " }, { type: "file", data: png, mediaType: "image/png" }] }] });
  assert.equal(seen.text, "you said: see <image_url> 🦀");
});

test("leaving a response ends the upstream request at once", async () => {
  const gone = new Promise((done) => (up.onClose = done));
  for await (const e of await openai.responses.create({ model: "openclaw", input: "hang", stream: true })) {
    if (e.delta === "begun") break;
  }
  const left = performance.now();
  await gone;
  assert.ok(performance.now() - left < 8000, "the provider saw the end of the request late");
});

test("errors of responses are the library's own types, with their place", async () => {
  await assert.rejects(openai.responses.create({ model: "openclaw", input: [] }), OpenAI.BadRequestError);
  await assert.rejects(openai.responses.create({ model: "openclaw", input: "x", previous_response_id: "resp_1" }), { code: "previous_response_not_found", param: "previous_response_id" });
});

test("errors are the library's own types", async () => {
  const bad = new OpenAI({ apiKey: "wrong-token-wrong-token-wrong-token", baseURL: `${gw.base}/v1`, maxRetries: 0 });
  await assert.rejects(bad.models.list(), OpenAI.AuthenticationError);
  await assert.rejects(openai.chat.completions.create({ model: "gpt-4", messages: [{ role: "user", content: "x" }] }), OpenAI.BadRequestError);
  await assert.rejects(openai.chat.completions.create({ model: "openclaw", messages: [] }), OpenAI.BadRequestError);
});

test("models are the agents", async () => {
  const ids = [];
  for await (const m of openai.models.list()) ids.push(m.id);
  assert.deepEqual(ids, ["openclaw", "openclaw/default", "openclaw/main", "openclaw/loop"]);
});

async function connect() {
  const ws = new WebSocket(`ws://127.0.0.1:${gw.port}/`);
  const frames = [];
  ws.on("message", (m) => (frames.push(JSON.parse(m)), ws.emit("frame")));
  const frame = async (pick) => {
    for (;;) {
      const i = frames.findIndex(pick);
      if (i >= 0) return frames.splice(i, 1)[0];
      await once(ws, "frame");
    }
  };
  await frame((f) => f.event === "connect.challenge");
  ws.send(JSON.stringify({ type: "req", id: "connect-1", method: "connect", params: { auth: { token } } }));
  const hello = await frame((f) => f.id === "connect-1");
  return { ws, frame, hello, call: (id, method, params) => ws.send(JSON.stringify({ type: "req", id, method, params })) };
}

test("Prometheus' own reader understands what is to scrape", { timeout: 300000 }, async () => {
  await openai.models.list();
  const page = await fetch(`${gw.base}/metrics`, { headers: { authorization: `Bearer ${token}` } });
  assert.equal(page.status, 200);
  assert.equal((await fetch(`${gw.base}/metrics`)).status, 401);
  const read = spawnSync("go", ["run", "github.com/prometheus/prom2json/cmd/prom2json@v1.4.2"], { input: await page.text(), encoding: "utf8" });
  assert.equal(read.status, 0, read.stderr);
  const families = Object.fromEntries(JSON.parse(read.stdout).map((f) => [f.name, f]));
  const of = (name, labels) => families[name].metrics.find((m) => Object.entries(labels).every(([k, v]) => m.labels?.[k] === v));
  assert.equal(families.openclaw_connections.type, "GAUGE");
  assert.equal(families.openclaw_http_duration_seconds.type, "HISTOGRAM");
  assert.ok(Number(of("openclaw_http_duration_seconds", { route: "/v1/models" }).count) >= 1);
  assert.ok(Number(of("openclaw_http_duration_seconds", { route: "/v1/chat/completions" }).sum) > 0);
  assert.ok(Number(of("openclaw_tokens_total", { model: "up/m", kind: "output" }).value) > 0);
  assert.ok(Number(of("process_resident_memory_bytes", {}).value) > 1e6);
});

test("ws: the manual's connect, a turn in two answers, and its events", async () => {
  const c = await connect();
  assert.equal(c.hello.ok, true);
  const { presence, health, stateVersion, uptimeMs, policy } = c.hello.payload;
  assert.deepEqual([presence, health, policy.sandbox], ["available", "healthy", "non-main"]);
  c.call("t1", "tools.catalog", {});
  const catalog = (await c.frame((f) => f.id === "t1")).payload.groups.flatMap((g) => g.tools);
  assert.deepEqual(policy.tools.toSorted(), catalog.filter((t) => t.effective).map((t) => t.id).toSorted());
  for (const name of ["read", "write", "edit", "grep"]) assert.ok(policy.tools.includes(name), name);
  assert.ok(Number.isInteger(stateVersion) && Number.isInteger(uptimeMs));
  c.call("a1", "agent", { message: "hello", agentId: "main", idempotencyKey: "k1" });
  assert.equal((await c.frame((f) => f.id === "a1")).payload.status, "accepted");
  const final = await c.frame((f) => f.id === "a1");
  assert.equal(final.payload.result.payloads[0].text, "you said: hello 🦀");
  await c.frame((f) => f.event === "chat" && f.payload.state === "final");
  c.call("h1", "chat.history", { sessionKey: "main" });
  const history = await c.frame((f) => f.id === "h1");
  assert.deepEqual(history.payload.messages.map((m) => m.role), ["user", "assistant"]);
  c.ws.close();
});

test("ws: leaving ends the upstream request of agent", async () => {
  const c = await connect();
  const gone = new Promise((done) => (up.onClose = done));
  c.call("a2", "agent", { message: "hang", agentId: "main", idempotencyKey: "k2" });
  await c.frame((f) => f.event === "agent" && f.payload.data.text === "begun");
  c.ws.terminate();
  await gone;
});
