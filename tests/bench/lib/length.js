// The length bench: what a turn costs in a conversation that has so many messages already.
'use strict';

const { assertTurns, createConversations, fillConversations } = require('./database.js');
const { inTurn, medians, medianRatio, sleep } = require('./measure.js');
const { probe } = require('./probe.js');
const { Model, Turn, measure, localServers, CONTENT } = require('./sides.js');
const { table } = require('./table.js');

const LENGTHS = [10, 100, 1000, 10000];
const WINDOW = 32;       // conversations that take turns at once
const TURNS_MAX = 1000;  // of a round
const SHARED_FROM = 1000; // conversations so long are filled once for all rounds

// A round makes a short conversation a little longer, so that there are many of them.
const turnsEach = (length) =>
  Math.min(Math.max(2, Math.floor(length / 15)), Math.ceil(TURNS_MAX / WINDOW));
const count = (length) => Math.ceil(TURNS_MAX / turnsEach(length) / WINDOW) * WINDOW;

// A fleet's turns in conversations of one length: a side as the turn bench has them.
class Length {
  constructor(fleet, length, seen) {
    this.fleet = fleet;
    this.length = length;
    this.seen = seen;
    this.label = String(length);
    this.sets = []; // of conversations, one for each round to come
    this.filled = 0; // turns that were there before
  }

  async prepare(rounds) {
    const sets = this.length < SHARED_FROM ? rounds : 1;
    const n = count(this.length);
    const all = await createConversations(this.fleet.database, this.fleet.users, n * sets);
    await fillConversations(this.fleet.database, all, this.length,
      { question: CONTENT, answer: this.seen.answer, metadata: this.seen.metadata });
    this.filled = all.length * this.length / 2;
    for (let i = 0; i < rounds; i++) this.sets.push(all.slice(i % sets * n, (i % sets + 1) * n));
  }

  async round(connections, seconds) {
    return this.fleet.send(this.sets.pop(), {
      connections, seconds, window: WINDOW, turnsEach: turnsEach(this.length), turns: TURNS_MAX,
      content: CONTENT,
    });
  }
}

async function level(sides, connections, options, say, servers) {
  const rounds = [];
  for (let round = 1; round <= options.rounds; round++) {
    for (const side of inTurn(sides, round)) {
      const r = await measure(side, connections, options.seconds, servers);
      r.name = `${round}/${options.rounds}`;
      r.store_us = r.persistence_us + r.postgres_us;
      rounds.push(r);
      say(`  round ${r.name} ${side.label} messages: ${r.rate.toFixed(0)} turns/s, ` +
        `p50 ${r.p50_ms.toFixed(2)} ms`);
    }
  }
  const of = (label, key) => rounds.filter((r) => r.side === label).map((r) => r[key]);
  const ratio = (label, to, key) => medianRatio(of(label, key), of(to, key));
  const [shortest, ...longer] = LENGTHS.map(String);
  return {
    connections, rounds,
    medians: LENGTHS.map(String).map((label) => (
      { side: label, name: 'median', ...medians(rounds.filter((r) => r.side === label)) })),
    ratios: longer.map((label) => ({
      length: Number(label), to: Number(shortest), p50: ratio(label, shortest, 'p50_ms'),
      cost: 1 / ratio(label, shortest, 'rate'), store: ratio(label, shortest, 'store_us'),
    })),
  };
}

async function length(options, say) {
  const model = new Model();
  let fleet, failed = true;
  try {
    await model.start();
    const seen = await probe(process.env.CHATFLEET_BIN, model.env(), 1, CONTENT);
    fleet = new Turn('length', process.env.CHATFLEET_BIN, model);
    await fleet.start();
    const sides = LENGTHS.map((n) => new Length(fleet, n, seen));
    for (const side of sides) {
      say(`writing conversations of ${side.length} messages`);
      await side.prepare(options.rounds * options.connections.length + 1);
    }
    await fleet.database.sql('VACUUM (ANALYZE)');
    say('warming up');
    for (const side of sides) await side.round(16, 2);
    await sleep(1000);
    const servers = await localServers();
    const levels = [];
    for (const n of options.connections) {
      say(`${n} connections`);
      levels.push(await level(sides, n, options, say, servers));
    }
    await assertTurns(fleet.database, sides.reduce((sum, s) => sum + s.filled, fleet.answered));
    failed = false;
    return { bench: 'length', seconds: options.seconds, levels };
  } finally {
    if (fleet) await fleet.stop(failed);
    await model.stop();
  }
}

const columns = [
  { title: 'round', get: (r) => r.name },
  { title: 'messages', get: (r) => r.side },
  { title: 'turns/s', get: (r) => r.rate },
  { title: 'p50 ms', get: (r) => r.p50_ms, digits: 2 },
  { title: 'p99 ms', get: (r) => r.p99_ms, digits: 2 },
  { title: 'persistence us', get: (r) => r.persistence_us },
  { title: 'postgres us', get: (r) => r.postgres_us },
  { title: 'both us', get: (r) => r.store_us },
];

function print(result) {
  for (const l of result.levels) {
    console.log(`\n${l.connections} connections, ${TURNS_MAX} turns or ${result.seconds} s a round`);
    console.log(table(columns, [...l.rounds, ...l.medians]));
    for (const r of l.ratios) {
      console.log(`${r.length} messages beside ${r.to}: ${r.p50.toFixed(2)} times the median latency, ` +
        `${r.cost.toFixed(2)} times the time a turn, ` +
        `${r.store.toFixed(2)} times the processor time of persistence and PostgreSQL`);
    }
  }
}

module.exports = { run: length, print, connections: [1, 16] };
