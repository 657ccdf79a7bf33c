// The echo bench: HTTP -> AMQP -> worker -> AMQP -> HTTP beside a bare AMQP RPC, in turn.
'use strict';

const path = require('node:path');
const broker = require('./broker.js');
const { Fleet } = require('./fleet.js');
const { cpuSeconds, pssMb, runForJson, medians, medianRatio, sleep } = require('./measure.js');
const { table } = require('./table.js');

const TEXT = 'hello from the bench';
const WARM_UP_S = 2;

class Bare {
  constructor(label, acks) {
    this.label = label;
    this.acks = acks;
    this.vhost = `bench-${label}-${process.pid}`;
    this.program = path.join(process.env.CHATFLEET_BIN, 'tests/bench/bare_rpc');
  }

  async start() {
    await broker.createVhost(this.vhost);
  }

  async round(connections, seconds) {
    const r = await runForJson(this.program, [broker.vhostUrl(this.vhost),
      '--in-flight', connections, '--seconds', seconds, '--body', JSON.stringify({ message: TEXT }),
      '--acks', this.acks]);
    return { ...r, memory: {} };
  }

  async stop() {
    await broker.deleteVhost(this.vhost);
  }
}

class Shim extends Fleet {
  async round(connections, seconds) {
    const pids = { gateway: this.gateway.pid, worker: this.worker.pid };
    const cpu = () => Object.values(pids).map(cpuSeconds);
    const before = cpu();
    const load = runForJson('wrk', ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s',
      '-s', path.join(__dirname, '../post.lua'), `${this.url}/api/chat/echo`],
    { BENCH_HEADERS: `Authorization: Bearer ${this.token}`, BENCH_BODY: JSON.stringify({ message: TEXT }) });
    const loaded = sleep(seconds * 800).then(() => [pssMb(pids.gateway), pssMb(pids.worker)]);
    const r = await load;
    if (r.failed) throw new Error(`${r.failed} requests failed; logs are in ${this.dir}`);
    const used = cpu().map((s, i) => s - before[i]);
    const [gatewayMb, workerMb] = await loaded;
    return { ...r, gateway_cpu_s: used[0], worker_cpu_s: used[1], memory: { gatewayMb, workerMb } };
  }
}

// One round of one side, with the processor time that a request took where.
async function measure(side, connections, seconds, brokerPid) {
  const before = cpuSeconds(brokerPid);
  const r = await side.round(connections, seconds);
  const perRequest = (s) => (s === undefined ? NaN : s / r.n * 1e6);
  return {
    side: side.label, connections, n: r.n, rate: r.rate, p50_ms: r.p50_ms, p99_ms: r.p99_ms,
    front_cpu_us: perRequest(r.gateway_cpu_s ?? r.client_cpu_s),
    worker_cpu_us: perRequest(r.worker_cpu_s ?? r.server_cpu_s),
    broker_cpu_us: perRequest(cpuSeconds(brokerPid) - before),
    gateway_mb: r.memory.gatewayMb, worker_mb: r.memory.workerMb,
  };
}

const columns = [
  { title: 'round', get: (r) => r.name },
  { title: 'side', get: (r) => r.side },
  { title: 'requests/s', get: (r) => r.rate },
  { title: 'p50 ms', get: (r) => r.p50_ms, digits: 2 },
  { title: 'p99 ms', get: (r) => r.p99_ms, digits: 2 },
  { title: 'client|gateway us', get: (r) => r.front_cpu_us, digits: 1 },
  { title: 'server|worker us', get: (r) => r.worker_cpu_us, digits: 1 },
  { title: 'broker us', get: (r) => r.broker_cpu_us, digits: 1 },
  { title: 'gateway MB', get: (r) => r.gateway_mb, digits: 1 },
  { title: 'worker MB', get: (r) => r.worker_mb, digits: 1 },
];

function ratios(side, yardstick, rounds) {
  const of = (label, key) => rounds.filter((r) => r.side === label).map((r) => r[key]);
  const ratio = (key) => medianRatio(of(side, key), of(yardstick, key));
  return { side, yardstick, rate: ratio('rate'), p99: ratio('p99_ms') };
}

async function level(yardsticks, shims, connections, options, say, brokerPid) {
  const sides = [...yardsticks, ...shims];
  const rounds = [];
  for (let round = 1; round <= options.rounds; round++) {
    for (const side of sides) {
      const r = await measure(side, connections, options.seconds, brokerPid);
      r.name = `${round}/${options.rounds}`;
      rounds.push(r);
      say(`  round ${r.name} ${side.label}: ${r.rate.toFixed(0)} requests/s, ` +
        `p99 ${r.p99_ms.toFixed(2)} ms`);
    }
  }
  return {
    connections, rounds,
    medians: sides.map((s) => (
      { side: s.label, name: 'median', ...medians(rounds.filter((r) => r.side === s.label)) })),
    ratios: shims.flatMap((s) => yardsticks.map((y) => ratios(s.label, y.label, rounds))),
  };
}

function print(result) {
  for (const l of result.levels) {
    console.log(`\n${l.connections} connections, ${result.seconds} s a round`);
    console.log(table(columns, [...l.rounds, ...l.medians]));
    for (const r of l.ratios) {
      console.log(`${r.side} / ${r.yardstick}: ${r.rate.toFixed(2)} of the rate, ` +
        `${r.p99.toFixed(2)} times the p99`);
    }
  }
  console.log('\nidle, PSS in MB: ' + result.idle.map((m) =>
    `${m.side} gateway ${m.gateway_mb.toFixed(1)}, worker ${m.worker_mb.toFixed(1)}`).join('; '));
}

async function echo(options, say) {
  const yardsticks = [new Bare('bare', 'each'), new Bare('batched', 'batch')];
  const shims = [new Shim('shim', process.env.CHATFLEET_BIN)];
  if (options.against) shims.push(new Shim('against', path.resolve(options.against)));
  const sides = [...yardsticks, ...shims];
  let failed = true;
  try {
    say(`starting, logs at level ${process.env.LOG_LEVEL || 'info'}`);
    for (const side of sides) await side.start();
    await sleep(1000);
    const idle = shims.map((s) => ({
      side: s.label, gateway_mb: pssMb(s.gateway.pid), worker_mb: pssMb(s.worker.pid),
    }));
    say('warming up');
    for (const side of sides) await side.round(options.connections[0], WARM_UP_S);
    for (const s of shims) {
      await broker.assertSameQueue([s.vhost, 'context-builder'], [yardsticks[0].vhost, 'bench.bare']);
    }
    const pid = await broker.brokerPid();
    const levels = [];
    for (const n of options.connections) {
      say(`${n} connections`);
      levels.push(await level(yardsticks, shims, n, options, say, pid));
    }
    failed = false;
    return { bench: 'echo', seconds: options.seconds, idle, levels };
  } finally {
    for (const side of sides) await side.stop(failed);
  }
}

module.exports = { run: echo, print, Shim };
