// The streams bench: answers of a model that speaks at a pace, through a whole fleet with one process of each
// kind, thousands at once; and how much later than from the model itself the first word comes.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const broker = require('./broker.js');
const db = require('./database.js');
const { Fleet, KINDS, token } = require('./fleet.js');
const {
  cpuSeconds, inTurn, medians, pssMb, runForJson, sleep, startListener, stopProcess,
} = require('./measure.js');
const { table } = require('./table.js');

const RATE = 20; // tokens a second of each stream
const OPENED = 200; // streams a second
const USERS = 50;
const FEW = { streams: 200, tokens: 3, atOnce: '8' }; // for the first word, on a machine with time
const SETTLE_S = 1; // of the plateau at its ends

const program = (name) => path.join(process.env.CHATFLEET_BIN, 'tests/bench', name);

class Streams extends Fleet {
  constructor(label, bin, model, most) {
    super(label, bin, { kinds: KINDS, env: {
      OPENAI_BASE_URL: `http://127.0.0.1:${model.port}/v1`, OPENAI_MODEL: 'paced',
      // One worker has them all, for as long as they last.
      INFERENCE_CONCURRENCY: String(most), PREFETCH: String(Math.min(10000, most)),
      MODEL_TIMEOUT_SECONDS: '600', MODEL_FIRST_TOKEN_TIMEOUT_SECONDS: '60', MODEL_IDLE_TIMEOUT_SECONDS: '60',
      BREAKER_OPEN_SECONDS: '0', INTERIM_SECONDS: '0',
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
async function firstWords(sides, model, rounds, say) {
  const list = [];
  for (let i = 1; i <= rounds; i++) {
    const bare = await direct(model, FEW);
    for (const fleet of inTurn(sides, i)) {
      const through = await fleet.load(FEW);
      const r = { name: `${i}/${rounds}`, side: fleet.label, there: through.there_p50_ms, back: through.back_p50_ms,
                  bare_there: bare.there_p50_ms, bare_back: bare.back_p50_ms };
      r.added_back = r.back - r.bare_back;
      r.added = r.added_back + r.there - r.bare_there;
      list.push(r);
      say(`  round ${r.name} ${r.side}: ${r.added.toFixed(1)} ms added to the first word, ` +
        `${r.added_back.toFixed(1)} of them after the model wrote it`);
    }
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
  await db.assertTurns(fleet.database, fleet.answered);
  const messages = await broker.published(fleet.vhost) - published;
  return { side: fleet.label, ...r, messages, rate: r.tokens / r.seconds,
           processes: [...processes, { kind: 'client', cpu: r.client_cpu_s / r.seconds }] };
}

async function level(sides, streams, options, say) {
  const rounds = [];
  for (let i = 1; i <= options.rounds; i++) {
    for (const fleet of inTurn(sides, i)) {
      const r = { name: `${i}/${options.rounds}`, ...await plateau(fleet, streams, options.seconds) };
      rounds.push(r);
      say(`  round ${r.name} ${r.side}: ${r.rate.toFixed(0)} tokens/s, ${r.messages} messages`);
    }
  }
  return { streams, rounds };
}

async function bench(options, say) {
  const model = await startListener(program('paced_model'), [RATE]);
  const most = Math.max(...options.connections);
  const sides = [new Streams('streams', process.env.CHATFLEET_BIN, model, most)];
  if (options.against) sides.push(new Streams('against', options.against, model, most));
  let failed = true;
  try {
    for (const fleet of sides) {
      await fleet.start();
      await fleet.load({ ...FEW, streams: 32 }); // warms up
      fleet.idle = Object.fromEntries(Object.entries(fleet.pids).map(([kind, pid]) => [kind, pssMb(pid)]));
    }
    const first = await firstWords(sides, model, options.rounds, say);
    const levels = [];
    for (const n of options.connections) {
      say(`${n} streams`);
      levels.push(await level(sides, n, options, say));
    }
    failed = false;
    return { bench: 'streams', token_rate: RATE, opened: OPENED, first, levels,
             idle: Object.fromEntries(sides.map((fleet) => [fleet.label, fleet.idle])) };
  } catch (e) {
    throw new Error(`${e.message}; logs are in ${sides.map(({ dir }) => dir).join(', ')}`);
  } finally {
    for (const fleet of sides) await fleet.stop(failed);
    await stopProcess(model);
  }
}

const ms = (title, key) => ({ title, get: (r) => r[key], digits: 1 });
const firstColumns = [
  { title: 'round', get: (r) => r.name },
  { title: 'side', get: (r) => r.side },
  ms('to model ms', 'there'), ms('direct', 'bare_there'), ms('first word back ms', 'back'), ms('direct', 'bare_back'),
  ms('added', 'added'), ms('of them back', 'added_back'),
];
const levelColumns = [
  { title: 'round', get: (r) => r.name },
  { title: 'side', get: (r) => r.side },
  { title: 'tokens/s', get: (r) => r.rate },
  { title: 'deltas', get: (r) => r.deltas },
  { title: 'messages', get: (r) => r.messages },
  ms('late ms p50', 'lag_p50_ms'), ms('p99', 'lag_p99_ms'), ms('max', 'lag_max_ms'),
];

// A figure of each process: of a round, or the medians of a side.
const SHOWN = [...KINDS, 'broker', 'model', 'client'];
const processColumns = (key, digits) => SHOWN.map((kind) =>
  ({ title: kind, get: (r) => r.of[kind]?.[key], digits }));

const sidesOf = (rows) => [...new Set(rows.map((r) => r.side))];

function printLevel({ streams, rounds }, tokenRate, idle) {
  const [{ tokens, bytes }] = rounds;
  console.log(`\n${streams} streams of ${tokenRate} tokens a second: ${tokens} tokens (${bytes} bytes) a round, ` +
    'each once and in order');
  console.log(table(levelColumns, [...rounds,
    ...sidesOf(rounds).map((side) => ({ name: 'median', side, ...medians(rounds.filter((r) => r.side === side)) }))]));
  const rows = rounds.map((r) => ({ ...r, of: Object.fromEntries(r.processes.map((p) => [p.kind, p])) }));
  const head = (title) => [{ title, get: (r) => r.name }, { title: 'side', get: (r) => r.side }];
  console.log(`\n${table([...head('cores'), ...processColumns('cpu', 2)], rows)}`);
  console.log(`\n${table([...head('PSS MB'), ...processColumns('mb', 1)], [...rows, ...sidesOf(rounds).map((side) => ({
    name: 'idle', side, of: Object.fromEntries(Object.entries(idle[side]).map(([kind, mb]) => [kind, { mb }])),
  }))])}`);
}

function print({ first, levels, idle, token_rate: tokenRate }) {
  console.log(`\nthe first word of ${FEW.streams} streams, ${FEW.atOnce} at once: medians`);
  console.log(table(firstColumns, [...first,
    ...sidesOf(first).map((side) => ({ name: 'median', side, ...medians(first.filter((r) => r.side === side)) }))]));
  for (const l of levels) printLevel(l, tokenRate, idle);
}

module.exports = { run: bench, print, connections: [2000] };
