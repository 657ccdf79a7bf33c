// A scripted stand-in for OpenRouter and other OpenAI-compatible servers.
//
//   const model = await startModel();
//   … OPENAI_BASE_URL: model.url, or OPENROUTER_BASE_URL with any OPENROUTER_API_KEY …
//   model.mode = 'status 429';   // what it does from now on; or, for one request,
//   'Hello [model:drop]'         // the question itself says so
//   model.modes['some/model'] = 'status 500'   // whenever this one is asked
//   model.script = (request) => …  // the mode, by {body, question}; nothing: as above
//   model.requests               // what came: {headers, body, question, mode, closed, closedAt, generation}
//   model.costs['gen-1'] = {…}   // what GET /generation?id=gen-1 tells, or a status; else 404
//   model.lookUps                // the ids that were asked for there
//   await model.step(question)   // of mode "steps": the next word
//   await model.close();         // and model.listen(model.port) again, best of one that was started with goesAway
//
// MODES below lists what it can do, streaming or not as the request asks.
import http from 'node:http';
import { gzipSync } from 'node:zlib';
import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises';
import { until } from './wait.mjs';

export const MODEL_USAGE = { prompt_tokens: 11, completion_tokens: 7, total_tokens: 18 };
export const MODEL_COST = 0.00042;

export async function startModel(options = {}) {
  const model = new Model(options);
  if (options.goesAway) await listenLow(model);
  else await model.listen();
  return model;
}

// On a port that the system gives to nobody by itself, so that it is still free when the model comes back.
async function listenLow(model) {
  for (;;) {
    const port = 10000 + Math.floor(Math.random() * 10000);
    try {
      await model.listen(port);
      return;
    } catch (error) {
      if (error.code !== 'EADDRINUSE') throw error;
    }
  }
}

class Model {
  #server;
  #sockets = new Set();
  #waiting = [];
  #failures = new Map();

  // Without keepAlive each request has a connection of its own, so that nobody asks again by himself because a
  // kept one was closed.
  constructor({ mode = 'normal', keepAlive = true } = {}) {
    this.mode = mode;
    this.keepAlive = keepAlive;
    this.modes = {}; // by the name of the model that is asked
    this.count = null; // how many tokens the prompt of a request's body has; else always the same
    this.script = () => undefined;
    this.requests = [];
    this.costs = {};
    this.lookUps = [];
  }

  async listen(port = 0) {
    this.#server = http.createServer((request, response) => this.#serve(request, response));
    this.#server.keepAliveTimeout = 60000;
    this.#server.maxRequestsPerSocket = this.keepAlive ? 0 : 1;
    this.#server.on('connection', (socket) => {
      socket.setNoDelay(true);
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    await new Promise((resolve, reject) => {
      this.#server.on('error', reject);
      this.#server.listen(port, '127.0.0.1', resolve);
    });
    this.port = this.#server.address().port;
    this.url = `http://127.0.0.1:${this.port}/v1`;
  }

  // Connections that are open.
  get connections() {
    return this.#sockets.size;
  }

  // Requests of mode "held" that wait for release().
  get held() {
    return this.#waiting.length;
  }

  // Waits until a request with this question waits, and lets it go on: `times`, one after the other.
  async step(question, times = 1) {
    for (let i = 0; i < times; i++) {
      await until('the model waits', () => this.#waiting.some((one) => one.question === question), { every: 5 });
      this.release(question);
    }
  }

  // Lets those answer whose question has this text in it, or all.
  release(text = '') {
    const all = this.#waiting.splice(0);
    this.#waiting.push(...all.filter(({ question }) => !question.includes(text)));
    for (const { question, go } of all) if (question.includes(text)) go();
  }

  // Lets the one answer that has waited longest.
  releaseFirst() {
    this.#waiting.shift().go();
  }

  // Goes away at once; listen(port) comes back.
  async close() {
    this.release();
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #serve(request, response) {
    const parts = [];
    for await (const part of request) parts.push(part);
    if (request.method === 'GET' && request.url.startsWith('/v1/generation?id=')) {
      this.#tellCost(request, response);
      return;
    }
    const body = JSON.parse(Buffer.concat(parts).toString() || 'null');
    const question = questionOf(body);
    const chosen = this.script({ body, question }) ?? this.modes[body?.model] ??
      /\[model:([^\]]+)\]/.exec(question)?.[1] ?? this.mode;
    const [mode, ...args] = chosen.split(' ');
    const entry = {
      method: request.method, path: request.url, headers: request.headers, body, question, mode,
      socket: request.socket, closed: false,
    };
    this.requests.push(entry);
    response.on('close', () => {
      entry.closed = !response.writableFinished;
      entry.closedAt = performance.now();
    });
    response.on('error', () => {});
    if (request.url !== '/v1/chat/completions' || request.method !== 'POST') {
      refuse(response, 404, 'no such path');
      return;
    }
    try {
      const talk = new Talk(this, request, response, body, question);
      entry.generation = talk.id;
      await MODES[mode](talk, ...args);
    } catch (error) {
      console.error('model.mjs', mode, error);
      response.destroy();
    }
  }

