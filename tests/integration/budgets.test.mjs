// Budgets of tenants: what turns reserve and cost, that parallel ones cannot overspend, and that each is
// counted once, whatever becomes of it; and the settings of tenants, by AMQP and by the command line.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { House, MODEL, modelSettings } from './lib/house.mjs';
import { Letters } from './lib/letters.mjs';
import { metricsOf } from './lib/http.mjs';
import { valueOf } from './lib/metrics.mjs';
import { MODEL_COST, MODEL_USAGE, startModel } from './lib/model.mjs';
import { Person } from './lib/person.mjs';
import { assertProblem } from './lib/problem.mjs';
import { until } from './lib/wait.mjs';
import { uuid7 } from './lib/uuid.mjs';

const { total_tokens: TOKENS } = MODEL_USAGE;

let house, database, model, shim, caller, workers, env;

before(async () => {
  model = await startModel();
  house = await House.open('budgets', { database: true });
  database = house.database;
  env = { ...modelSettings(model), TENANTS_REFRESH_MS: '50' };
  workers = await Promise.all([house.persistence(env), house.persistence(env)]);
  await Promise.all([house.worker(env), house.inference(env)]);
  caller = await house.caller();
  shim = await house.shim(env);
});
after(async () => {
  model.release();
  await house.close();
  await model.close();
});

const tenantName = (word) => `${word}-${randomUUID().slice(0, 8)}`;
const cents = (n) => Number((n * MODEL_COST).toFixed(6));

// An operation on tenants, as the operator's program.
const ask = (operation, args, { role = 'service', tenant = 'default', ...options } = {}) =>
  caller.call(operation, args, {
    messageId: uuid7(), ...options, headers: { 'x-roles': role, 'x-tenant-id': tenant, 'x-user-id': '' },
  });
const get = async (tenant) => (await ask('tenant.get', { tenant_id: tenant })).body;

// Settings of a tenant, which all workers know afterwards.
async function set(tenant, settings) {
  const { status, body } = await ask('tenant.set', { tenant_id: tenant, ...settings });
  assert.equal(status, 200, JSON.stringify(body));
  const count = await database.value('SELECT count(*)::int FROM chat.tenants');
  for (const { adminPort } of workers) {
    await until('the workers know it', async () => valueOf(await metricsOf(adminPort), 'persistence_tenants_known') >= count);
  }
  return body;
}

async function begin(tenant) {
  const person = new Person({ tenant });
  const { id } = await person.conversation(caller);
  return { person, id };
}

// What is counted of a tenant, when nothing of it is under way any more.
const settled = (tenant) => until('nothing is reserved', async () => {
  const { spent } = await get(tenant);
  return spent.reserved.cost === 0 && spent.reserved.tokens === 0 && spent;
});

// The same, as soon as it is this: requests are told of also when another has answered their turn.
const counted = async (tenant, cost, tokens) => {
  await until(`${cost} credits are counted`, async () => (await settled(tenant)).day.cost === cost);
  const { day, month } = await settled(tenant);
  assert.deepEqual([day.cost, day.tokens, month.cost, month.tokens], [cost, tokens, cost, tokens]);
  assert.deepEqual(await database.rows(`SELECT sum(cost_credits)::float8 AS cost, sum(total_tokens)::int AS tokens
    FROM chat.usage_tracking WHERE tenant_id = $1`, [tenant]), [{ cost, tokens }]);
};

const turnsOf = (tenant, state = '%') => database.value(
  'SELECT count(*)::int FROM chat.turns WHERE tenant_id = $1 AND state LIKE $2', [tenant, state]);

