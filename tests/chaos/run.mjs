#!/usr/bin/env node
// ./fleet chaos and the test "chaos" call this; README.md beside it says what it does.
import fs from 'node:fs';
import { parseArgs } from 'node:util';

const HELP = `usage: tests/chaos/run.mjs [options]

  --minutes M       how long faults come; default 5
  --seed S          of all that is random; default: one made up, and printed
  --settle S        seconds that the fleet may take afterwards to come to rest; default 180
  --report FILE     the report, as Markdown, into this file, too
  --check           look at the options and do nothing
  --keep            keep the processes' logs even when all is well

Exits with 0 when the accounting closes, 1 when it does not, 64 on wrong usage. Ctrl-C ends the faults; the
accounting follows. ./fleet chaos sets what it needs: FLEET_HOME, CHATFLEET_BIN, RABBITMQ_URL,
RABBITMQ_MANAGEMENT_URL, DATABASE_URL and DATABASE_ADMIN_URL of private servers that it may stop.
`;

function usage(why) {
  process.stderr.write(`${why}; try --help\n`);
  process.exit(64);
}

function number(text, name, low, high) {
  const n = Number(text);
  if (!(n >= low && n <= high)) usage(`${name} wants a number from ${low} to ${high}, not "${text}"`);
  return n;
}

function readOptions() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        minutes: { type: 'string', default: '5' }, seed: { type: 'string' }, settle: { type: 'string', default: '180' },
        report: { type: 'string' }, check: { type: 'boolean' }, keep: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    }));
  } catch (error) {
    usage(error.message);
  }
  if (values.help) {
    process.stdout.write(HELP);
    process.exit(0);
  }
  if (values.seed !== undefined && !/^[0-9A-Za-z_-]{1,64}$/.test(values.seed)) usage('--seed wants letters and digits');
  return {
    ...values, minutes: number(values.minutes, '--minutes', 0.1, 1440),
    settle: number(values.settle, '--settle', 1, 3600),
    seed: values.seed ?? String(Math.floor(Math.random() * 1e9)),
  };
}

const options = readOptions();
if (options.check) process.exit(0);
if (!process.env.FLEET_HOME) {
  console.log('not run: ./fleet chaos runs it');
  process.exit(0);
}
const lengthMs = options.minutes * 60000;
const started = Date.now();
const say = (text) => console.log(`${((Date.now() - started) / 1000).toFixed(0).padStart(5)} s  ${text}`);

const { makePlan } = await import('./lib/plan.mjs');
const plan = makePlan(options.seed, lengthMs);
const { World } = await import('./lib/world.mjs');
const { Clients } = await import('./lib/clients.mjs');
const { Journal } = await import('./lib/journal.mjs');
const { Attack } = await import('./lib/attack.mjs');
const { account, accountEnds, settle } = await import('./lib/accounting.mjs');
const { makeReport } = await import('./lib/report.mjs');

console.log(`chaos: seed ${options.seed}, ${options.minutes} minutes, ${plan.length} faults planned`);
const world = new World();
const journal = new Journal();
let attack, closes = false, stopped = false;

function stop(why) {
  say(`${why}: no more faults; a moment for the accounting`);
  stopped = true;
  attack?.stop();
}
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => stop(signal));
// A mistake of this program must not leave processes behind.
process.on('uncaughtException', (error) => {
  journal.odd.push(`chaos itself: ${error.stack}`);
  stop(error.message);
});

async function run() {
  await world.open();
  const clients = new Clients(world, journal, options.seed);
  await clients.prepare();
  attack = new Attack(world, clients, plan, say);
  if (stopped) attack.stop();
  const progress = setInterval(() => {
    world.model.requests.length = 0; // nobody looks at them
    say(`${attack.done.length} faults, ${journal.requests} requests, ${journal.writes.length} writes, ` +
        `${journal.odd.length} odd; now: ${[...attack.active].map(({ name }) => name).join(', ') || 'nothing'}`);
  }, 10000);
  await attack.run(lengthMs);
  const attacked = Date.now() - attack.started;
  say('the faults are over; the clients finish');
  await clients.stop();
  const settled = await settle(world, options.settle * 1000, say);
  clearInterval(progress);
  const { book, letters, memory } = await account(world, journal, attack, settled);
  await world.stopProcesses();
  accountEnds(book, world);
  closes = book.closes;
  const report = makeReport({ options, lengthMs: attacked, attack, journal, book, letters, memory, clients, world });
  console.log(`\n${report}`);
  if (options.report) fs.writeFileSync(options.report, report);
}

try {
  await run();
} catch (error) {
  console.error(error);
} finally {
  const keep = !closes || options.keep;
  await world.close({ keep });
  if (keep) console.log(`the processes' logs: ${world.logs}`);
}
console.log(closes ? 'the accounting closes' : 'THE ACCOUNTING DOES NOT CLOSE');
process.exit(closes ? 0 : 1);
