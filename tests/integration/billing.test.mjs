// What requests to providers took: a row each, once, whatever became of it and however often it is told. The
// other workers are played by the test, over AMQP.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { House, MODEL } from './lib/house.mjs';
import { Person } from './lib/person.mjs';
import { uuid7 } from './lib/uuid.mjs';
import { until } from './lib/wait.mjs';

let house, database, caller;

before(async () => {
  house = await House.open('billing', { database: true });
  database = house.database;
  assert.equal((await house.run('chatfleet', ['topology', 'apply'])).code, 0);
  [caller] = await Promise.all([house.caller(), house.persistence()]);
});
after(() => house.close());

// A turn that waits for its prompt, for ever.
async function begin() {
  const person = new Person();
  const { id } = await person.conversation(caller);
  const turnId = uuid7();
  assert.equal((await person.send(caller, id, 'And now?', { async: true }, { messageId: turnId })).status, 202);
  const [row] = await database.rows('SELECT * FROM chat.turns WHERE id = $1', [turnId]);
  const turn = { id: turnId, conversation_id: id, kind: 'send', question_id: row.question_id, answer_id: row.answer_id };
  return { person, id, turn };
}

const usage = (cost = 0.00001, more = {}) => ({ prompt_tokens: 3, completion_tokens: 2, total_tokens: 5, cost, ...more });
const UNKNOWN = usage(0, { cost_known: false, tokens_estimated: true });

// A request as the inference worker tells of it.
const request = (more = {}) => ({
  request_id: uuid7(), model: MODEL, provider: 'openrouter', generation_id: `gen-${randomUUID()}`, is_free_model: false,
  processing_time_ms: 1, usage: usage(), ...more,
});

const commit = (person, turn, answer, { epoch, ...body } = {}) => person.call(
  caller, 'message.commit', { turn, answer: { content: 'So.', ...answer }, ...body },
  { headers: epoch ? { 'x-epoch': epoch } : {} });

// The operation tells nobody that it is done; a read behind it in the database would, but the queue is shared.
async function record(person, turn, body) {
  const messageId = uuid7();
  const { type, body: said } = await person.call(caller, 'usage.record', {
    turn_id: turn.id, conversation_id: turn.conversation_id, answer_id: turn.answer_id, ...body,
  }, { messageId });
  assert.equal(type, 'reply', JSON.stringify(said));
}

const rowsOf = (id) => database.rows('SELECT * FROM chat.usage_tracking WHERE conversation_id = $1 ORDER BY created_at, id', [id]);
const told = (rows) => rows.map((u) => [u.id, u.turn_id, u.status, Number(u.cost_credits), u.cost_known]);
const sums = async (person, id) => (await person.call(caller, 'conversation.usage', { conversation_id: id })).body;

// The look-ups that were asked for of this turn, so far.
const lookUps = [];
async function lookUpOf(turn) {
  return until('a look-up', async () => {
    for (const m of await caller.takeAll('inference')) {
      if (m.properties.type === 'usage.lookup') lookUps.push(JSON.parse(m.content));
    }
    return lookUps.find((l) => l.turn_id === turn.id);
  });
}
async function assertNoLookUp(turn) {
  // One that is asked for behind it would come first otherwise: both go to the same queue, confirmed.
  const { person, turn: other } = await begin();
  await commit(person, other, request({ usage: UNKNOWN, look_up: true }));
  await lookUpOf(other);
  assert.ok(!lookUps.some((l) => l.turn_id === turn.id));
}