describe('a budget', () => {
  it('is not overspent by parallel turns of several workers', async () => {
    const tenant = tenantName('parallel');
    await set(tenant, { day_budget: cents(10), reserve: MODEL_COST });
    model.mode = 'held';
    const people = await Promise.all(Array.from({ length: 40 }, () => begin(tenant)));
    const answers = await Promise.all(people.map(({ person, id }) => person.send(caller, id, 'and I?', { async: true })));
    assert.deepEqual([202, 402].map((status) => answers.filter((a) => a.status === status).length), [10, 30]);
    assert.equal(await turnsOf(tenant), 10);
    assert.equal(await database.value('SELECT count(*)::int FROM chat.messages WHERE tenant_id = $1', [tenant]), 10,
                 'nothing is written of what was refused');
    const { spent } = await get(tenant);
    assert.deepEqual([spent.day.cost, spent.reserved.cost], [0, cents(10)]);

    model.mode = 'normal';
    model.release();
    const { day, month } = await settled(tenant);
    assert.deepEqual([day.cost, month.cost, day.tokens], [cents(10), cents(10), 10 * TOKENS]);
    assert.equal(await turnsOf(tenant, 'completed'), 10);
  });

  it('is refused with what is known of it, over HTTP and AMQP, and its key stays free', async () => {
    const tenant = tenantName('small');
    await set(tenant, { month_budget: 1, reserve: 2 });
    const { person, id } = await begin(tenant);
    const answer = await person.say(shim, id, 'please', { key: 'mine' });
    assertProblem(answer, 402);
    const next = new Date(Date.UTC(new Date().getUTCFullYear(), new Date().getUTCMonth() + 1, 1)).toISOString();
    assert.deepEqual(answer.json.budget,
                     { period: 'month', unit: 'credits', budget: 1, spent: 0, reserved: 0, needed: 2, resets_at: next });
    assert.match(answer.json.detail, /of 1 credits 0 are spent .* a turn reserves 2; it begins anew at/);
    const { status, type, body } = await person.send(caller, id, 'please');
    assert.deepEqual([status, type, body.budget.needed], [402, 'error', 2]);

    await set(tenant, { month_budget: 2 });
    assert.equal((await person.say(shim, id, 'please', { key: 'mine' })).status, 200);
    assert.equal(await database.value('SELECT count(*)::int FROM chat.messages WHERE tenant_id = $1', [tenant]), 2);
    const counts = await Promise.all(workers.map(async (w) =>
      valueOf(await metricsOf(w.adminPort), 'persistence_budget_refusals_total', { unit: 'credits' })));
    assert.ok(counts[0] + counts[1] >= 2);
  });

  it('may be one of tokens, and of a day beside a month; answers given anew need it, too', async () => {
    const tenant = tenantName('tokens');
    await set(tenant, { day_token_budget: 2 * TOKENS, month_token_budget: 100 * TOKENS, token_reserve: TOKENS });
    const { person, id } = await begin(tenant);
    const { assistant_message: first } = (await person.say(shim, id, 'one')).json;
    const anew = (message) => person.http(shim, 'POST', `/conversations/${id}/messages/${message.id}/regenerate`);
    const second = await anew(first);
    assert.equal(second.status, 200, second.text);
    const third = await anew(first);
    assertProblem(third, 402);
    assert.deepEqual([third.json.budget.period, third.json.budget.unit, third.json.budget.spent], ['day', 'tokens', 36]);
    assert.equal(await turnsOf(tenant), 2);
  });

  it('of nothing lets nothing through, also when a turn reserves nothing', async () => {
    const tenant = tenantName('nothing');
    await set(tenant, { day_budget: 0, reserve: 0 });
    const { person, id } = await begin(tenant);
    assertProblem(await person.say(shim, id, 'please'), 402);
  });

  it('begins anew with its period', async () => {
    const tenant = tenantName('periods');
    await set(tenant, { day_budget: 1, month_budget: 5, reserve: 0.5 });
    const { person, id } = await begin(tenant);
    const spend = (day, month) => database.rows(
      `UPDATE chat.tenant_spending SET day_cost = 1, month_cost = 5, day = day - $2::int,
         month = (month - make_interval(months => $3::int))::date WHERE tenant_id = $1`, [tenant, day, month]);
    await spend(0, 0);
    assert.equal((await person.say(shim, id, 'now?')).json.budget.period, 'month');
    await spend(1, 0);
    assert.equal((await person.say(shim, id, 'tomorrow?')).json.budget.period, 'month');
    await spend(1, 1);
    assert.equal((await get(tenant)).spent.month.cost, 0);
    assert.equal((await person.say(shim, id, 'in a month?')).status, 200);
    assert.equal((await settled(tenant)).month.cost, MODEL_COST);
  });

  it('counts from its beginning what the tenant had spent in this month', async () => {
    const tenant = tenantName('later');
    const { person, id } = await begin(tenant);
    assert.equal((await person.say(shim, id, 'without')).status, 200);
    assert.equal((await ask('tenant.get', { tenant_id: tenant })).status, 404);
    const { spent } = await set(tenant, { month_budget: 1 });
    assert.equal(spent.month.cost, MODEL_COST);
    assert.equal((await person.say(shim, id, 'with')).status, 200);
    assert.equal((await settled(tenant)).month.cost, cents(2));
    // Taken away, it is counted on, so that it goes on where it would have been.
    await set(tenant, { month_budget: null });
    assert.equal((await person.say(shim, id, 'without again')).status, 200);
    assert.equal((await settled(tenant)).month.cost, cents(3));
  });

  it('leaves tenants alone that have none', async () => {
    const tenant = tenantName('free');
    await set(tenant, { models: [MODEL] });
    const { person, id } = await begin(tenant);
    assert.equal((await person.say(shim, id, 'hello')).status, 200);
    assert.equal((await get(tenant)).spent, null);
    assert.equal(await database.value(`SELECT count(*)::int FROM chat.turns WHERE tenant_id = $1
      AND num_nonnulls(reserved_cost, charged_cost) > 0`, [tenant]), 0);
  });

  it('of several tenants at once makes no deadlock', async () => {
    const tenants = await Promise.all([1, 2, 3].map(async (n) => {
      const tenant = tenantName(`many${n}`);
      await set(tenant, { day_budget: 1, reserve: MODEL_COST });
      return tenant;
    }));
    const answers = await Promise.all(Array.from({ length: 60 }, async (_, i) => {
      const { person, id } = await begin(tenants[i % 3]);
      return person.send(caller, id, 'all at once');
    }));
    assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
    for (const tenant of tenants) assert.equal((await settled(tenant)).day.cost, cents(20));
    assert.equal(await database.value('SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()'), 0);
  });
});

