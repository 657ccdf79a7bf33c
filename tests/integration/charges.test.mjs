// What is paid for turns whose requests end in every way: finished, stopped, broken off, failed, killed. A row
// for each request that may have cost something, looked up at the provider where that is possible.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, afterEach, before, describe, it } from 'node:test';
import { House, MODEL, modelSettings } from './lib/house.mjs';
import { metricsOf } from './lib/http.mjs';
import { valueOf } from './lib/metrics.mjs';
import { MODEL_COST, startModel } from './lib/model.mjs';
import { Person } from './lib/person.mjs';
import { Stream } from './lib/sse.mjs';
import { uuid7 } from './lib/uuid.mjs';
import { until } from './lib/wait.mjs';

const SECOND = 'second/model';
const COST = { total_cost: 0.000012345, native_tokens_prompt: 31, native_tokens_completion: 9, tokens_prompt: 1, tokens_completion: 1 };

let house, database, model, shim, persistence, caller, settings;

before(async () => {
  model = await startModel();
  house = await House.open('charges', { database: true });
  database = house.database;
  settings = {
    ...modelSettings(model), FALLBACK_MODEL: SECOND, EMERGENCY_FALLBACK_MODEL: 'none', USE_FREE_MODELS_ONLY: 'false',
    MODEL_IDLE_TIMEOUT_SECONDS: '2', MODEL_FIRST_TOKEN_TIMEOUT_SECONDS: '2', USAGE_NOTE_SECONDS: '0',
  };
  [persistence, caller] = await Promise.all([house.persistence(), house.caller(), house.worker()]);
  shim = await house.shim();
});
after(async () => {
  model.release();
  await house.close();
  await model.close();
});
afterEach(() => {
  model.modes = {};
  model.mode = 'normal';
});

const withWorker = (more, work) => async () => {
  const worker = await house.inference({ ...settings, ...more });
  try {
    await work(worker);
  } finally {
    await worker.stop();
  }
};

const ask = (mode) => `${mode ? `[model:${mode}] ` : ''}What then? ${randomUUID()}`;
const asked = (question) => model.requests.filter((r) => r.question === question);

async function begin() {
  const person = new Person();
  const { id } = await person.conversation(caller);
  return { person, id };
}

const rowsOf = (id) => database.rows('SELECT * FROM chat.usage_tracking WHERE conversation_id = $1 ORDER BY request_id, id', [id]);
const ended = (count) => (list) => list.length === count && list.every((u) => u.status !== 'begun');
const rowsAre = (what, id, holds) => until(what, async () => {
  const rows = await rowsOf(id);
  return holds(rows) && rows;
});
const told = (rows) => rows.map((u) => [u.status, u.model_used, Number(u.cost_credits), u.cost_known]);

