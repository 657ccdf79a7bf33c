// What answers took and cost, asked for by HTTP and by AMQP: sums by time and by model beside the rows that
// they are of, whose they are, and what is refused. The database and the worker live in other time zones.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { House, MODEL } from './lib/house.mjs';
import { MODEL_COST, MODEL_USAGE, startModel } from './lib/model.mjs';
import { Person } from './lib/person.mjs';
import { assertProblem, assertSecured } from './lib/problem.mjs';
import { uuid7 } from './lib/uuid.mjs';

const DAY = 24 * 60 * 60 * 1000;
const MODELS_MAX = 100;

let house, database, model, shim, caller;

before(async () => {
  model = await startModel();
  house = await House.open('usage', { database: true });
  database = house.database;
  await database.rows(`ALTER DATABASE ${database.name} SET timezone = 'Pacific/Auckland'`);
  ({ shim, caller } = await house.fleet({ model, settings: { TZ: 'America/Los_Angeles' } }));
});
after(async () => {
  await house.close();
  await model.close();
});

async function begin(args) {
  const person = new Person(args);
  const { id } = await person.conversation(caller);
  return { person, id };
}

// Rows of answers, as message.commit writes them: [{conversation, at, model, free, prompt, completion, micros}].
// `at` is a text, so that it may have microseconds; the cost is in millionths.
async function bill(person, rows) {
  const whole = rows.map((row) => ({
    model: 'a/model', free: false, prompt: 100, completion: 20, micros: 0, at: new Date().toISOString(), ...row,
  }));
  await database.rows(
    `INSERT INTO chat.usage_tracking (id, tenant_id, user_id, conversation_id, message_id, model_used, prompt_tokens,
       completion_tokens, total_tokens, cost_credits, is_free_model, created_at)
     SELECT gen_random_uuid(), $1, $2, conversation, gen_random_uuid(), model, prompt, completion, prompt + completion,
       micros::numeric / 1000000, free, at
     FROM unnest($3::uuid[], $4::text[], $5::int[], $6::int[], $7::bigint[], $8::boolean[], $9::timestamptz[])
       AS r (conversation, model, prompt, completion, micros, free, at)`,
    [person.tenant, person.id,
     ...['conversation', 'model', 'prompt', 'completion', 'micros', 'free', 'at'].map((name) => whole.map((r) => r[name]))]);
  return whole;
}

// ---- what is to be expected of such rows ----

const total = (rows, of) => rows.reduce((sum, row) => sum + of(row), 0);
const costOf = (rows) => Number((total(rows, (r) => r.micros) / 1e6).toFixed(6));
const timeOf = ({ at }) => Date.parse(at.replace(/(\.\d{3})\d*/, '$1'));

function sumOf(rows, { cost = 'cost', free = true } = {}) {
  return {
    messages_count: rows.length,
    ...(free && { free_messages_count: rows.filter((r) => r.free).length }),
    prompt_tokens: total(rows, (r) => r.prompt), completion_tokens: total(rows, (r) => r.completion),
    total_tokens: total(rows, (r) => r.prompt + r.completion), [cost]: costOf(rows), unknown_cost_count: 0,
  };
}

function grouped(rows, keyOf) {
  const groups = new Map();
  for (const row of rows) groups.set(keyOf(row), [...(groups.get(keyOf(row)) ?? []), row]);
  return [...groups.values()];
}

const byModel = (rows) => Object.fromEntries(grouped(rows, (r) => r.model).map((of) =>
  [of[0].model, { is_free_model: of.every((r) => r.free), ...sumOf(of) }]));
const breakdown = (rows) => grouped(rows, (r) => `${r.model} ${r.free}`)
  .map((of) => ({ model: of[0].model, is_free_model: of[0].free, ...sumOf(of, { free: false }) }))
  .sort((a, b) => b.cost - a.cost || b.total_tokens - a.total_tokens || (a.model < b.model ? -1 : 1));
const conversationsOf = (rows) => new Set(rows.map((r) => r.conversation)).size;
const NO_OTHERS = {
  requests_count: 0, prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, cost: 0, unknown_cost_count: 0,
};
const usageOf = (rows) => ({
  ...sumOf(rows, { cost: 'total_cost' }), other_requests: NO_OTHERS, cost_breakdown: breakdown(rows), model_usage: byModel(rows),
});