describe('a reservation', () => {
  it('is released when the turn fails; completed by a replay, it is counted once', async () => {
    const tenant = tenantName('failing');
    await set(tenant, { day_budget: 1 });
    const { person, id } = await begin(tenant);
    const answer = await person.say(shim, id, 'What then? [model:flaky 1 401]');
    assert.equal(answer.status, 502, answer.text);
    assert.deepEqual((await settled(tenant)).day, { from: new Date().toISOString().slice(0, 10), cost: 0, tokens: 0 });
    const { code, stdout } = await new Letters(house, caller).replay(person);
    assert.equal(code, 0, stdout);
    assert.equal((await person.turn(caller, answer.json.turn_id)).state, 'completed');
    assert.equal((await settled(tenant)).day.cost, MODEL_COST);
  });

  it('is settled once, however often the answer comes', async () => {
    const tenant = tenantName('twice');
    await set(tenant, { day_budget: 1, reserve: 0.25, token_reserve: 50 });
    const { person, id } = await begin(tenant);
    model.mode = 'held';
    const { body: { turn_id: turn } } = await person.send(caller, id, 'again and again', { async: true });
    await until('the model is asked', () => model.held === 1);
    assert.deepEqual((await get(tenant)).spent.reserved, { cost: 0.25, tokens: 50 });
    const known = await person.turn(caller, turn);
    const commit = (cost, options) => person.call(caller, 'message.commit', {
      turn: { id: turn, conversation_id: id, kind: 'send', question_id: known.user_message_id,
              answer_id: known.assistant_message_id },
      answer: { content: 'So it is.', model: MODEL, is_free_model: false, processing_time_ms: 1,
                usage: { prompt_tokens: 5, completion_tokens: 5, total_tokens: 10, cost } },
    }, options);
    const twice = await Promise.all([commit(0.125), commit(0.125)]);
    assert.deepEqual(twice.map(({ status }) => status), [200, 200]);
    assert.equal((await commit(0.5)).status, 200); // the same request once more
    await counted(tenant, 0.125, 10);
    // The model's own comes late: another request, which cost something, too.
    model.mode = 'normal';
    model.release();
    await counted(tenant, 0.12542, 10 + TOKENS);
  });

  it('is settled by an answer that was stopped or broke off; all that a turn cost is counted', async () => {
    const tenant = tenantName('endings');
    await set(tenant, { day_budget: 1, reserve: 0.25 });
    const { person, id } = await begin(tenant);
    model.mode = 'held';
    for (const [ending, status] of [['stopped', 200], ['broken', 502]]) {
      const { body: { turn_id: turn } } = await person.send(caller, id, ending, { async: true });
      await until('the model is asked', () => model.held === 1);
      const known = await person.turn(caller, turn), requests = [randomUUID(), randomUUID()];
      const commit = (how, cost) => person.call(caller, 'message.commit', {
        turn: { id: turn, conversation_id: id, kind: 'send', question_id: known.user_message_id,
                answer_id: known.assistant_message_id },
        answer: { content: 'So', ending: how, request_id: how ? requests[0] : requests[1], model: MODEL, is_free_model: false, processing_time_ms: 1,
                  usage: { prompt_tokens: 5, completion_tokens: 5, total_tokens: 10, cost } },
        problem: { title: 'Bad Gateway', status: 502, detail: 'it broke off' },
      });
      for (let i = 0; i < 2; i++) assert.equal((await commit(ending, 0.125)).status, status);
      if (ending === 'broken') assert.equal((await commit(undefined, 0.0625)).status, 200);
      model.release();
    }
    model.mode = 'normal';
    await counted(tenant, 0.31334, 30 + 2 * TOKENS);
  });

  it('stays counted while nobody knows what the turn cost', async () => {
    const tenant = tenantName('unknown');
    await set(tenant, { day_budget: 1, reserve: 0.25 });
    const { person, id } = await begin(tenant);
    model.mode = 'no-usage';
    const { body: { turn_id: turn } } = await person.send(caller, id, 'how much?');
    assert.equal((await settled(tenant)).day.cost, 0.25);
    const [row] = await database.rows(`SELECT conversation_id, message_id, request_id, cost_known
      FROM chat.usage_tracking WHERE id = $1`, [turn]);
    assert.equal(row.cost_known, false);
    const found = { request_id: row.request_id, prompt_tokens: 5, completion_tokens: 5, cost: 0.0625 };
    for (let i = 0; i < 2; i++) {
      const { status } = await person.call(caller, 'usage.record', {
        turn_id: turn, conversation_id: id, answer_id: row.message_id, found: [found],
      });
      assert.equal(status, 200);
    }
    model.mode = 'normal';
    await counted(tenant, 0.0625, 10);
  });

  it('is not made again by a request that is delivered again', async () => {
    const tenant = tenantName('again');
    await set(tenant, { day_budget: 1, reserve: 0.25 });
    const { person, id } = await begin(tenant);
    model.mode = 'held';
    const messageId = uuid7();
    for (let i = 0; i < 3; i++) {
      const { status } = await person.send(caller, id, 'once', { async: true }, { messageId });
      assert.equal(status, 202);
    }
    assert.equal((await get(tenant)).spent.reserved.cost, 0.25);
    // Each delivery had the model asked, which is paid for.
    await until('all have asked', () => model.held === 3);
    model.mode = 'normal';
    model.release();
    await counted(tenant, cents(3), 3 * TOKENS);
  });

  it('survives the worker that ended its turn: the next delivery settles nothing more', async () => {
    const tenant = tenantName('killed');
    await set(tenant, { day_budget: 1, reserve: 0.25 });
    const { person, id } = await begin(tenant);
    const victim = await house.persistence({ ...env, CHATFLEET_FAULT: 'database.committed:5' });
    let died = false;
    for (let i = 0; i < 40 && !died; i++) {
      const { status } = await person.send(caller, id, `question ${i}`);
      assert.equal(status, 200);
      died = Boolean(victim.ended);
    }
    assert.ok(died);
    await victim.faulted();
    assert.equal(await turnsOf(tenant, 'accepted'), 0);
    const turns = await turnsOf(tenant);
    await counted(tenant, cents(turns), turns * TOKENS);
  });

  it('is released when nobody ends the turn; an answer that comes after all is counted', async () => {
    const tenant = tenantName('swept');
    await set(tenant, { day_budget: 1, reserve: 0.25 });
    const { person, id } = await begin(tenant);
    model.mode = 'held';
    const { body: { turn_id: turn } } = await person.send(caller, id, 'forgotten', { async: true });
    await until('the model is asked', () => model.held === 1);
    const sweeper = await house.persistence({ ...env, TURN_EXPIRES_SECONDS: '1', TURN_SWEEP_SECONDS: '1' });
    await until('the turn is failed', async () => (await person.turn(caller, turn)).state === 'failed');
    await sweeper.stop();
    assert.equal((await settled(tenant)).day.cost, 0);
    model.mode = 'normal';
    model.release();
    await until('it is completed', async () => (await person.turn(caller, turn)).state === 'completed');
    assert.equal((await settled(tenant)).day.cost, MODEL_COST);
  });
});