describe('a turn', () => {
  it('that is answered pays its request, and asks nothing more', withWorker({}, async () => {
    const { person, id } = await begin();
    const question = ask();
    assert.equal((await person.say(shim, id, question)).status, 200);
    const [row, ...others] = await rowsOf(id);
    assert.deepEqual(others, []);
    assert.deepEqual([row.provider, row.generation_id, row.epoch, row.status, Number(row.cost_credits), row.cost_known],
                     ['openrouter', asked(question)[0].generation, 1, 'completed', MODEL_COST, true]);
    assert.match(row.request_id, /^[0-9a-f-]{36}$/);
  }));

  it('pays what failed before its answer, if that was told, and nothing that was refused', withWorker({}, async () => {
    for (const [mode, rows] of [
      ['status 500', []], ['status 429', []], ['error-200', []],
      ['paid-empty', [['failed', MODEL, MODEL_COST, true]]],
      ['drop-first', [['failed', MODEL, 0, false]]],
      ['bad-json', [['failed', MODEL, 0, false]]],
    ]) {
      const { person, id } = await begin();
      model.modes = { [MODEL]: mode };
      assert.equal((await person.say(shim, id, ask())).status, 200, mode);
      const all = await rowsAre(`the rows of ${mode}`, id, ended(rows.length + 1));
      assert.deepEqual(told(all), [...rows, ['completed', SECOND, MODEL_COST, true]], mode);
      const { other_requests: others } = (await person.call(caller, 'conversation.usage', { conversation_id: id })).body;
      assert.deepEqual([others.requests_count, others.unknown_cost_count], [rows.length, rows.filter((r) => !r[3]).length]);
    }
  }));

  it('that fails pays what was used on the way', withWorker({}, async () => {
    const { person, id } = await begin();
    model.modes = { [MODEL]: 'filtered', [SECOND]: 'status 400' };
    assert.equal((await person.say(shim, id, ask())).status, 502);
    const rows = await rowsAre('a row', id, ended(1));
    assert.deepEqual(told(rows), [['failed', MODEL, MODEL_COST, true]]);
    await caller.take('inference.dlq');
  }));

  it('that is tried again pays each time', withWorker({ FALLBACK_MODEL: 'none' }, async () => {
    const { person, id } = await begin();
    model.modes = { [MODEL]: 'paid-empty' };
    const question = ask();
    const answer = person.say(shim, id, question);
    await rowsAre('the first is told', id, ended(1));
    model.modes = {};
    assert.equal((await answer).status, 200);
    const rows = await rowsOf(id);
    assert.deepEqual(told(rows), [['failed', MODEL, MODEL_COST, true], ['completed', MODEL, MODEL_COST, true]]);
    assert.deepEqual(rows.map((u) => u.epoch), [1, 2]);
  }));

  for (const mode of ['drop', 'truncate', 'error-later', 'stall']) {
    it(`that breaks off is looked up, as soon as the provider knows: ${mode}`, withWorker({}, async (worker) => {
      const { person, id } = await begin();
      const question = ask(mode);
      const { type } = await person.send(caller, id, question, { stream: true }, { messageId: uuid7() });
      assert.equal(type, 'error');
      const { generation } = asked(question)[0];
      await until('it was asked for', () => model.lookUps.some((l) => l.id === generation));
      const [row, ...others] = await rowsOf(id);
      assert.deepEqual([others.length, row.status, row.cost_known, row.tokens_estimated, row.generation_id],
                       [0, 'broken', false, true, generation]);
      model.costs[generation] = COST;
      const [known] = await rowsAre('it is known', id, ([u]) => u.cost_known);
      assert.deepEqual([Number(known.cost_credits), known.prompt_tokens, known.completion_tokens, known.total_tokens,
                        known.tokens_estimated, known.status], [COST.total_cost, 31, 9, 40, false, 'broken']);
      assert.equal(model.lookUps.find((l) => l.id === generation).headers.authorization, 'Bearer any');
      assert.ok(valueOf(await metricsOf(worker.adminPort), 'usage_lookups_total', { outcome: 'missing' }) > 0);
      await caller.take('inference.dlq');
    }));
  }

  it('whose client has gone is paid as any other', withWorker({}, async () => {
    const { person, id } = await begin();
    const stream = await Stream.open(shim.port, `/api/chat/conversations/${id}/messages`, {
      body: { content: ask('paced 100') }, headers: { authorization: `Bearer ${person.token}`, accept: 'text/event-stream' },
    });
    await stream.event('delta');
    stream.leave();
    const rows = await rowsAre('a row', id, ended(1));
    assert.deepEqual(told(rows), [['completed', MODEL, MODEL_COST, true]]);
    assert.equal(rows[0].turn_id, null);
  }));

  it('whose answer has no usage is estimated, and then looked up', withWorker({}, async () => {
    const { person, id } = await begin();
    const question = ask('no-usage');
    const { status, body } = await person.send(caller, id, question);
    assert.equal(status, 200);
    assert.deepEqual([body.usage.cost, body.usage.cost_known, body.usage.tokens_estimated], [0, false, true]);
    assert.ok(body.usage.prompt_tokens > 0 && body.usage.completion_tokens > 0);
    model.costs[asked(question)[0].generation] = COST;
    const [row] = await rowsAre('it is known', id, ([u]) => u.cost_known);
    assert.deepEqual([row.total_tokens, Number(row.cost_credits), row.tokens_estimated], [40, COST.total_cost, false]);
  }));
});