  #tellCost(request, response) {
    const id = request.url.split('=').pop();
    const cost = this.costs[id] ?? 404;
    this.lookUps.push({ id, headers: request.headers });
    if (typeof cost === 'number') {
      refuse(response, cost, 'no such generation');
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ data: { id, ...cost } }));
  }

  hold(question) {
    return new Promise((go) => this.#waiting.push({ question, go }));
  }

  // How often this question has come before.
  again(question) {
    const count = this.#failures.get(question) ?? 0;
    this.#failures.set(question, count + 1);
    return count;
  }
}

function questionOf(body) {
  const last = body?.messages?.filter((m) => m.role === 'user').at(-1)?.content ?? '';
  return typeof last === 'string' ? last : JSON.stringify(last);
}

export const answerTo = (question) => `You said: ${question} — grüße, 你好, 🚀!`;

let ids = 0;

// One request and what can be said to it.
class Talk {
  constructor(model, request, response, body, question) {
    Object.assign(this, { model, request, response, body, question });
    this.id = `gen-${++ids}`;
    this.text = answerTo(question);
    this.streams = body.stream === true;
    this.eol = '\n';
  }

  get usage() {
    const usage = { ...MODEL_USAGE };
    if (this.model.count) {
      usage.prompt_tokens = this.model.count(this.body);
      usage.total_tokens = usage.prompt_tokens + usage.completion_tokens;
    }
    return this.body.usage?.include ? { ...usage, cost: MODEL_COST } : usage;
  }

  // An object as the server of a stream sends it.
  chunk(choices, more = {}) {
    return { id: this.id, object: 'chat.completion.chunk', created: 1, model: this.body.model,
             choices, ...more };
  }

  delta(content, finish_reason = null) {
    return this.chunk([{ index: 0, delta: { content }, finish_reason }]);
  }

  event(data) {
    const text = typeof data === 'string' ? data : JSON.stringify(data);
    return `data: ${text}${this.eol}${this.eol}`;
  }

  open(headers = {}) {
    this.response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', ...headers });
    this.response.flushHeaders();
  }

  say(text) {
    this.response.write(text);
  }

  saySome() {
    this.open();
    this.say(this.event(this.delta('Some ')));
    this.say(this.event(this.delta('words')));
  }

  // The events of a whole answer. Usage comes as the request asked for it.
  events({ text = this.text, finish = 'stop', done = true, usage = true } = {}) {
    const list = [this.chunk([{ index: 0, delta: { role: 'assistant', content: '' },
                                finish_reason: null }])];
    for (const piece of text.match(/\S*\s*/g)) if (piece) list.push(this.delta(piece));
    if (finish) list.push(this.chunk([{ index: 0, delta: {}, finish_reason: finish }]));
    if (usage && this.body.usage?.include) {
      list.push(this.chunk([{ index: 0, delta: { content: '' }, finish_reason: null }],
                           { usage: this.usage }));
    } else if (usage && this.body.stream_options?.include_usage) {
      list.push(this.chunk([], { usage: this.usage }));
    }
    if (done) list.push('[DONE]');
    return list.map((event) => this.event(event));
  }