// A process may end a turn before it has heard of the budget for which another had reserved.
it('a budget that not all processes know yet is settled by the sweep', async () => {
  const tenant = tenantName('unheard');
  const unaware = await house.persistence({ ...env, TENANTS_REFRESH_MS: '60000' });
  await set(tenant, { day_budget: 1, reserve: 0.001 });
  let { person, id } = await begin(tenant);
  const left = async () => (await database.rows(
    `SELECT count(reserved_cost)::int AS reserving,
       count(*) FILTER (WHERE reserved_cost IS NULL AND charged_cost IS NULL)::int AS uncharged
     FROM chat.turns WHERE tenant_id = $1 AND state <> 'accepted'`, [tenant]))[0];
  let now = await left(), turns = 0;
  for (; turns < 200 && !(now.reserving && now.uncharged); turns++) {
    // The broker takes processes in turn: this changes which of them ends what which began.
    if (turns % 4 === 3) ({ person, id } = await begin(tenant));
    assert.equal((await person.send(caller, id, `question ${turns}`)).status, 200);
    now = await left();
  }
  assert.ok(now.reserving && now.uncharged, JSON.stringify(now));
  await unaware.stop();
  const sweeper = await house.persistence({ ...env, TURN_SWEEP_SECONDS: '1' });
  await counted(tenant, cents(turns), turns * TOKENS);
  assert.deepEqual(await left(), { reserving: 0, uncharged: 0 });
  await sweeper.stop();
});

