// The sides of the turn bench. Each has a label, start(), idle(), round(connections, seconds) and stop(keep).
// A round answers with {n, rate, p50_ms, p99_ms, cpu: {NAME: seconds}, memory: {NAME: MB}}; n counts all
// turns that the processor time was spent on.
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const broker = require('./broker.js');
const db = require('./database.js');
const { Fleet, KINDS, token } = require('./fleet.js');
const { sendTurns, WARM_UP_S } = require('./load.js');
const { cpuSeconds, pssMb, runForJson, startListener, stopProcess } = require('./measure.js');

const CONTENT = 'Which kinds of work would fit somebody who likes puzzles and people?';
const USERS = 16;
const WINDOW = 512;      // conversations that take turns at once
const TURNS_EACH = 8;    // in a row, then the next window's do
const RATE_MAX = 10000;  // turns a second that the conversations must last for

const count = (seconds) =>
  Math.ceil(RATE_MAX * (seconds + WARM_UP_S) / TURNS_EACH / WINDOW) * WINDOW;
const load = (connections, seconds) =>
  ({ connections, seconds, window: WINDOW, turnsEach: TURNS_EACH, content: CONTENT });

// Runs the load; with the processor time of our processes ({NAME: pid}) and their memory towards its end.
async function measured(pids, seconds, run) {
  const each = (f) => Object.fromEntries(Object.entries(pids).map(([name, pid]) => [name, f(pid)]));
  const before = each(cpuSeconds);
  let memory = {};
  const timer = setTimeout(() => { memory = each(pssMb); }, (seconds + WARM_UP_S) * 800);
  try {
    const r = await run();
    const cpu = each(cpuSeconds);
    for (const name of Object.keys(pids)) cpu[name] -= before[name];
    return { ...r, memory, cpu };
  } finally {
    clearTimeout(timer);
  }
}

// ---- the model that answers at once ----

class Model {
  async start() {
    this.child = await startListener(
      path.join(process.env.CHATFLEET_BIN, 'tests/bench/instant_model'), []);
    this.url = `http://127.0.0.1:${this.child.port}/v1`;
    this.pid = this.child.pid;
  }

  env() { // of a fleet
    return { OPENAI_BASE_URL: this.url, OPENAI_MODEL: 'instant' };
  }

  async stop() {
    await stopProcess(this.child);
  }
}

// ---- the fleet ----

class Turn extends Fleet {
  constructor(label, bin, model) {
    super(label, bin, { kinds: KINDS, env: model.env() });
    this.model = model;
    this.answered = 0;
  }

  async start() {
    await super.start();
    this.users = await db.createUsers(this.database, USERS);
    this.tokens = Object.fromEntries(this.users.map((user) => [user, token(this.secret, user)]));
    this.pids = Object.fromEntries(this.processes.map((p) => [p.kind, p.pid]));
    this.pids.model = this.model.pid;
  }

  idle() {
    return Object.fromEntries(this.processes.map(({ kind, pid }) => [kind, pssMb(pid)]));
  }

  // How many connections to PostgreSQL persistence has.
  async connections() {
    const [[n]] = await this.database.sql('SELECT count(*) FROM pg_stat_activity ' +
      'WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = \'client backend\'');
    return Number(n);
  }

  async send(conversations, options) {
    const withTokens = conversations.map((c) => ({ id: c.id, token: this.tokens[c.user] }));
    const r = await measured(this.pids, options.seconds, () =>
      sendTurns(this.url, withTokens, path.join(this.dir, 'plan'), options))
      .catch((e) => { throw new Error(`${this.label}: ${e.message}; logs are in ${this.dir}`); });
    this.answered += r.n;
    return r;
  }

  async round(connections, seconds) {
    const conversations = await db.createConversations(this.database, this.users, count(seconds));
    const r = await this.send(conversations, load(connections, seconds));
    await db.assertTurns(this.database, this.answered);
    return r;
  }
}

// ---- the yardsticks ----

class Slip {
  constructor(label, sizes) {
    this.label = label;
    this.sizes = sizes;
    this.vhost = `bench-${label}-${process.pid}`;
    this.program = path.join(process.env.CHATFLEET_BIN, 'tests/bench/bare_slip');
  }

  async start() {
    await broker.createVhost(this.vhost);
  }

  async round(connections, seconds) {
    const r = await runForJson(this.program, [broker.vhostUrl(this.vhost), '--in-flight', connections,
      '--seconds', seconds, '--warmup', WARM_UP_S, '--sizes', this.sizes.join(',')]);
    return { ...r, cpu: { client: r.client_cpu_s, steps: r.steps_cpu_s }, memory: {} };
  }

  async stop() {
    await broker.deleteVhost(this.vhost);
  }
}