  whole({ text = this.text, finish = 'stop', usage = true, message = {}, ...more } = {}) {
    return {
      id: this.id, object: 'chat.completion', created: 1, model: this.body.model,
      choices: [{ index: 0, message: { role: 'assistant', content: text, ...message },
                  finish_reason: finish }],
      ...(usage ? { usage: this.usage } : {}), ...more,
    };
  }

  json(body, status = 200, headers = {}) {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    this.response.writeHead(status, {
      'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...headers,
    });
    this.response.end(text);
  }

  // The bytes of a whole answer as they would be sent, with this type or the right one.
  bytes(body, { type, ...headers } = {}) {
    this.response.writeHead(200, {
      'content-type': type ?? (this.streams ? 'text/event-stream' : 'application/json'), ...headers });
    this.response.end(body);
  }

  get wholeText() {
    return this.streams ? this.events().join('') : JSON.stringify(this.whole());
  }

  // The first half of an answer in one piece, with as many bytes announced as all of it has, or none.
  half({ announced }) {
    const text = this.wholeText;
    this.response.writeHead(200, {
      'content-type': 'application/json', ...(announced && { 'content-length': Buffer.byteLength(text) }) });
    this.say(text.slice(0, text.length / 2));
  }

  // A whole answer.
  answer(options) {
    if (!this.streams) {
      this.json(this.whole(options));
      return;
    }
    this.open();
    this.response.end(this.events(options).join(''));
  }

  drop() {
    this.request.socket.resetAndDestroy();
  }

  get gone() {
    return this.response.destroyed || this.request.socket.destroyed;
  }

  // Comments, as OpenRouter sends them, until the caller has gone.
  async comments() {
    while (!this.gone) {
      this.say(': OPENROUTER PROCESSING\n\n');
      await pause(50);
    }
  }
}

function refuse(response, status, message, headers = {}) {
  const text = JSON.stringify({ error: { code: status, message } });
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(text);
}

const ERROR = { code: 502, message: 'the upstream broke' };

