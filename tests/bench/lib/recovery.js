// The recovery bench: how soon after the broker's port opens again the first request is answered.
'use strict';

const { execFile } = require('node:child_process');
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');
const { promisify } = require('node:util');
const { Fleet, KINDS } = require('./fleet.js');
const { sleep } = require('./measure.js');
const { table } = require('./table.js');

const ROOT = path.resolve(__dirname, '../../..');
const AWAY_MS = 10000; // by then the processes try as rarely as they ever do
const LIMIT_MS = 60000;
const GOAL_MS = 3000;

const fleetCommand = (...args) => promisify(execFile)(path.join(ROOT, 'fleet'), args, { cwd: ROOT });

function post(fleet, url, body) {
  return new Promise((resolve) => {
    const r = http.request(fleet.url + url, {
      method: 'POST', agent: false, timeout: 5000,
      headers: { authorization: `Bearer ${fleet.token}`, 'content-type': 'application/json' },
    }, (response) => {
      let text = '';
      response.on('data', (part) => { text += part; });
      response.on('end', () => resolve({ status: response.statusCode, text }));
    });
    r.on('timeout', () => r.destroy());
    r.on('error', () => resolve({ status: 0 }));
    r.end(JSON.stringify(body));
  });
}

function opens(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('connect', () => { socket.destroy(); resolve(true); });
    socket.on('error', () => resolve(false));
  });
}

// Milliseconds until `ask` gives true.
async function first(what, since, ask) {
  while (!await ask()) {
    if (performance.now() > since + LIMIT_MS) throw new Error(`${what} did not come back`);
    await sleep(10);
  }
  return performance.now() - since;
}

async function round(fleet, port) {
  const echo = async () => (await post(fleet, '/api/chat/echo', { message: 'there?' })).status === 200;
  const turn = async () =>
    (await post(fleet, `/api/chat/conversations/${fleet.conversation}/messages`, { content: 'there?' })).status === 200;
  await first('the fleet', performance.now(), turn);
  await fleetCommand('broker', 'stop');
  await sleep(AWAY_MS);
  const started = fleetCommand('broker', 'start');
  await first('the port', performance.now(), () => opens(port));
  const opened = performance.now();
  const [echo_ms, turn_ms] = await Promise.all([first('the echo', opened, echo), first('the turn', opened, turn)]);
  await started;
  return { echo_ms, turn_ms };
}

async function recovery(options, say) {
  const fleet = new Fleet('recovery', process.env.CHATFLEET_BIN, { kinds: KINDS, env: { AUTH_AUTO_PROVISION: 'true' } });
  const port = Number(new URL(process.env.RABBITMQ_URL).port);
  const rounds = [];
  let failed = true;
  try {
    await fleet.start();
    await first('the fleet', performance.now(), async () => {
      const { status, text } = await post(fleet, '/api/chat/conversations', {});
      if (status === 201) fleet.conversation = JSON.parse(text).id;
      return status === 201;
    });
    for (let i = 1; i <= options.rounds; i++) {
      const r = { name: `${i}/${options.rounds}`, ...await round(fleet, port) };
      rounds.push(r);
      say(`  round ${r.name}: echo after ${r.echo_ms.toFixed(0)} ms, turn after ${r.turn_ms.toFixed(0)} ms`);
    }
    failed = false;
    return { bench: 'recovery', away_ms: AWAY_MS, goal_ms: GOAL_MS, rounds };
  } finally {
    await fleet.stop(failed);
  }
}

const columns = [
  { title: 'round', get: (r) => r.name },
  { title: 'echo ms', get: (r) => r.echo_ms },
  { title: 'turn ms', get: (r) => r.turn_ms },
];

function print({ rounds, away_ms: away, goal_ms: goal }) {
  const sorted = (key) => rounds.map((r) => r[key]).sort((a, b) => a - b);
  const row = (name, pick) => ({ name, echo_ms: pick(sorted('echo_ms')), turn_ms: pick(sorted('turn_ms')) });
  console.log(`\nfrom the broker's port opening, after ${away / 1000} s without it, to the first answer (goal: ${goal} ms)`);
  console.log(table(columns, [...rounds, row('median', (all) => all[Math.floor(all.length / 2)]),
                              row('max', (all) => all.at(-1))]));
}

module.exports = { run: recovery, print };
