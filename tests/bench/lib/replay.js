// The replay bench: 10,000 dead letters given back to the fleet, and what the tool takes meanwhile.
'use strict';

const { spawn } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const broker = require('./broker.js');
const { createConversations, createUsers, uuid7 } = require('./database.js');
const { Fleet, KINDS } = require('./fleet.js');
const { pssMb, sleep } = require('./measure.js');
const { table } = require('./table.js');

const LETTERS = 10000;
const BODY = 1000; // bytes, about
const LONG_AGO = Date.now() - 400 * 86400000; // which persistence refuses, but not of a replay
const SAMPLE_MS = 50;

// Lines of export: conversation.update of each of these conversations, as a worker would have left it.
function lines(run, conversations) {
  return Array.from({ length: LETTERS }, (_, i) => {
    const id = crypto.randomUUID();
    const headers = { 'x-user-id': conversations[i].user, 'x-tenant-id': 'default', 'x-dead-letter-id': id,
      'x-error-kind': 'reject', 'x-error': 'too old', 'x-failed-at': new Date().toISOString(),
      'x-failed-by': 'bench', 'x-queue': 'persistence' };
    return JSON.stringify({ id, queue: 'persistence',
      properties: { type: 'conversation.update', message_id: uuid7(LONG_AGO + i),
        correlation_id: crypto.randomUUID(), content_type: 'application/json' },
      headers: Object.entries(headers).map(([name, value]) => [name, 'S', value]),
      body: JSON.stringify({ conversation_id: conversations[i].id, title: run, metadata: { filler: 'x'.repeat(BODY) } }) });
  }).join('\n') + '\n';
}

// Runs chatfleet dlq: {seconds, json, pss: {first, middle, last, max}}.
async function tool(fleet, args) {
  const began = process.hrtime.bigint();
  const child = spawn(path.join(fleet.bin, 'chatfleet'), ['dlq', ...args, '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH, RABBITMQ_URL: broker.vhostUrl(fleet.vhost),
      DATABASE_ADMIN_URL: fleet.database.adminUrl },
  });
  const samples = [];
  let out = '', err = '';
  child.stdout.on('data', (d) => { out += d; });
  child.stderr.on('data', (d) => { err += d; });
  const ended = new Promise((resolve) => child.on('close', resolve));
  let code;
  ended.then((c) => { code = c; });
  while (code === undefined) {
    const mb = pssMb(child.pid);
    if (mb > 0) samples.push(mb);
    await Promise.race([ended, sleep(SAMPLE_MS)]);
  }
  if (code !== 0) throw new Error(`chatfleet dlq ${args.join(' ')} ended with ${code}: ${err}${out}`);
  const at = (share) => samples[Math.min(samples.length - 1, Math.floor(samples.length * share))];
  return { seconds: Number(process.hrtime.bigint() - began) / 1e9, json: JSON.parse(out),
    pss_mb: { first: at(0.1), middle: at(0.5), last: at(0.95), max: Math.max(...samples) } };
}

async function rows(fleet, run) {
  return Number((await fleet.database.sql(
    `SELECT count(*) FROM chat.conversations WHERE title = '${run}'`))[0][0]);
}

async function all(fleet, run) {
  for (const end = Date.now() + 60000; await rows(fleet, run) < LETTERS; await sleep(20)) {
    if (Date.now() > end) throw new Error(`${await rows(fleet, run)} of ${LETTERS} are there`);
  }
}

async function replay(options, say) {
  const fleet = new Fleet('replay', process.env.CHATFLEET_BIN, { kinds: KINDS });
  const results = [];
  let failed = true;
  try {
    say('starting');
    await fleet.start();
    const users = await createUsers(fleet.database, 100);
    const conversations = await createConversations(fleet.database, users, LETTERS);
    for (let round = 1; round <= options.rounds; round++) {
      for (const how of ['--timeout', '--no-wait']) {
        const run = `run-${round}${how}`, file = path.join(fleet.dir, 'letters.jsonl');
        fs.writeFileSync(file, lines(run, conversations));
        const put = await tool(fleet, ['import', file]);
        if (put.json.imported !== LETTERS) throw new Error(JSON.stringify(put.json));
        const list = await tool(fleet, ['list', '--queue', 'persistence']);
        if (list.json[0].count !== LETTERS) throw new Error(JSON.stringify(list.json));
        const began = process.hrtime.bigint();
        const did = await tool(fleet, ['replay', '--all', ...(how === '--timeout' ? [how, '600'] : [how])]);
        await all(fleet, run);
        const seconds = Number(process.hrtime.bigint() - began) / 1e9;
        if (did.json.replayed !== LETTERS || await rows(fleet, run) !== LETTERS) {
          throw new Error(JSON.stringify(did.json));
        }
        results.push({ outcomes: how === '--timeout' ? 'awaited' : 'not awaited', letters: LETTERS,
          per_second: LETTERS / seconds, tool_per_second: did.json.letters_per_second,
          list_seconds: list.seconds, import_per_second: LETTERS / put.seconds, pss_mb: did.pss_mb });
        say(`round ${round}, ${results.at(-1).outcomes}: ${Math.round(LETTERS / seconds)}/s`);
      }
    }
    failed = false;
    return { bench: 'replay', results };
  } finally {
    await fleet.stop(failed);
  }
}

function print(result) {
  console.log(table([
    { title: 'outcomes', get: (r) => r.outcomes },
    { title: 'letters/s', get: (r) => r.per_second, digits: 0 },
    { title: 'the tool/s', get: (r) => r.tool_per_second, digits: 0 },
    { title: 'PSS MB, early', get: (r) => r.pss_mb.first, digits: 1 },
    { title: 'middle', get: (r) => r.pss_mb.middle, digits: 1 },
    { title: 'late', get: (r) => r.pss_mb.last, digits: 1 },
    { title: 'most', get: (r) => r.pss_mb.max, digits: 1 },
    { title: 'list, s', get: (r) => r.list_seconds, digits: 2 },
    { title: 'import/s', get: (r) => r.import_per_second, digits: 0 },
  ], result.results));
}

module.exports = { run: replay, print };