describe('a worker that is killed', () => {
  // Asks, kills the worker when `when` holds, and has another go on: the rows, when the turn has its answer.
  async function killed(more, when) {
    const first = await house.inference({ ...settings, MODEL_IDLE_TIMEOUT_SECONDS: '60', ...more });
    const { person, id } = await begin();
    const question = ask();
    const messageId = uuid7();
    model.mode = 'stall';
    const answer = person.send(caller, id, question, { stream: true }, { messageId });
    await when(id, question);
    model.mode = 'normal';
    const { generation } = asked(question)[0];
    model.costs[generation] = COST;
    await first.kill();
    await withWorker(more, async () => {
      const { status, body } = await answer;
      assert.equal(status, 200, JSON.stringify(body));
      await rowsAre('both are known', id, ended(2));
      if (!more.USAGE_NOTE_SECONDS) await rowsAre('it was looked up', id, (list) => list.every((u) => u.cost_known));
    })();
    return { person, id, messageId, generation, rows: await rowsOf(id) };
  }

  it('in the middle of an answer: what it had asked for is looked up', async () => {
    const { person, id, messageId, generation, rows } = await killed({}, (conversation) =>
      rowsAre('it is noted', conversation, ([u]) => u?.status === 'begun'));
    assert.deepEqual(told(rows), [['lost', MODEL, COST.total_cost, true], ['completed', MODEL, MODEL_COST, true]]);
    assert.deepEqual(rows.map((u) => [u.epoch, u.turn_id]), [[1, messageId], [2, null]]);
    assert.deepEqual([rows[0].generation_id, rows[0].total_tokens], [generation, 40]);
    const sums = (await person.call(caller, 'conversation.usage', { conversation_id: id })).body;
    assert.deepEqual([sums.messages_count, sums.total_cost, sums.other_requests.cost], [1, MODEL_COST, COST.total_cost]);
  });

  it('before it told of its request: the cost is unknown, and said to be', async () => {
    const { person, id, rows } = await killed({ USAGE_NOTE_SECONDS: '3600' }, (conversation, question) =>
      until('it is asked', () => asked(question).length === 1));
    assert.deepEqual(told(rows).sort(), [['completed', MODEL, MODEL_COST, true], ['lost', 'unknown', 0, false]]);
    const sums = (await person.call(caller, 'conversation.usage', { conversation_id: id })).body;
    assert.deepEqual([sums.unknown_cost_count, sums.other_requests], [0, {
      requests_count: 1, prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, cost: 0, unknown_cost_count: 1,
    }]);
  });

  it('between the answer\'s confirm and its ack: both answers are paid, and one is billed', async () => {
    const first = await house.inference({ ...settings, CHATFLEET_FAULT: 'settle.confirm' });
    const { person, id } = await begin();
    const question = ask();
    const messageId = uuid7();
    const { status, body } = await person.send(caller, id, question, {}, { messageId });
    assert.equal(status, 200, JSON.stringify(body));
    await first.faulted();
    await withWorker({}, async () => {
      const rows = await rowsAre('the second is told', id, ended(2));
      assert.deepEqual(told(rows), Array(2).fill(['completed', MODEL, MODEL_COST, true]));
      assert.deepEqual(rows.map((u) => [u.epoch, u.turn_id]), [[1, null], [2, messageId]]);
      assert.equal(asked(question).length, 2);
      // What says that the first was lost comes in either order, and stays without effect.
      await until('nothing is under way', async () => (await house.count('persistence.commit')).messageCount === 0);
      assert.equal((await rowsOf(id)).length, 2);
    })();
    assert.equal((await person.call(caller, 'usage.summary', {})).body.messages_count, 1);
  });

  it('has lost nothing where all models are free that this user may ask', async () => {
    const free = {
      DEFAULT_MODEL: 'some/model:free', FALLBACK_MODEL: 'none', FREE_MODEL_RATE_LIMIT_PER_MINUTE: '0', PAID_MODELS: 'paid/model',
    };
    const first = await house.inference({ ...settings, ...free });
    const { person, id } = await begin();
    model.mode = 'held';
    const question = ask();
    const answer = person.send(caller, id, question);
    await until('it is asked', () => asked(question).length === 1);
    model.mode = 'normal';
    await first.kill();
    await withWorker(free, async () => {
      assert.equal((await answer).status, 200);
    })(); // it has ended, so that all it had to tell is in the queue
    await until('nothing is under way', async () => (await house.count('persistence.commit')).messageCount === 0);
    await new Person().conversation(caller);
    assert.deepEqual(told(await rowsOf(id)), [['completed', 'some/model:free', 0, true]]);
  });
});