// The week of a day by ISO 8601: that of its Thursday.
function weekOf(time) {
  const thursday = new Date(time + (4 - (new Date(time).getUTCDay() || 7)) * DAY);
  const first = Date.UTC(thursday.getUTCFullYear(), 0, 1);
  return `${thursday.getUTCFullYear()}-W${String(Math.ceil(((thursday - first) / DAY + 1) / 7)).padStart(2, '0')}`;
}
const nameOf = {
  day: (time) => new Date(time).toISOString().slice(0, 10),
  week: weekOf,
  month: (time) => new Date(time).toISOString().slice(0, 7),
  year: (time) => new Date(time).toISOString().slice(0, 4),
};

// The days from `low` to `high`, put together by their period's name.
function summaryOf(rows, period, low, high) {
  const within = rows.filter((r) => timeOf(r) >= low && timeOf(r) < high);
  const spans = [];
  for (let day = low; day < high; day += DAY) {
    const name = nameOf[period](day);
    if (spans.at(-1)?.name === name) spans.at(-1).to = day + DAY;
    else spans.push({ name, from: day, to: day + DAY });
  }
  const span = ({ name, from, to }, of) => ({
    period: name, from: new Date(from).toISOString(), to: new Date(to).toISOString(), conversations_count: conversationsOf(of),
  });
  return {
    ...span({ name: period, from: low, to: high }, within), ...usageOf(within),
    series: spans.map((s) => {
      const of = within.filter((r) => timeOf(r) >= s.from && timeOf(r) < s.to);
      return { ...span(s, of), ...sumOf(of) };
    }),
  };
}

// ---- asking ----

const query = (args) => new URLSearchParams(args).toString();

// Over HTTP and AMQP, which have to say the same.
async function summary(person, args = {}) {
  const answer = await person.http(shim, 'GET', `/usage/summary?${query(args)}`);
  assert.equal(answer.status, 200, answer.text);
  assertSecured(answer);
  const { type, status, body } = await person.call(caller, 'usage.summary', args);
  assert.deepEqual([type, status], ['reply', 200]);
  assert.deepEqual(body, answer.json);
  return body;
}

async function usage(person, id) {
  const answer = await person.http(shim, 'GET', `/conversations/${id}/usage`);
  assert.equal(answer.status, 200, answer.text);
  assertSecured(answer);
  const { type, status, body } = await person.call(caller, 'conversation.usage', { conversation_id: id });
  assert.deepEqual([type, status], ['reply', 200]);
  assert.deepEqual(body, answer.json);
  return body;
}

const NOTHING = {
  messages_count: 0, free_messages_count: 0, prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, total_cost: 0,
  unknown_cost_count: 0, other_requests: NO_OTHERS,
  cost_breakdown: [], model_usage: {},
};