const MODES = {
  // ---- good answers of all shapes ----
  normal: (t) => t.answer(),
  // as fast as can be
  instant: (t) => t.answer({ text: 'Yes.' }),
  held: async (t) => {
    await t.model.hold(t.question);
    if (!t.gone) t.answer();
  },
  // a word whenever it is released, as long as this at least
  steps: async (t, length) => {
    t.open();
    for (const event of t.events({ text: t.text.replace(/\S+/g, (word) => word.padEnd(Number(length ?? 0), '€')) })) {
      await t.model.hold(t.question);
      if (t.gone) return;
      t.say(event);
    }
    t.response.end();
  },
  // as held, but refused then
  'held-refused': async (t) => {
    await t.model.hold(t.question);
    refuse(t.response, 400, 'told to refuse');
  },
  // the first word after some milliseconds
  slow: async (t, ms) => {
    await pause(Number(ms ?? 200));
    t.answer();
  },
  // words with some milliseconds between
  paced: async (t, ms) => {
    t.open();
    for (const event of t.events()) {
      t.say(event);
      await pause(Number(ms ?? 20));
    }
    t.response.end();
  },
  // every byte in a packet of its own
  split: async (t) => {
    t.open();
    for (const byte of Buffer.from(t.events().join(''))) {
      t.say(Buffer.from([byte]));
      await turn();
    }
    t.response.end();
  },
  crlf: (t) => {
    t.eol = '\r\n';
    t.open();
    t.response.end(`\ufeff: hello\r\n\r\n${t.events().join(': OPENROUTER PROCESSING\r\n\r\n')}`);
  },
  cr: (t) => {
    t.eol = '\r';
    t.open();
    t.response.end(t.events().join(''));
  },
  // one event's data over several lines
  lines: (t) => {
    t.open();
    t.response.end(t.events().map((e) => e.replace(/"choices"/, '\ndata: "choices"')).join(''));
  },
  // thoughts before words
  thinks: (t) => {
    if (!t.streams) {
      t.json(t.whole({ message: { reasoning: 'hm', reasoning_content: 'hm' } }));
      return;
    }
    t.open();
    t.say(t.event(t.chunk([{ index: 0, delta: { reasoning: 'hm' } }])));
    t.say(t.event(t.chunk([{ index: 0, delta: { reasoning_content: 'hm', content: null } }])));
    t.response.end(t.events().join(''));
  },
  // the tokens are told, the cost is not
  'no-cost': (t) => {
    t.body.usage = undefined;
    t.body.stream_options = { include_usage: true };
    t.answer();
  },
  // what it used, and no word; then another model may be asked
  'paid-empty': (t) => t.answer({ text: '' }),
  'no-usage': (t) => t.answer({ usage: false }),
  'no-done': (t) => t.answer({ done: false }),
  'no-finish': (t) => t.answer({ finish: null }),
  // the answer's end without the connection's
  'no-end': (t) => {
    t.open();
    t.say(t.events().join(''));
  },
  // neither [DONE] nor the connection's end after the last word
  'no-done-no-end': (t) => {
    t.open();
    t.say(t.events({ done: false, usage: false }).join(''));
  },
  // the connection breaks behind the last word
  'drop-late': (t) => {
    t.open();
    t.say(t.events({ done: false, usage: false }).join(''));
    setTimeout(() => t.drop(), 100);
  },
  // these words, instead of the question's
  say: (t, ...words) => t.answer({ text: words.join(' ') }),
  length: (t) => t.answer({ finish: 'length' }),
  parts: (t) => t.json(t.whole({ text: [{ type: 'text', text: 'two ' }, { type: 'text', text: 'parts' }] })),
  // a stream is answered in one piece
  plain: (t) => t.json(t.whole()),
  // packed, although nobody asked for it
  gzip: (t) => t.bytes(gzipSync(t.wholeText), { 'content-encoding': 'gzip' }),
  // called something else than it is
  type: (t, type) => t.bytes(t.wholeText, { type }),
  // what was used so far with each piece, and all of it twice at the end
  'usage-often': (t) => {
    if (!t.streams) {
      t.json(t.whole());
      return;
    }
    const some = { prompt_tokens: 11, completion_tokens: 1, total_tokens: 12 };
    const pieces = ['You ', 'said ', 'so.'].map((text) => ({ ...t.delta(text), usage: some }));
    const end = t.chunk([{ index: 0, delta: {}, finish_reason: 'stop' }], { usage: t.usage });
    t.open();
    t.response.end([...pieces, end, t.chunk([], { usage: t.usage }), '[DONE]'].map((e) => t.event(e)).join(''));
  },
  // the whole answer in one event of some bytes
  'one-event': (t, bytes) => {
    const text = `${'x'.repeat(999)} `.repeat(Number(bytes) / 1000);
    if (!t.streams) {
      t.json(t.whole({ text }));
      return;
    }
    t.open();
    t.response.end([t.delta(text), t.delta('', 'stop'), t.chunk([], { usage: t.usage }), '[DONE]']
      .map((e) => t.event(e)).join(''));
  },
  // another model answers
  other: (t, name) => {
    t.body = { ...t.body, model: name ?? 'some/other' };
    t.answer();
  },
  'bad-bytes': (t) => {
    const bytes = (text) => Buffer.concat(text.split('XX').flatMap((part, i) =>
      (i ? [Buffer.from([0xe2, 0x82]), Buffer.from(part)] : [Buffer.from(part)])));
    if (!t.streams) {
      t.response.writeHead(200, { 'content-type': 'application/json' });
      t.response.end(bytes(JSON.stringify(t.whole({ text: 'aXXb' }))));
      return;
    }
    t.open();
    t.response.end(bytes(t.events({ text: 'aXXb' }).join('')));
  },
  // half of a surrogate pair, and a NUL
  'bad-escapes': (t) => t.answer({ text: 'a\ud83d b\u0000c' }),

  // ---- bad answers ----
  status: (t, status, retryAfter) => refuse(t.response, Number(status), `told to say ${status}`,
                                            retryAfter ? { 'retry-after': retryAfter } : {}),
  // nothing but white space, and then its end
  blank: (t) => {
    t.open();
    t.say(t.event(t.delta('\n\n')));
    t.response.end(t.event(t.delta('', 'stop')) + t.event('[DONE]'));
  },
  // the account has used up what it may send for nothing, for so many seconds
  'no-quota': (t, seconds) => refuse(t.response, 429, 'Rate limit exceeded: free-models-per-day', {
    'x-ratelimit-limit': '50', 'x-ratelimit-remaining': '0',
    'x-ratelimit-reset': String(Date.now() + Number(seconds) * 1000),
  }),
  // the same said within the body only, as OpenRouter does
  'no-quota-body': (t, seconds) => t.json({ error: {
    code: 429, message: 'Rate limit exceeded: free-models-per-day', metadata: { headers: {
      'X-RateLimit-Limit': '50', 'X-RateLimit-Remaining': '0',
      'X-RateLimit-Reset': String(Date.now() + Number(seconds) * 1000),
    } } } }, 429),
  // an answer that says how many requests are left for so many seconds
  left: (t, left, seconds) => {
    t.response.setHeader('x-ratelimit-remaining', left);
    t.response.setHeader('x-ratelimit-reset', String(Date.now() + Number(seconds) * 1000));
    t.answer();
  },
  // the first n times 503, or what is told
  flaky: (t, n, status) => {
    if (t.model.again(t.question) < Number(n ?? 1)) refuse(t.response, Number(status ?? 503), 'not yet');
    else t.answer();
  },
  html: (t, status) => {
    t.response.writeHead(Number(status ?? 502), { 'content-type': 'text/html' });
    t.response.end('<html><body>Bad Gateway</body></html>');
  },
  // the caller's key in the error's words
  leak: (t, status) => refuse(t.response, Number(status ?? 400),
                              `Incorrect API key provided: ${t.request.headers.authorization}`),
  // a page, where an answer should be
  'html-200': (t) => {
    t.response.writeHead(200, { 'content-type': 'text/html' });
    t.response.end('<html><body>Please log in</body></html>');
  },
  redirect: (t) => {
    t.response.writeHead(302, { location: '/v1/elsewhere' });
    t.response.end();
  },
  'error-200': (t, code) => t.json({ error: { code: code ?? '429', message: 'slow down' } }),
  'choice-error': (t) => t.json(t.whole({ text: '' , finish: 'error' })),
  'error-in-choice': (t) => t.json({ id: t.id, model: t.body.model,
                                     choices: [{ error: ERROR, message: { content: '' } }] }),
  'error-first': (t) => {
    t.open();
    t.response.end(t.event({ error: { message: 'no room', metadata: { error_type: 'provider_overloaded' } } }));
  },
  'error-later': (t) => {
    t.saySome();
    t.response.end(t.event(t.chunk([{ index: 0, delta: { content: '' }, finish_reason: 'error' }],
                                   { error: { code: 'server_error', message: 'it broke' } })));
  },
  'empty-choices': (t) => {
    if (!t.streams) {
      t.json({ id: t.id, model: t.body.model, choices: [] });
      return;
    }
    t.open();
    t.response.end(t.event(t.chunk([])) + t.event('[DONE]'));
  },
  empty: (t) => t.answer({ text: '' }),
  filtered: (t) => t.answer({ text: '', finish: 'content_filter' }),
  'no-room': (t) => t.answer({ text: '', finish: 'length' }),
  // of some bytes
  huge: (t, bytes) => t.answer({ text: `${'x'.repeat(999)} `.repeat(Number(bytes ?? 200000) / 1000) }),
  // one line without end
  'huge-line': async (t) => {
    t.open();
    t.say('data: ');
    while (!t.gone) {
      t.say('x'.repeat(65536));
      await pause(1);
    }
  },
  'bad-json': (t) => {
    if (!t.streams) {
      t.json('{"choices": [');
      return;
    }
    t.open();
    t.response.end(t.event('{"choices": ['));
  },
  drop: (t) => {
    if (t.streams) t.saySome();
    else t.half({ announced: true });
    setTimeout(() => t.drop(), 100);
  },
  'drop-first': (t) => t.drop(),
  truncate: (t) => {
    if (t.streams) t.saySome();
    else t.half({ announced: false });
    t.response.end();
  },
  'truncate-first': (t) => {
    t.open();
    t.response.end(t.event(t.delta('')));
  },
  // not even headers
  mute: async () => {},
  // comments, but never a word
  silent: async (t) => {
    t.open();
    await t.comments();
  },
  // some words, then comments
  stall: async (t) => {
    t.saySome();
    await t.comments();
  },
};