describe('an answer', () => {
  it('has a row that says of which generation it is, with every digit of its cost', async () => {
    const { person, id, turn } = await begin();
    const r = request({ usage: usage(0.000000123456) });
    const { status, body } = await commit(person, turn, r, { epoch: 3 });
    assert.equal(status, 200);
    assert.deepEqual(body.usage, { ...r.usage, model: MODEL, is_free_model: false });
    const [row, ...others] = await rowsOf(id);
    assert.deepEqual(others, []);
    assert.deepEqual(
      [row.id, row.turn_id, row.request_id, row.provider, row.generation_id, row.epoch, row.status, row.cost_credits,
       row.cost_known, row.tokens_estimated],
      [turn.id, null, r.request_id, r.provider, r.generation_id, 3, 'completed', '0.000000123456', true, false]);
    assert.equal((await sums(person, id)).total_cost, 0.000000123456);
    await assertNoLookUp(turn);
  });

  it('that is told twice has one row, and what was generated beside it another', async () => {
    const { person, id, turn } = await begin();
    const [first, second] = [request(), request({ usage: usage(0.5) })];
    for (const [r, epoch] of [[first, 1], [first, 1], [second, 2], [second, 2], [first, 1]]) {
      assert.equal((await commit(person, turn, r, { epoch })).status, 200);
    }
    assert.deepEqual(told(await rowsOf(id)), [[turn.id, null, 'completed', 0.00001, true],
                                              [second.request_id, turn.id, 'completed', 0.5, true]]);
    const { messages_count: count, total_cost: cost, other_requests: others } = await sums(person, id);
    assert.deepEqual([count, cost], [1, 0.00001]);
    assert.deepEqual(others, { requests_count: 1, prompt_tokens: 3, completion_tokens: 2, total_tokens: 5, cost: 0.5,
                               unknown_cost_count: 0 });
    const year = (await person.call(caller, 'usage.summary', { period: 'day' })).body;
    assert.deepEqual(year.other_requests, others);
    assert.deepEqual([year.messages_count, year.conversations_count, year.cost_breakdown.length], [1, 1, 1]);
  });

  it('whose cost nobody told is looked up, and not guessed', async () => {
    const { person, id, turn } = await begin();
    const r = request({ usage: UNKNOWN, look_up: true, ending: 'stopped' });
    const { body } = await commit(person, turn, r);
    assert.deepEqual([body.usage.cost, body.usage.cost_known, body.usage.tokens_estimated], [0, false, true]);
    const before_ = await sums(person, id);
    assert.deepEqual([before_.messages_count, before_.total_cost, before_.unknown_cost_count], [1, 0, 1]);
    assert.equal(before_.cost_breakdown[0].unknown_cost_count, 1);
    const { requests, ...ids } = await lookUpOf(turn);
    assert.deepEqual(requests, [{ request_id: r.request_id, provider: 'openrouter', generation_id: r.generation_id }]);
    const found = [{ request_id: r.request_id, prompt_tokens: 40, completion_tokens: 9, cost: 0.0000007 }];
    for (let i = 0; i < 2; i++) await record(person, turn, { ...ids, found });
    const [row] = await rowsOf(id);
    assert.deepEqual([row.status, row.total_tokens, Number(row.cost_credits), row.cost_known, row.tokens_estimated],
                     ['stopped', 49, 0.0000007, true, false]);
    const { usage: now } = (await person.turn(caller, turn.id)).result;
    assert.deepEqual(now, { prompt_tokens: 40, completion_tokens: 9, total_tokens: 49, cost: 0.0000007, model: MODEL,
                            is_free_model: false });
    // What was found says more than what comes again.
    await commit(person, turn, r);
    assert.equal(Number((await rowsOf(id))[0].cost_credits), 0.0000007);
    assert.equal((await sums(person, id)).unknown_cost_count, 0);
  });

  it('that broke off has a row that is no answer\'s', async () => {
    const { person, id, turn } = await begin();
    const r = request({ usage: UNKNOWN, look_up: true, ending: 'broken' });
    const problem = { title: 'Bad Gateway', status: 502, detail: 'it broke' };
    for (let i = 0; i < 2; i++) assert.equal((await commit(person, turn, r, { problem })).status, 502);
    assert.deepEqual(told(await rowsOf(id)), [[r.request_id, turn.id, 'broken', 0, false]]);
    assert.equal((await lookUpOf(turn)).requests[0].request_id, r.request_id);
    const { messages_count: count, other_requests: others } = await sums(person, id);
    assert.deepEqual([count, others.requests_count, others.unknown_cost_count], [0, 1, 1]);
  });
});

describe('requests without an answer', () => {
  it('have a row each, and the turn goes on', async () => {
    const { person, id, turn } = await begin();
    const requests = [request({ status: 'failed', epoch: 1 }), request({ status: 'failed', epoch: 1, usage: UNKNOWN })];
    for (let i = 0; i < 2; i++) await record(person, turn, { requests });
    assert.deepEqual(told(await rowsOf(id)).sort(), [[requests[0].request_id, turn.id, 'failed', 0.00001, true],
                                                     [requests[1].request_id, turn.id, 'failed', 0, false]].sort());
    assert.equal((await person.turn(caller, turn.id)).state, 'accepted');
    await assertNoLookUp(turn); // which was not wanted
  });

  it('are not counted again as the answer\'s, whichever is told first', async () => {
    for (const order of ['note', 'note late', 'failed', 'failed late']) {
      const { person, id, turn } = await begin();
      const r = request();
      const note = { requests: [{ ...r, status: order.startsWith('note') ? 'begun' : 'failed', epoch: 1, usage: UNKNOWN }] };
      const save = () => commit(person, turn, { ...r, noted: true });
      if (order.endsWith('late')) await save();
      await record(person, turn, note);
      if (!order.endsWith('late')) await save();
      assert.deepEqual(told(await rowsOf(id)), [[turn.id, null, 'completed', 0.00001, true]], order);
    }
  });

  it('are known by their beginning until their end is told', async () => {
    const { person, id, turn } = await begin();
    const r = request({ epoch: 1 });
    const begun = { requests: [{ ...r, status: 'begun', usage: UNKNOWN }] };
    await record(person, turn, begun);
    assert.deepEqual(told(await rowsOf(id)), [[r.request_id, turn.id, 'begun', 0, false]]);
    await record(person, turn, { requests: [{ ...r, status: 'failed' }] });
    await record(person, turn, begun);
    assert.deepEqual(told(await rowsOf(id)), [[r.request_id, turn.id, 'failed', 0.00001, true]]);
  });
});