describe('turns', () => {
  it('are summed up by what they brought: several models, free ones, answers given anew, not what failed', async () => {
    const { person, id } = await begin();
    const other = (await person.conversation(caller)).id;
    const turns = [];
    const say = async (conversation, content) => {
      const { status, body } = await person.send(caller, conversation, content);
      assert.equal(status, 200, content);
      turns.push({ conversation, usage: body.usage });
      return body;
    };
    const first = await say(id, 'one');
    await say(id, 'two [model:other x/small]');
    await say(id, 'three [model:other x/open:free]');
    await say(other, 'four [model:other x/small]');
    const failed = await person.send(caller, id, 'no [model:status 400]');
    assert.equal(failed.status, 502);
    const again = await person.http(shim, 'POST',
                                    `/conversations/${id}/messages/${first.assistant_message.id}/regenerate`, {});
    assert.equal(again.status, 200, again.text);
    turns.push({ conversation: id, usage: again.json.usage });

    const rows = turns.map(({ conversation, usage: u }) => ({
      conversation, model: u.model, free: u.is_free_model, prompt: u.prompt_tokens, completion: u.completion_tokens,
      micros: Math.round(u.cost * 1e6),
    }));
    assert.deepEqual(rows.map((r) => [r.model, r.free, r.prompt + r.completion, r.micros]),
                     [[MODEL, false], ['x/small', false], ['x/open:free', true], ['x/small', false], [MODEL, false]]
                       .map(([name, free]) => [name, free, MODEL_USAGE.total_tokens, free ? 0 : MODEL_COST * 1e6]));
    assert.deepEqual(await usage(person, id), { conversation_id: id, ...usageOf(rows.filter((r) => r.conversation === id)) });
    assert.deepEqual(await usage(person, other),
                     { conversation_id: other, ...usageOf(rows.filter((r) => r.conversation === other)) });
    const { series, period, from, to, conversations_count: conversations, ...sums } = await summary(person);
    assert.deepEqual(sums, usageOf(rows));
    assert.equal(conversations, 2);

    // The rows themselves, as the database sums them.
    const [kept] = await database.rows(
      `SELECT count(*)::int AS messages_count, sum(prompt_tokens)::int AS prompt_tokens,
         sum(completion_tokens)::int AS completion_tokens, sum(total_tokens)::int AS total_tokens,
         sum(cost_credits)::float8 AS total_cost FROM chat.usage_tracking WHERE user_id = $1`, [person.id]);
    assert.deepEqual(kept, Object.fromEntries(Object.keys(kept).map((name) => [name, sums[name]])));
    // In this month of this year, when neither is named.
    const now = series.filter((s) => s.messages_count > 0);
    assert.equal(now.length, 1);
    assert.equal(now[0].messages_count, rows.length);
    assert.ok(Math.abs(Date.parse(now[0].from) - Date.now()) < 32 * DAY, now[0].from);
    assert.deepEqual([period, from.slice(4), to.slice(4)], ['month', '-01-01T00:00:00.000Z', '-01-01T00:00:00.000Z']);
    assert.equal(series.length, 12);
  });

  it('of a conversation that was deleted are paid all the same: it is gone, the sums stay', async () => {
    const { person, id } = await begin();
    const stays = (await person.conversation(caller)).id;
    await bill(person, [{ conversation: id, micros: 7, at: '2024-05-05T00:00:00Z' },
                        { conversation: stays, micros: 11, at: '2024-05-06T00:00:00Z' }]);
    const earlier = await summary(person, { year: 2024 });
    assert.equal(earlier.total_cost, 0.000018);
    assert.equal((await person.http(shim, 'PUT', `/conversations/${id}`, { status: 'archived' })).status, 200);
    assert.equal((await usage(person, id)).total_cost, 0.000007, 'one that is archived is there');
    assert.equal((await person.http(shim, 'DELETE', `/conversations/${id}`)).status, 204);
    assertProblem(await person.http(shim, 'GET', `/conversations/${id}/usage`), 404);
    assert.equal((await person.call(caller, 'conversation.usage', { conversation_id: id })).status, 404);
    assert.deepEqual(await summary(person, { year: 2024 }), earlier);
    assert.equal((await usage(person, stays)).total_cost, 0.000011);
  });
});