describe('the settings of a tenant', () => {
  it('are seen and changed by programs; its administrator sees his own', async () => {
    const [tenant, other] = [tenantName('seen'), tenantName('unseen')];
    await set(tenant, { providers: ['llamacpp'] });
    await set(other, { day_budget: 3 });
    for (const operation of ['tenant.get', 'tenant.set']) {
      const { status } = await ask(operation, { tenant_id: tenant, ...(operation === 'tenant.set' && { reserve: 1 }) }, { role: 'user', tenant });
      assert.equal(status, 403, operation);
    }
    const admin = { role: 'user,admin', tenant };
    assert.deepEqual((await ask('tenant.get', { tenant_id: tenant }, admin)).body.providers, ['llamacpp']);
    assert.equal((await ask('tenant.get', { tenant_id: other }, admin)).status, 404);
    assert.deepEqual((await ask('tenant.list', {}, admin)).body.tenants.map((t) => t.tenant_id), [tenant]);
    assert.equal((await ask('tenant.set', { tenant_id: tenant, day_budget: 1000 }, admin)).status, 403);
    assert.equal((await get(tenant)).day_budget, null);
  });

  it('change one by one, and are taken away by null', async () => {
    const tenant = tenantName('parts');
    await set(tenant, { models: ['a/model', 'b/model'], day_budget: 1.5, month_token_budget: 9000000000 });
    await set(tenant, { reserve: 0.000001 });
    const { models, day_budget: day, month_token_budget: month, reserve } =
      await set(tenant, { day_budget: null });
    assert.deepEqual([models, day, month, reserve], [['a/model', 'b/model'], null, 9000000000, 0.000001]);
    assert.equal((await set(tenant, { models: null })).models, null);
  });

  it('are not undone by a message that comes again', async () => {
    const tenant = tenantName('order'), messageId = uuid7();
    const first = { tenant_id: tenant, day_budget: 1 };
    await ask('tenant.set', first, { messageId });
    await set(tenant, { day_budget: 2 });
    assert.equal((await ask('tenant.set', first, { messageId })).body.day_budget, 2);
  });

  it('that are wrong are refused, and change nothing', async () => {
    const tenant = tenantName('wrong');
    for (const [settings, about] of [
      [{}, /a setting is needed/], [{ day_budget: -1 }, /not valid/], [{ day_budget: '1' }, /not valid/],
      [{ day_token_budget: 1.5 }, /not valid/], [{ models: [] }, /not valid/], [{ models: [1] }, /models must be names/],
      [{ providers: ['acme'] }, /acme is none of/], [{ colour: 'red' }, /not valid/],
    ]) {
      const { status, body } = await ask('tenant.set', { tenant_id: tenant, ...settings });
      assert.equal(status, 400, JSON.stringify(settings));
      assert.match(body.detail, about);
    }
    assert.equal((await ask('tenant.get', { tenant_id: tenant })).status, 404);
  });

  it('come in pages', async () => {
    const names = [1, 2, 3].map((n) => `page-${n}-${tenantName('of')}`);
    for (const name of names) await set(name, { reserve: 1 });
    const first = (await ask('tenant.list', { limit: 2, after: 'page-' })).body;
    assert.deepEqual(first.tenants.map((t) => t.tenant_id), names.slice(0, 2));
    assert.equal(first.has_more, true);
    const second = (await ask('tenant.list', { limit: 1, after: names[1] })).body;
    assert.deepEqual(second.tenants.map((t) => t.tenant_id), names.slice(2));
  });
});