class Transactions {
  constructor(label, segments) {
    this.label = label;
    this.segments = segments;
    this.database = new db.Database(label);
    this.program = path.join(process.env.CHATFLEET_BIN, 'tests/bench/bare_pg');
    this.answered = 0;
  }

  async start() {
    await this.database.createWithSchema(process.env.CHATFLEET_BIN);
    this.users = await db.createUsers(this.database, USERS);
  }

  async round(connections, seconds) {
    const conversations = await db.createConversations(this.database, this.users, count(seconds));
    const r = await runForJson(this.program, [this.database.url, '--connections', this.connections,
      '--in-flight', connections, '--window', WINDOW, '--turns-each', TURNS_EACH,
      '--seconds', seconds, '--warmup', WARM_UP_S], {}, JSON.stringify({
      segments: this.segments, conversations: conversations.map((c) => [c.id, c.user]),
    }));
    this.answered += r.n;
    await db.assertTurns(this.database, this.answered);
    return { ...r, cpu: { client: r.client_cpu_s }, memory: {} };
  }

  async stop() {
    await this.database.drop();
  }
}

// ---- the stack of the source documents ----

class Express {
  constructor(label, model) {
    this.label = label;
    this.model = model;
    this.database = new db.Database(label);
    this.folder = path.join(__dirname, '../express');
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'chatfleet-bench-'));
    this.secret = 'a secret of the bench alone, for nobody else';
    this.answered = 0;
  }

  async start() {
    await this.database.create();
    const role = decodeURIComponent(new URL(this.database.url).username);
    await this.database.sql(`CREATE SCHEMA chat; SET search_path TO chat;
${fs.readFileSync(path.join(this.folder, 'schema.sql'), 'utf8')}
GRANT USAGE ON SCHEMA chat TO "${role}";
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA chat TO "${role}";`);
    this.users = Array.from({ length: USERS }, () => db.uuid7());
    this.tokens = Object.fromEntries(this.users.map((user) => [user, token(this.secret, user)]));
    this.child = await startListener(process.execPath, [path.join(this.folder, 'app.js')], {
      NODE_ENV: 'production', DATABASE_URL: this.database.url, JWT_SECRET: this.secret,
      MODEL_URL: this.model.url, PORT: '0',
    });
  }

  idle() {
    return { express: pssMb(this.child.pid) };
  }

  async round(connections, seconds) {
    const conversations = Array.from({ length: count(seconds) }, (_, i) =>
      ({ id: db.uuid7(), user: this.users[i % USERS] }));
    await this.database.sql(db.copy('chat.conversations', 'id, user_id',
      conversations.map((c) => [c.id, c.user])) + 'ANALYZE chat.conversations;');
    const r = await measured({ express: this.child.pid, model: this.model.pid }, seconds, () =>
      sendTurns(`http://127.0.0.1:${this.child.port}`,
        conversations.map((c) => ({ id: c.id, token: this.tokens[c.user] })),
        path.join(this.dir, 'plan'), load(connections, seconds)));
    this.answered += r.n;
    const [[messages, usage]] = await this.database.sql(
      'SELECT (SELECT count(*) FROM chat.messages), (SELECT count(*) FROM chat.usage_tracking)');
    if (Number(messages) !== 2 * this.answered || Number(usage) !== this.answered) {
      throw new Error(`express: ${this.answered} answers, ${messages} messages, ${usage} usages`);
    }
    return r;
  }

  async stop() {
    await stopProcess(this.child);
    await this.database.drop();
    fs.rmSync(this.dir, { recursive: true, force: true });
  }
}

// Runs one round of a side, with what a turn took of the processor where, in microseconds.
async function measure(side, connections, seconds, servers) {
  const before = servers.map(({ cpu }) => cpu());
  const r = await side.round(connections, seconds);
  const cpu = { ...r.cpu };
  servers.forEach((s, i) => { cpu[s.name] = s.cpu() - before[i]; });
  const row = { side: side.label, connections, n: r.n, rate: r.rate, p50_ms: r.p50_ms,
    p99_ms: r.p99_ms };
  for (const [name, s] of Object.entries(cpu)) row[`${name}_us`] = s / r.n * 1e6;
  for (const [name, mb] of Object.entries(r.memory)) row[`${name}_mb`] = mb;
  return row;
}

// RabbitMQ and PostgreSQL, when they run on this machine.
async function localServers() {
  const [rabbit, postgres] = [await broker.brokerPid(), await db.postmaster()];
  return [{ name: 'broker', cpu: () => cpuSeconds(rabbit) },
    { name: 'postgres', cpu: () => db.serverCpuSeconds(postgres) }];
}

module.exports = {
  Model, Turn, Slip, Transactions, Express, measure, localServers, CONTENT, TURNS_EACH,
};
