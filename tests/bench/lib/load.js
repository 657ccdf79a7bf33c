// Chat turns over HTTP: wrk with turn.lua.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { runForJson } = require('./measure.js');

const WARM_UP_S = 0.5;
const DRAIN_S = 3; // nothing new is sent in it

// url: of the service; conversations: [{id, token}]; file: to be written. options: connections, seconds,
// window, turnsEach, content, turns (at most). Every turn that was sent must have been answered.
async function sendTurns(url, conversations, file, options) {
  fs.writeFileSync(file, conversations.map((c) =>
    `/api/chat/conversations/${c.id}/messages ${c.token}\n`).join(''), { mode: 0o600 });
  const r = await runForJson('wrk', ['-t1', `-c${options.connections}`,
    `-d${Math.ceil(WARM_UP_S + options.seconds) + DRAIN_S}s`, '--timeout', '60s',
    '-s', path.join(__dirname, '../turn.lua'), url], {
    BENCH_PLAN: file,
    BENCH_WARMUP: WARM_UP_S,
    BENCH_SECONDS: options.seconds,
    BENCH_WINDOW: Math.min(options.window, conversations.length),
    BENCH_TURNS_EACH: options.turnsEach,
    BENCH_TURNS: options.turns ?? 1e9,
    BENCH_BODY: JSON.stringify({ content: options.content }),
  });
  if (r.bad > 0) throw new Error(`${r.bad} turns were answered badly, the first: ${r.first_bad}`);
  if (r.broken > 0) throw new Error(`${r.broken} requests got no answer`);
  if (r.n !== r.sent) {
    throw new Error(`${r.sent - r.n} of ${r.sent} turns were not answered ${DRAIN_S} s after the last`);
  }
  if (r.counted === 0) throw new Error('no turn was answered in time to be counted');
  return r;
}

module.exports = { sendTurns, WARM_UP_S };