describe('where no queue takes', () => {
  // As in a fleet whose persistence workers are older.
  const without = async (operation, work) => {
    await caller.channel.unbindQueue('persistence.commit', 'chat.rpc', operation);
    try {
      await work();
    } finally {
      await caller.channel.bindQueue('persistence.commit', 'chat.rpc', operation);
    }
  };

  it('what requests have cost, turns go on, and it is logged', withWorker({}, (worker) => without('usage.record', async () => {
    const { person, id } = await begin();
    model.modes = { [MODEL]: 'paid-empty' };
    assert.equal((await person.say(shim, id, ask())).status, 200);
    await worker.event('no queue takes what goes aside', (line) => line.operation === 'usage.record');
    assert.deepEqual(told(await rowsOf(id)), [['completed', SECOND, MODEL_COST, true]]);
  })));

  it('an answer that broke off, its turn fails all the same', withWorker({}, () => without('message.commit', async () => {
    const { person, id } = await begin();
    const messageId = uuid7();
    const { type, body } = await person.send(caller, id, ask('truncate'), { stream: true }, { messageId });
    assert.deepEqual([type, body.status, body.turn_id], ['error', 501, messageId]);
    assert.equal((await person.turn(caller, messageId)).state, 'failed');
    assert.deepEqual((await rowsAre('a row', id, ended(1))).map((u) => u.status), ['broken']);
    await caller.take('inference.dlq');
  })));
});

describe('a look-up', () => {
  const bodyOf = (generation, provider = 'openrouter') => ({
    turn_id: uuid7(), conversation_id: uuid7(), answer_id: uuid7(),
    requests: [{ request_id: uuid7(), provider, generation_id: generation }],
  });
  const of = (worker, outcome) => metricsOf(worker.adminPort).then((text) =>
    valueOf(text, 'usage_lookups_total', { outcome }) ?? 0);

  const letterOf = (queue, turnId) => until(`a message in ${queue}`, async () =>
    (await caller.takeAll(queue)).find((m) => m.content.includes(turnId)));

  it('is tried again, or is not, by what the provider says', withWorker({}, async () => {
    for (const [cost, queue, error] of [
      [404, 'inference.retry.1s', /does not know the generation yet/], [500, 'inference.retry.1s', /\(500\)/],
      [429, 'inference.retry.1s', /\(429\)/], [{}, 'inference.retry.1s', /names no cost/],
      [{ ...COST, total_cost: '1' }, 'inference.retry.1s', /names no cost/],
      [{ ...COST, native_tokens_prompt: null, tokens_prompt: -1 }, 'inference.retry.1s', /names no cost/],
      [401, 'inference.dlq', /does not tell the cost \(401\)/], [400, 'inference.dlq', /\(400\)/],
    ]) {
      const generation = `gen-${randomUUID()}`;
      model.costs[generation] = cost;
      const body = bodyOf(generation);
      await caller.send('usage.lookup', body, { replyTo: null });
      const letter = await letterOf(queue, body.turn_id); // other turns' look-ups wait there, too
      assert.deepEqual(JSON.parse(letter.content), body);
      assert.match(letter.properties.headers['x-error'], error);
      assert.equal(model.lookUps.filter((l) => l.id === generation).length, 1);
    }
    assert.equal((await house.count('persistence.commit.dlq')).messageCount, 0, 'no turn was to be failed');
  }));

  it('ends as unknown when the provider knows nothing at the last attempt', withWorker({}, async () => {
    const { type, body } = await caller.call('usage.lookup', bodyOf('gen-nowhere'), { headers: { 'x-attempt': 6 } });
    assert.deepEqual([type, body], ['reply', {}]);
  }));

  it('asks nobody who cannot be asked, nor for what is no id', withWorker({}, async (worker) => {
    const before_ = model.lookUps.length;
    for (const [id, provider] of [['x', 'offline'], ['x', 'elsewhere'], ['../key?x=1', 'openrouter'], ['', 'openrouter']]) {
      assert.equal((await caller.call('usage.lookup', bodyOf(id, provider))).type, 'reply');
    }
    assert.equal(model.lookUps.length, before_);
    assert.equal(await of(worker, 'nobody asked'), 4);
    const bad = { ...bodyOf('x'), requests: [{}] };
    await caller.send('usage.lookup', bad, { replyTo: null });
    assert.match((await letterOf('inference.dlq', bad.turn_id)).properties.headers['x-error'], /usage\.lookup: .*request_id/);
  }));
});

it('an answer that is committed by a persistence worker which is killed has one row',
   withWorker({ USAGE_NOTE_SECONDS: '3600' }, async () => {
     const { person, id } = await begin();
     const doomed = await house.persistence({ CHATFLEET_FAULT: 'database.committed:2' }); // the question's, the answer's
     await persistence.stop();
     const messageId = uuid7();
     const answer = person.send(caller, id, ask(), {}, { messageId });
     await doomed.faulted();
     assert.deepEqual((await rowsOf(id)).map((u) => u.id), [messageId]);
     persistence = await house.persistence();
     assert.equal((await answer).status, 200);
     assert.deepEqual((await rowsOf(id)).map((u) => [u.id, u.status]), [[messageId, 'completed']]);
   }));