describe('a summary', () => {
  // Also at the ends of months and years, and in weeks that belong to two years.
  const ROWS = [
    ['2022-06-01T00:00:00Z', 'a/model', false, 1000001], ['2023-01-01T12:00:00Z', 'a/model', false, 5],
    ['2023-12-31T23:59:59.999999Z', 'b/model', false, 300], ['2024-01-01T00:00:00Z', 'a/model', false, 17],
    ['2024-01-31T23:59:59.999999Z', 'a/model', false, 1], ['2024-02-01T00:00:00Z', 'b/model', false, 2],
    ['2024-02-29T10:00:00Z', 'c/model:free', true, 0], ['2024-02-29T10:00:00Z', 'a/model', false, 123456],
    ['2024-03-10T02:30:00-08:00', 'b/model', true, 0], ['2024-03-31T23:00:00Z', 'b/model', false, 250000],
    ['2024-12-30T00:00:00Z', 'a/model', false, 40], ['2024-12-31T23:59:59.999999Z', 'c/model:free', true, 0],
    ['2025-01-01T00:00:00Z', 'a/model', false, 99], ['2025-01-05T23:59:59.999999Z', 'a/model', false, 3],
  ];
  let person, rows;

  before(async () => {
    person = new Person();
    const ids = [];
    for (let i = 0; i < 3; i++) ids.push((await person.conversation(caller)).id);
    rows = await bill(person, ROWS.map(([at, name, free, micros], i) => ({
      at, model: name, free, micros, prompt: 1000 + i, completion: i * i, conversation: ids[i % 3],
    })));
  });

  const year = (y) => [Date.UTC(y, 0), Date.UTC(y + 1, 0)];
  for (const [args, low, high] of [
    [{ period: 'month', year: 2024 }, ...year(2024)],
    [{ year: 2023 }, ...year(2023)],
    [{ year: 2024, month: 2 }, Date.UTC(2024, 1), Date.UTC(2024, 2)],
    [{ period: 'month', year: 2024, month: 12 }, Date.UTC(2024, 11), Date.UTC(2025, 0)],
    [{ period: 'day', year: 2024, month: 2 }, Date.UTC(2024, 1), Date.UTC(2024, 2)],
    [{ period: 'day', year: 2024 }, ...year(2024)],
    [{ period: 'day', year: 2025, month: 1 }, Date.UTC(2025, 0), Date.UTC(2025, 1)],
    [{ period: 'week', year: 2023 }, ...year(2023)], // from a Sunday to a Sunday
    [{ period: 'week', year: 2024 }, ...year(2024)], // from a Monday on
    [{ period: 'week', year: 2025, month: 1 }, Date.UTC(2025, 0), Date.UTC(2025, 1)],
    [{ period: 'year', year: 2024 }, ...year(2024)],
    [{ period: 'month', year: 1970 }, ...year(1970)],
    [{ period: 'month', year: 9998, month: 12 }, Date.UTC(9998, 11), Date.UTC(9999, 0)],
  ]) {
    it(`counts in UTC: ${query(args)}`, async () => {
      assert.deepEqual(await summary(person, args), summaryOf(rows, args.period ?? 'month', low, high));
    });
  }

  it('has all years when the period is a year and none is named', async () => {
    const given = await summary(person, { period: 'year' });
    const last = Number(given.to.slice(0, 4));
    assert.ok(Math.abs(Date.UTC(last, 0) - Date.now()) < 367 * DAY, 'the last is this one');
    assert.deepEqual(given, summaryOf(rows, 'year', Date.UTC(2022, 0), Date.UTC(last, 0)));
  });

  it('is of this year when none is named, also with a month', async () => {
    for (const args of [{}, { period: 'day' }, { period: 'week' }, { month: 2 }, { period: 'day', month: 12 }]) {
      const years = new Set([new Date().getUTCFullYear()]);
      const given = await summary(person, args);
      years.add(new Date().getUTCFullYear());
      const [low, high] = [Date.parse(given.from), Date.parse(given.to)];
      assert.ok(years.has(new Date(low).getUTCFullYear()), given.from);
      assert.deepEqual(given, summaryOf(rows, args.period ?? 'month', low, high));
      if (args.month) assert.equal(new Date(low).getUTCMonth() + 1, args.month);
      assert.equal(Math.round((high - low) / DAY / 30) <= 1, args.month !== undefined);
    }
  });

  it('of somebody without an answer is of zeros, and so is a new conversation', async () => {
    const nobody = new Person();
    const { series, ...rest } = await summary(nobody, { year: 2024 });
    assert.deepEqual(rest, {
      period: 'month', from: '2024-01-01T00:00:00.000Z', to: '2025-01-01T00:00:00.000Z', conversations_count: 0, ...NOTHING,
    });
    assert.deepEqual(series.map((s) => [s.period, s.messages_count, s.cost]),
                     Array.from({ length: 12 }, (_, i) => [`2024-${String(i + 1).padStart(2, '0')}`, 0, 0]));
    assert.equal((await summary(nobody, { period: 'year' })).series.length, 1);
    const { person: somebody, id } = await begin();
    assert.deepEqual(await usage(somebody, id), { conversation_id: id, ...NOTHING });
    assert.deepEqual((await usage(somebody, id.toUpperCase())).conversation_id, id);
  });

  it('is exact, however small or large the numbers are', async () => {
    const { person: somebody, id } = await begin();
    const most = 2147483647;
    const billed = await bill(somebody, [
      ...Array.from({ length: 1000 }, () => ({ conversation: id, micros: 1, at: '2024-07-01T00:00:00Z' })),
      { conversation: id, micros: 100000, at: '2024-08-01T00:00:00Z' },
      { conversation: id, micros: 200000, at: '2024-08-01T00:00:00Z' },
      ...Array.from({ length: 3 }, () => ({
        conversation: id, model: 'large', prompt: most, completion: 0, micros: 999999999999, at: '2024-08-02T00:00:00Z',
      })),
    ]);
    const given = await usage(somebody, id);
    assert.deepEqual(given, { conversation_id: id, ...usageOf(billed) });
    assert.equal(given.total_cost, 3000000.300997);
    assert.equal(given.model_usage['a/model'].cost, 0.301, 'and not 0.30100000000000005');
    assert.equal(given.model_usage.large.prompt_tokens, 3 * most);
    assert.deepEqual(await summary(somebody, { year: 2024 }), summaryOf(billed, 'month', ...year(2024)));
  });

  it('tells of the dearest models when there are many, and sums up all', async () => {
    const { person: somebody, id } = await begin();
    const billed = await bill(somebody, Array.from({ length: MODELS_MAX + 20 }, (_, i) => ({
      conversation: id, model: `m${i}`.padEnd(100, 'é'), micros: (i * 37) % (MODELS_MAX + 20), at: '2024-07-01T00:00:00Z',
    })));
    const { cost_breakdown: all, model_usage: models, ...sums } = usageOf(billed);
    const dearest = all.slice(0, MODELS_MAX);
    for (const given of [await usage(somebody, id), await summary(somebody, { year: 2024 })]) {
      for (const [name, value] of Object.entries(sums)) assert.deepEqual(given[name], value, name);
      assert.deepEqual(given.cost_breakdown, dearest);
      assert.deepEqual(given.model_usage, Object.fromEntries(dearest.map((m) => [m.model, models[m.model]])));
    }
  });

  it('is of one moment, while answers come', async () => {
    const { person: somebody, id } = await begin();
    let done = false;
    const billing = (async () => {
      while (!done) await bill(somebody, [{ conversation: id, micros: 10, at: '2024-07-01T00:00:00Z' }]);
    })();
    const seen = new Set();
    try {
      while (seen.size < 20) {
        const { status, body } = await somebody.call(caller, 'usage.summary', { year: 2024 });
        assert.equal(status, 200);
        seen.add(body.messages_count);
        for (const parts of [body.series, body.cost_breakdown, Object.values(body.model_usage)]) {
          assert.equal(total(parts, (p) => p.messages_count), body.messages_count);
          assert.equal(Number(total(parts, (p) => p.cost).toFixed(6)), body.total_cost);
        }
        assert.equal(body.total_cost, Number((body.messages_count / 1e5).toFixed(6)));
      }
    } finally {
      done = true;
      await billing;
    }
  });
});

