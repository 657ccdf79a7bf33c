// The turn bench: a whole chat turn through the fleet beside what its parts cost with nothing around
// them, and beside the same turn in Express.
'use strict';

const path = require('node:path');
const broker = require('./broker.js');
const { inTurn, medians, medianRatio, sleep } = require('./measure.js');
const { probe } = require('./probe.js');
const {
  Model, Turn, Slip, Transactions, Express, measure, localServers, CONTENT, TURNS_EACH,
} = require('./sides.js');
const { table } = require('./table.js');

const WARM_UP_S = 2;
const WORK_QUEUES = ['persistence', 'context-builder', 'inference', 'persistence.commit'];

// What the two yardsticks allow together: a turn does the work of both.
const limit = (amqp, pg) => 1 / (1 / amqp + 1 / pg);

function withTotal(row) {
  const total = Object.entries(row).filter(([key]) => key.endsWith('_us'))
    .reduce((sum, [, us]) => sum + us, 0);
  return { ...row, total_us: total };
}

// The ratios of each fleet to the yardsticks of the same round.
function ratios(fleets, rounds) {
  const rates = (label) => rounds.filter((r) => r.side === label).map((r) => r.rate);
  const [amqp, pg, express] = ['amqp', 'pg', 'express'].map(rates);
  const limits = amqp.map((rate, i) => limit(rate, pg[i]));
  return fleets.map(({ label }) => ({
    side: label,
    limit: medianRatio(limits, limits.map(() => 1)),
    of_limit: medianRatio(rates(label), limits),
    of_express: medianRatio(rates(label), express),
  }));
}

async function level(sides, fleets, connections, options, say, servers) {
  const rounds = [];
  for (let round = 1; round <= options.rounds; round++) {
    for (const side of inTurn(sides, round)) {
      const r = withTotal(await measure(side, connections, options.seconds, servers));
      r.name = `${round}/${options.rounds}`;
      rounds.push(r);
      say(`  round ${r.name} ${side.label}: ${r.rate.toFixed(0)} turns/s, ` +
        `p99 ${r.p99_ms.toFixed(1)} ms`);
    }
  }
  return {
    connections, rounds,
    medians: sides.map((s) => (
      { side: s.label, name: 'median', ...medians(rounds.filter((r) => r.side === s.label)) })),
    ratios: ratios(fleets, rounds),
  };
}

async function assertComparable(fleet, slip) {
  for (const [i, queue] of WORK_QUEUES.entries()) {
    await broker.assertSameQueue([fleet.vhost, queue], [slip.vhost, `bench.slip.${i + 1}`]);
  }
}

async function turn(options, say) {
  const model = new Model();
  const sides = [];
  let failed = true;
  try {
    await model.start();
    say('one turn, for the yardsticks');
    const seen = await probe(process.env.CHATFLEET_BIN, model.env(), TURNS_EACH / 2, CONTENT);
    const fleets = [new Turn('turn', process.env.CHATFLEET_BIN, model)];
    if (options.against) fleets.push(new Turn('against', path.resolve(options.against), model));
    const slip = new Slip('amqp', seen.sizes), pg = new Transactions('pg', seen.segments);
    sides.push(...fleets, slip, pg, new Express('express', model));
    say(`starting, logs at level ${process.env.LOG_LEVEL || 'info'}`);
    for (const side of sides) await side.start();
    pg.connections = await fleets[0].connections();
    await sleep(1000);
    const idle = sides.filter((s) => s.idle).map((s) => ({ side: s.label, ...s.idle() }));
    say('warming up');
    for (const side of sides) await side.round(options.connections[0], WARM_UP_S);
    await assertComparable(fleets[0], slip);
    const servers = await localServers();
    const levels = [];
    for (const n of options.connections) {
      say(`${n} connections`);
      levels.push(await level(sides, fleets, n, options, say, servers));
    }
    failed = false;
    return {
      bench: 'turn', seconds: options.seconds, idle, levels,
      yardsticks: { message_bytes: seen.sizes, pg_connections: pg.connections,
        statements: seen.segments.map((s) => s.map(({ sql }) => sql)) },
    };
  } finally {
    for (const side of sides) await side.stop(failed);
    await model.stop();
  }
}

const columns = [
  { title: 'round', get: (r) => r.name },
  { title: 'side', get: (r) => r.side },
  { title: 'turns/s', get: (r) => r.rate },
  { title: 'p50 ms', get: (r) => r.p50_ms, digits: 1 },
  { title: 'p99 ms', get: (r) => r.p99_ms, digits: 1 },
];
const PROCESSES = {
  gateway: 'gateway', persistence: 'persistence', 'context-builder': 'context', inference: 'inference',
  express: 'express', client: 'client', steps: 'steps', model: 'model', broker: 'broker',
  postgres: 'postgres', total: 'total',
};
const cpuColumns = [...columns.slice(0, 2), ...Object.entries(PROCESSES).map(([key, title]) =>
  ({ title, get: (r) => r[`${key}_us`] }))];
const memoryColumns = [{ title: 'PSS MB', get: (r) => r.name }, columns[1],
  ...['gateway', 'persistence', 'context-builder', 'inference', 'express'].map((key) =>
    ({ title: PROCESSES[key], get: (r) => r[`${key}_mb`], digits: 1 }))];

function memoryRows(result) {
  const rows = result.idle.map(({ side, ...mb }) => ({
    name: 'idle', side, ...Object.fromEntries(Object.entries(mb).map(([k, v]) => [`${k}_mb`, v])),
  }));
  for (const l of result.levels) {
    rows.push(...l.medians.filter((m) => result.idle.some((i) => i.side === m.side))
      .map((m) => ({ ...m, name: `at ${l.connections}` })));
  }
  return rows;
}

function print(result) {
  for (const l of result.levels) {
    console.log(`\n${l.connections} connections, ${result.seconds} s a round`);
    console.log(table(columns, [...l.rounds, ...l.medians]));
    console.log('\nprocessor time of a turn in us');
    console.log(table(cpuColumns, l.medians));
    console.log('');
    for (const r of l.ratios) {
      console.log(`${r.side}: ${r.of_limit.toFixed(2)} of the limit 1/(1/amqp + 1/pg), which is ` +
        `${r.limit.toFixed(0)} turns/s; ${r.of_express.toFixed(2)} times express`);
    }
  }
  console.log('\n' + table(memoryColumns, memoryRows(result)));
  console.log(`\namqp: bodies of ${result.yardsticks.message_bytes.join(', ')} bytes; ` +
    `pg: ${result.yardsticks.pg_connections} connections`);
}

module.exports = { run: turn, print };
