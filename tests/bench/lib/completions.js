// The completions bench: prompts through the inference worker and its queues, beside the same ones through
// Portkey's gateway, with the same model server, which answers at once.
'use strict';

const { spawn } = require('node:child_process');
const crypto = require('node:crypto');
const net = require('node:net');
const path = require('node:path');
const broker = require('./broker.js');
const { Fleet } = require('./fleet.js');
const {
  cpuSeconds, inTurn, medians, medianRatio, pssMb, runForJson, sleep, stopProcess,
} = require('./measure.js');
const { Model } = require('./sides.js');
const { table } = require('./table.js');

const MESSAGES = [
  { role: 'system', content: 'You are a counsellor for careers. Be brief and kind.' },
  { role: 'user', content: 'Which kinds of work would fit somebody who likes puzzles and people?' },
];
const WARM_UP_S = 2;
const READY_MS = 20000;

class Worker extends Fleet {
  constructor(label, bin, model) {
    super(label, bin, { kinds: ['inference'], env: model.env() });
    this.program = path.join(process.env.CHATFLEET_BIN, 'tests/bench/bare_rpc');
  }

  pid() {
    return this.processes[0].pid;
  }

  async round(connections, seconds) {
    const body = JSON.stringify({ prompt: { messages: MESSAGES } });
    const before = cpuSeconds(this.pid());
    const r = await runForJson(this.program, [broker.vhostUrl(this.vhost), '--in-flight', connections,
      '--seconds', seconds, '--queue', 'inference', '--type', 'inference.generate', '--user', crypto.randomUUID(),
      '--body', body, '--expect', '"finish_reason"']);
    // What came before and after the measured time was worked for, too.
    return { ...r, cpu_us: (cpuSeconds(this.pid()) - before) / (r.rate * (seconds + 0.5)) * 1e6 };
  }
}

// A port that was free a moment ago: Portkey's gateway does not choose one itself.
async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const connects = (port) => new Promise((resolve) => {
  const socket = net.connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true); });
  socket.on('error', () => resolve(false));
});

class Portkey {
  constructor(label, model) {
    this.label = label;
    this.model = model;
    this.program = path.join(__dirname, '../portkey/node_modules/@portkey-ai/gateway/build/start-server.js');
  }

  async start() {
    const port = await freePort();
    this.url = `http://127.0.0.1:${port}/v1/chat/completions`;
    this.child = spawn(process.execPath, [this.program, `--port=${port}`, '--headless'],
      { env: { PATH: process.env.PATH, NODE_ENV: 'production' }, stdio: 'ignore' });
    for (const end = Date.now() + READY_MS; !await connects(port); await sleep(50)) {
      if (this.child.exitCode !== null || Date.now() > end) throw new Error('Portkey\'s gateway did not start');
    }
  }

  pid() {
    return this.child.pid;
  }

  async round(connections, seconds) {
    const before = cpuSeconds(this.pid());
    const r = await runForJson('wrk', ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s',
      '-s', path.join(__dirname, '../post.lua'), this.url],
    { BENCH_HEADERS: `x-portkey-provider: openai\nx-portkey-custom-host: ${this.model.url}\nAuthorization: Bearer any`,
      BENCH_BODY: JSON.stringify({ model: 'instant', messages: MESSAGES }) });
    if (r.failed) throw new Error(`${r.failed} requests to Portkey's gateway failed`);
    return { ...r, cpu_us: (cpuSeconds(this.pid()) - before) / r.n * 1e6 };
  }

  async stop() {
    await stopProcess(this.child);
  }
}

async function level(sides, connections, options, say) {
  const rounds = [];
  for (let round = 1; round <= options.rounds; round++) {
    for (const side of inTurn(sides, round)) {
      const r = { side: side.label, name: `${round}/${options.rounds}`,
                  ...await side.round(connections, options.seconds), mb: pssMb(side.pid()) };
      rounds.push(r);
      say(`  round ${r.name} ${side.label}: ${r.rate.toFixed(0)} completions/s`);
    }
  }
  const of = (label, key) => rounds.filter((r) => r.side === label).map((r) => r[key]);
  return {
    connections, rounds,
    medians: sides.map((s) => (
      { side: s.label, name: 'median', ...medians(rounds.filter((r) => r.side === s.label)) })),
    rate: medianRatio(of('worker', 'rate'), of('portkey', 'rate')),
    cpu: medianRatio(of('portkey', 'cpu_us'), of('worker', 'cpu_us')),
  };
}

async function completions(options, say) {
  const model = new Model();
  const sides = [];
  let failed = true;
  try {
    await model.start();
    sides.push(new Worker('worker', process.env.CHATFLEET_BIN, model), new Portkey('portkey', model));
    say(`starting, logs at level ${process.env.LOG_LEVEL || 'info'}`);
    for (const side of sides) await side.start();
    await sleep(1000);
    say('warming up');
    for (const side of sides) await side.round(options.connections[0], WARM_UP_S);
    const levels = [];
    for (const n of options.connections) {
      say(`${n} at once`);
      levels.push(await level(sides, n, options, say));
    }
    failed = false;
    return { bench: 'completions', seconds: options.seconds, levels };
  } finally {
    for (const side of sides) await side.stop(failed);
    await model.stop();
  }
}

const columns = [
  { title: 'round', get: (r) => r.name },
  { title: 'side', get: (r) => r.side },
  { title: 'completions/s', get: (r) => r.rate },
  { title: 'p50 ms', get: (r) => r.p50_ms, digits: 1 },
  { title: 'p99 ms', get: (r) => r.p99_ms, digits: 1 },
  { title: 'its CPU us', get: (r) => r.cpu_us },
  { title: 'PSS MB', get: (r) => r.mb, digits: 1 },
];

function print(result) {
  for (const l of result.levels) {
    console.log(`\n${l.connections} at once, ${result.seconds} s a round`);
    console.log(table(columns, [...l.rounds, ...l.medians]));
    console.log(`worker: ${l.rate.toFixed(1)} times the rate of Portkey's gateway, which takes ` +
      `${l.cpu.toFixed(1)} times the processor time for a completion`);
  }
}

module.exports = { run: completions, print };
