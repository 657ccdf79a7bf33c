// The streams bench: answers of a model that speaks at a pace, through a whole fleet with one process of each
// kind, thousands at once; and how much later than from the model itself the first word comes.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const broker = require('./broker.js');
const db = require('./database.js');
const { Fleet, KINDS, token } = require('./fleet.js');
const { cpuSeconds, median, pssMb, runForJson, sleep, startListener, stopProcess } = require('./measure.js');
const { table } = require('./table.js');

const RATE = 20; // tokens a second of each stream
const OPENED = 200; // streams a second
const USERS = 50;
const FEW = { streams: 200, tokens: 3, atOnce: '8' }; // for the first word, on a machine with time
const SETTLE_S = 1; // of the plateau at its ends

const program = (name) => path.join(process.env.CHATFLEET_BIN, 'tests/bench', name);

class Streams extends Fleet {
  constructor(bin, model, most) {
    super('streams', bin, { kinds: KINDS, env: {
      OPENAI_BASE_URL: `http://127.0.0.1:${model.port}/v1`, OPENAI_MODEL: 'paced',
      // One worker has them all, for as long as they last.
      INFERENCE_CONCURRENCY: String(most), PREFETCH: String(Math.min(10000, most)),
      MODEL_TIMEOUT_SECONDS: '600', MODEL_FIRST_TOKEN_TIMEOUT_SECONDS: '60', MODEL_IDLE_TIMEOUT_SECONDS: '60',
      BREAKER_OPEN_SECONDS: '0',
    } });
    this.model = model.pid;
    this.answered = 0;
  }

  async start() {
    await super.start();
    this.users = await db.createUsers(this.database, USERS);
    this.tokens = Object.fromEntries(this.users.map((user) => [user, token(this.secret, user)]));
    this.pids = Object.fromEntries(this.processes.map((p) => [p.kind, p.pid]));
    this.pids.broker = await broker.brokerPid();
    this.pids.model = this.model;
  }

  // What stream_load says of so many streams, each in a conversation of its own.
  async load({ streams, tokens, atOnce }) {
    const conversations = await db.createConversations(this.database, this.users, streams);
    const plan = path.join(this.dir, 'plan');
    fs.writeFileSync(plan, conversations.map((c) =>
      `/api/chat/conversations/${c.id}/messages ${this.tokens[c.user]}\n`).join(''), { mode: 0o600 });
    const r = await runForJson(program('stream_load'), [this.port(), plan, streams, tokens, RATE, atOnce]);
    this.answered += streams;
    return r;
  }
}

const direct = (model, { streams, tokens, atOnce }) =>
  runForJson(program('stream_load'), [model.port, 'direct', streams, tokens, RATE, atOnce]);

// From the request to the first word, and the part of it after the model wrote that; from the model itself, too.
async function firstWords(fleet, model, rounds, say) {
  const list = [];
  for (let i = 1; i <= rounds; i++) {
    const [through, bare] = i % 2 ? [await fleet.load(FEW), await direct(model, FEW)]
      : [await direct(model, FEW), await fleet.load(FEW)].reverse();
    const r = { name: `${i}/${rounds}`, there: through.there_p50_ms, back: through.back_p50_ms,
                bare_there: bare.there_p50_ms, bare_back: bare.back_p50_ms };
    r.added_back = r.back - r.bare_back;
    r.added = r.added_back + r.there - r.bare_there;
    list.push(r);
    say(`  round ${r.name}: the fleet adds ${r.added.toFixed(1)} ms to the first word, ${r.added_back.toFixed(1)} of them ` +
      'after the model wrote it');
  }
  return list;
}

// Processor time and memory of each process while all streams are under way.
async function watch(fleet, seconds) {
  const cpu = () => Object.entries(fleet.pids).map(([kind, pid]) => [kind, cpuSeconds(pid)]);
  const before = cpu(), began = performance.now();
  await sleep(seconds * 1000);
  const wall = (performance.now() - began) / 1000;
  return cpu().map(([kind, after], i) =>
    ({ kind, cpu: (after - before[i][1]) / wall, mb: pssMb(fleet.pids[kind]) }));
}