describe('deliveries that came to no end', () => {
  it('are unknown, or are looked up when their generation is known', async () => {
    const { person, id, turn } = await begin();
    const r = request({ epoch: 2 });
    await record(person, turn, { requests: [{ ...r, status: 'begun', usage: UNKNOWN }] });
    const last = request();
    await commit(person, turn, last, { epoch: 3 });
    for (let i = 0; i < 2; i++) await record(person, turn, { lost: [1, 2] });
    const rows = await rowsOf(id);
    assert.deepEqual(rows.map((u) => [u.epoch, u.status, u.model_used, u.cost_known]).sort(),
                     [[1, 'lost', 'unknown', false], [2, 'lost', MODEL, false], [3, 'completed', MODEL, true]]);
    assert.deepEqual((await lookUpOf(turn)).requests,
                     [{ request_id: r.request_id, provider: 'openrouter', generation_id: r.generation_id }]);
    await record(person, turn, { found: [{ request_id: r.request_id, prompt_tokens: 1, completion_tokens: 1, cost: 0.25 }] });
    const { other_requests: others, unknown_cost_count: unknown } = await sums(person, id);
    assert.deepEqual([others.requests_count, others.cost, others.unknown_cost_count, unknown], [2, 0.25, 1, 0]);
  });

  it('are not lost when they are heard of all the same', async () => {
    for (const first of [true, false]) {
      const { person, id, turn } = await begin();
      const [one, two] = [request(), request()];
      const steps = [() => commit(person, turn, one, { epoch: 1 }), () => commit(person, turn, two, { epoch: 2 })];
      await record(person, turn, { lost: [1] });
      assert.equal((await rowsOf(id)).length, 1);
      for (const step of first ? steps : steps.reverse()) await step();
      await record(person, turn, { lost: [1] });
      const rows = await rowsOf(id);
      assert.deepEqual(rows.map((u) => u.request_id).sort(), [one.request_id, two.request_id].sort());
      assert.equal(rows.find((u) => u.turn_id === null).request_id, (first ? one : two).request_id);
    }
  });
});

it('a whole chain of models that failed is told of in one message', async () => {
  const { person, id, turn } = await begin();
  const failed = Array.from({ length: 33 }, () => request({ status: 'failed', epoch: 1 }));
  await record(person, turn, { requests: failed });
  assert.equal((await sums(person, id)).other_requests.requests_count, 33);
  await record(person, turn, { found: failed.map(({ request_id }) => ({ request_id, prompt_tokens: 1, completion_tokens: 1, cost: 1 })) });
  assert.equal((await rowsOf(id)).length, 33);
});

it('what cannot be read is dead-lettered with its fault, and changes nothing', async () => {
  const { person, id, turn } = await begin();
  const ids = { turn_id: turn.id, conversation_id: id, answer_id: turn.answer_id };
  const good = request({ status: 'failed', epoch: 1 });
  for (const [body, error] of [
    [{ ...ids, turn_id: 'x' }, /usage\.record: an id is no UUID/],
    [{ conversation_id: id }, /usage\.record: .*turn_id/],
    [{ ...ids, requests: [good, { ...good, status: 'gone' }] }, /the status gone is not known/],
    [{ ...ids, requests: [{ ...good, request_id: 'x' }] }, /request_id is no UUID/],
    [{ ...ids, requests: [{ ...good, request_id: undefined }] }, /no request_id/],
    [{ ...ids, requests: [{ ...good, usage: {} }] }, /prompt_tokens/],
    [{ ...ids, requests: Array(65).fill(good) }, /more than 64 requests/],
    [{ ...ids, lost: ['1'] }, /an epoch is no integer/],
    [{ ...ids, found: [{ request_id: good.request_id }] }, /prompt_tokens/],
  ]) {
    await caller.send('usage.record', body, person.envelope({ replyTo: null }));
    const letter = await until('a dead letter', () => caller.channel.get('persistence.commit.dlq', { noAck: true }));
    assert.match(letter.properties.headers['x-error'], error);
  }
  assert.deepEqual(await rowsOf(id), []);
  assert.equal((await person.turn(caller, turn.id)).state, 'accepted');
  // Nor does what is told of somebody else's turn.
  await record(new Person(), turn, { requests: [good], lost: [1] });
  assert.deepEqual(await rowsOf(id), []);
});