describe('chatfleet tenant', () => {
  const tenant = (...args) => house.run('chatfleet', ['tenant', ...args]);

  it('sets, shows, lists and unsets', async () => {
    const name = tenantName('cli');
    const made = await tenant('set', name, 'day_budget=2.5', 'models=a/model, b/model', 'month_token_budget=1000');
    assert.equal(made.code, 0, made.stderr);
    assert.match(made.stdout, /^day +0 of 2\.5 credits, 0 of - tokens$/m);
    assert.match(made.stdout, /^models +a\/model b\/model$/m);
    const shown = JSON.parse((await tenant('show', name, '--json')).stdout);
    assert.deepEqual([shown.day_budget, shown.month_token_budget, shown.models], [2.5, 1000, ['a/model', 'b/model']]);
    assert.equal((await tenant('unset', name, 'models', 'day_budget')).code, 0);
    const { stdout } = await tenant('show', name);
    assert.match(stdout, /^models +as configured$/m);
    const all = JSON.parse((await tenant('list', '--json')).stdout);
    assert.equal(all.length, await database.value('SELECT count(*)::int FROM chat.tenants'));
    assert.ok((await tenant('list')).stdout.includes(name));
  });

  it('says what is wrong, by its exit code, too', async () => {
    const name = tenantName('none');
    const missing = await tenant('show', name);
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /has no settings/);
    for (const args of [[], ['set', name], ['set', name, 'colour=red'], ['set', name, 'day_budget'], ['set', name, 'day_budget=much'],
                        ['set', name, 'day_budget=-1'], ['unset', name, 'models=a'], ['unset', name, 'tenant_id'],
                        ['show'], ['list', 'all'], ['set', name, 'reserve=1', '--json'], ['dance']]) {
      const { code, stderr } = await tenant(...args);
      assert.equal(code, 64, args.join(' '));
      assert.ok(stderr.length > 0);
    }
    assert.equal((await tenant('set', name, 'providers=acme')).code, 1, 'refused by the fleet');
    assert.equal((await tenant('show', name)).code, 1);
  });
});