async function plateau(fleet, streams, seconds) {
  const rampS = streams / OPENED;
  const published = await broker.published(fleet.vhost);
  const running = fleet.load({ streams, tokens: Math.ceil((rampS + seconds) * RATE), atOnce: `+${OPENED}` });
  let failed;
  running.catch((e) => { failed = e; });
  await sleep((rampS + SETTLE_S) * 1000);
  const processes = await watch(fleet, Math.max(1, seconds - 2 * SETTLE_S));
  if (failed) throw failed;
  const r = await running;
  processes.push({ kind: 'client', cpu: r.client_cpu_s / r.seconds });
  await db.assertTurns(fleet.database, fleet.answered);
  const messages = await broker.published(fleet.vhost) - published;
  return { ...r, messages, processes, rate: r.tokens / r.seconds };
}

async function bench(options, say) {
  const model = await startListener(program('paced_model'), [RATE]);
  const fleet = new Streams(process.env.CHATFLEET_BIN, model, Math.max(...options.connections));
  let failed = true;
  try {
    await fleet.start();
    await fleet.load({ ...FEW, streams: 32 }); // warms up
    const idle = Object.fromEntries(Object.entries(fleet.pids).map(([kind, pid]) => [kind, pssMb(pid)]));
    const first = await firstWords(fleet, model, options.rounds, say);
    const levels = [];
    for (const n of options.connections) {
      say(`${n} streams`);
      levels.push(await plateau(fleet, n, options.seconds));
    }
    failed = false;
    return { bench: 'streams', token_rate: RATE, opened: OPENED, first, levels, idle };
  } catch (e) {
    throw new Error(`${e.message}; logs are in ${fleet.dir}`);
  } finally {
    await fleet.stop(failed);
    await stopProcess(model);
  }
}

const ms = (title, key) => ({ title, get: (r) => r[key], digits: 1 });
const firstColumns = [
  { title: 'round', get: (r) => r.name },
  ms('to model ms', 'there'), ms('direct', 'bare_there'), ms('first word back ms', 'back'), ms('direct', 'bare_back'),
  ms('added', 'added'), ms('of them back', 'added_back'),
];
const processColumns = [
  { title: 'process', get: (r) => r.kind },
  { title: 'cores', get: (r) => r.cpu, digits: 2 },
  { title: 'PSS MB', get: (r) => r.mb, digits: 1 },
  { title: 'idle', get: (r) => r.idle, digits: 1 },
];

function print({ first, levels, idle, token_rate: tokenRate }) {
  const medians = Object.fromEntries(Object.keys(first[0]).filter((key) => key !== 'name')
    .map((key) => [key, median(first.map((r) => r[key]))]));
  console.log(`\nthe first word of ${FEW.streams} streams, ${FEW.atOnce} at once: medians`);
  console.log(table(firstColumns, [...first, { name: 'median', ...medians }]));
  for (const l of levels) {
    console.log(`\n${l.streams} streams of ${tokenRate} tokens a second: ${l.tokens} tokens (${l.bytes} bytes), each once and in ` +
      `order, ${l.resets} resets`);
    console.log(`${Math.round(l.rate)} tokens/s from the first to the last; ${(l.tokens / l.deltas).toFixed(2)} tokens a delta; ` +
      `${l.messages} messages for ${l.deltas} deltas`);
    console.log(`a token comes ${l.lag_p50_ms.toFixed(1)} ms after it was due (p99 ${l.lag_p99_ms.toFixed(1)}, ` +
      `at most ${l.lag_max_ms.toFixed(1)})`);
    console.log(table(processColumns, l.processes.map((p) => ({ ...p, idle: idle[p.kind] }))));
  }
}

module.exports = { run: bench, print, connections: [2000] };