describe('whose it is', () => {
  it('another user, or the same one in another tenant, sees nothing of it', async () => {
    const { person, id } = await begin();
    await bill(person, [{ conversation: id, micros: 1000, at: '2024-07-01T00:00:00Z' }]);
    assert.equal((await usage(person, id)).total_cost, 0.001);
    const empty = summaryOf([], 'month', Date.UTC(2024, 0), Date.UTC(2025, 0));
    for (const other of [new Person(), new Person({ tenant: 'acme' }), new Person({ id: person.id, tenant: 'acme' })]) {
      assertProblem(await other.http(shim, 'GET', `/conversations/${id}/usage`), 404);
      assert.equal((await other.call(caller, 'conversation.usage', { conversation_id: id })).status, 404);
      assert.deepEqual(await summary(other, { year: 2024 }), empty);
      assert.equal((await summary(other, { period: 'year' })).total_tokens, 0);
    }
    // Each sees his own beside it.
    const { person: double, id: theirs } = await begin({ id: person.id, tenant: 'acme' });
    await bill(double, [{ conversation: theirs, micros: 5, at: '2024-07-01T00:00:00Z' }]);
    assert.equal((await summary(double, { year: 2024 })).total_cost, 0.000005);
    assert.equal((await summary(person, { year: 2024 })).total_cost, 0.001);
  });

  it('nobody without a name is told: 401', async () => {
    const person = new Person();
    for (const [operation, args] of [['usage.summary', {}], ['conversation.usage', { conversation_id: uuid7() }]]) {
      for (const user of [undefined, '', 'alice', `${person.id}x`]) {
        const { status } = await person.call(caller, operation, args, { headers: { 'x-user-id': user } });
        assert.equal(status, 401, `${operation} ${user}`);
      }
    }
    for (const path of ['/usage/summary', `/conversations/${uuid7()}/usage`]) {
      assertProblem(await person.http(shim, 'GET', path, undefined, { headers: { authorization: '' } }), 401);
    }
  });
});

