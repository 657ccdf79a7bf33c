// The confirms bench: turns through the fleet as it is, and through a build that takes as safe what was only
// sent (the CMake option NO_CONFIRMS).
'use strict';

const { execFileSync } = require('node:child_process');
const path = require('node:path');
const { inTurn, medians, medianRatio, sleep } = require('./measure.js');
const { Model, Turn, measure, localServers } = require('./sides.js');
const { table } = require('./table.js');

const ROOT = path.resolve(__dirname, '../../..');
const WITHOUT = path.join(ROOT, 'build/no-confirms');
const GOAL = 0.85;

function build() {
  const cmake = (...args) => execFileSync('cmake', args, { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
  cmake('--preset', 'release', '-B', WITHOUT, '-DNO_CONFIRMS=ON');
  cmake('--build', WITHOUT);
}

async function confirms(options, say) {
  const model = new Model();
  const sides = [];
  const levels = [];
  let failed = true;
  try {
    say('building without confirms');
    build();
    await model.start();
    sides.push(new Turn('confirms', process.env.CHATFLEET_BIN, model), new Turn('none', WITHOUT, model));
    for (const side of sides) await side.start();
    say('warming up');
    for (const side of sides) await side.round(options.connections[0], 2);
    await sleep(1000);
    const servers = await localServers();
    for (const n of options.connections) {
      const rounds = [];
      for (let round = 1; round <= options.rounds; round++) {
        for (const side of inTurn(sides, round)) {
          const r = await measure(side, n, options.seconds, servers);
          r.name = `${round}/${options.rounds}`;
          rounds.push(r);
          say(`  ${n} connections, round ${r.name} ${side.label}: ${r.rate.toFixed(0)} turns/s`);
        }
      }
      const rates = (label) => rounds.filter((r) => r.side === label).map((r) => r.rate);
      levels.push({
        connections: n, rounds, ratio: medianRatio(rates('confirms'), rates('none')),
        medians: sides.map((s) => ({ side: s.label, name: 'median', ...medians(rounds.filter((r) => r.side === s.label)) })),
      });
    }
    failed = false;
    return { bench: 'confirms', goal: GOAL, seconds: options.seconds, levels };
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

function print(result) {
  for (const l of result.levels) {
    console.log(`\n${l.connections} connections, ${result.seconds} s a round`);
    console.log(table(columns, [...l.rounds, ...l.medians]));
    console.log(`with confirms: ${l.ratio.toFixed(2)} of the rate without (goal: ${result.goal})`);
  }
}

module.exports = { run: confirms, print };