describe('what is refused', () => {
  const person = new Person();

  it('a time that is none: 400, and its field', async () => {
    for (const [args, ...fields] of [
      [{ period: 'hour' }, 'period'], [{ period: '' }, 'period'], [{ period: 'MONTH' }, 'period'], [{ period: 'day week' }, 'period'],
      [{ year: 1969 }, 'year'], [{ year: 9999 }, 'year'], [{ year: 0 }, 'year'], [{ year: -1 }, 'year'],
      [{ month: 0, year: 2024 }, 'month'], [{ month: 13, year: 2024 }, 'month'], [{ month: 0, period: 'x', year: 1 }, 'period', 'year', 'month'],
    ]) {
      const over = { http: (await person.http(shim, 'GET', `/usage/summary?${query(args)}`)),
                     amqp: (await person.call(caller, 'usage.summary', args)) };
      const problem = assertProblem(over.http, 400);
      assert.deepEqual(problem.errors.map((e) => e.field), fields, query(args));
      assert.equal(over.amqp.status, 400);
      assert.deepEqual(over.amqp.body.errors, problem.errors);
    }
    for (const text of ['year=', 'year=twenty', 'year=2024.5', 'year=2024x', 'year=1e3', 'month=1.0', 'month=%201',
                        'year=99999999999999999999', 'year=%00']) {
      assertProblem(await person.http(shim, 'GET', `/usage/summary?${text}`), 400);
    }
    for (const [args, field] of [[{ year: '2024' }, 'year'], [{ year: 2024.5 }, 'year'], [{ month: true }, 'month'],
                                 [{ period: 1 }, 'period'], [{ conversation_id: uuid7() }, 'conversation_id']]) {
      const { status, body } = await person.call(caller, 'usage.summary', args);
      assert.equal(status, 400);
      assert.deepEqual(body.errors.map((e) => e.field), [field]);
    }
  });

  it('a month of a period of a year: 400', async () => {
    for (const args of [{ period: 'year', month: 3 }, { period: 'year', year: 2024, month: 3 }]) {
      assert.match(assertProblem(await person.http(shim, 'GET', `/usage/summary?${query(args)}`), 400).detail, /month/);
      assert.equal((await person.call(caller, 'usage.summary', args)).status, 400);
    }
  });

  it('a conversation that is none, or that nobody has: 400, 404', async () => {
    for (const id of ['1', 'abc', `${uuid7()}x`, '%20']) {
      assertProblem(await person.http(shim, 'GET', `/conversations/${id}/usage`), 400);
    }
    for (const id of [uuid7(), randomUUID()]) {
      assertProblem(await person.http(shim, 'GET', `/conversations/${id}/usage`), 404);
    }
    for (const args of [{}, { conversation_id: 7 }, { conversation_id: null }, { conversation_id: uuid7(), year: 2024 }]) {
      assert.equal((await person.call(caller, 'conversation.usage', args)).status, 400);
    }
  });

  it('anything but asking: 404 or 405', async () => {
    for (const [method, path] of [['POST', '/usage/summary'], ['DELETE', '/usage/summary'], ['PUT', `/conversations/${uuid7()}/usage`]]) {
      assertProblem(await person.http(shim, method, path, {}), 405);
    }
    for (const path of ['/usage', '/usage/', '/usage/summary/', '/usage/2024']) {
      assertProblem(await person.http(shim, 'GET', path), 404);
    }
  });
});
