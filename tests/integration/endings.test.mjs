// How an answer can end beside being whole: stopped by its user, broken off by its model, and what a later
// answer of the same turn makes of that.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { House, MODEL } from './lib/house.mjs';
import { answerTo, startModel } from './lib/model.mjs';
import { Person } from './lib/person.mjs';
import { uuid7 } from './lib/uuid.mjs';
import { until } from './lib/wait.mjs';

const PROBLEM = { type: 'about:blank', title: 'Bad Gateway', status: 502, detail: 'it broke' };

let house, database, model, shim, caller;

before(async () => {
  model = await startModel();
  house = await House.open('endings', { database: true });
  database = house.database;
  ({ shim, caller } = await house.fleet({ model, settings: { MODEL_IDLE_TIMEOUT_SECONDS: '2' } }));
});
after(async () => {
  model.release();
  await house.close();
  await model.close();
});

const ask = (mode) => `${mode ? `[model:${mode}] ` : ''}What then? ${randomUUID()}`;

async function begin() {
  const person = new Person();
  const { id } = await person.conversation(caller);
  return { person, id };
}

// A turn whose model does not answer, and the commit that another step would send of it.
async function held({ person, id }, { key, kind = 'send', of } = {}) {
  const question = ask('held');
  const turnId = uuid7();
  if (kind === 'send') {
    await caller.send('message.send', { conversation_id: id, content: question, async: true },
                      person.envelope({ messageId: turnId, key }));
  } else {
    await caller.send('message.regenerate', { conversation_id: id, message_id: of, async: true },
                      person.envelope({ messageId: turnId }));
  }
  const row = await until('the turn is accepted', async () => {
    const [turn] = await database.rows('SELECT * FROM chat.turns WHERE id = $1', [turnId]);
    return turn;
  });
  const turn = { id: turnId, conversation_id: id, kind, question_id: row.question_id, answer_id: row.answer_id };
  return { question, turn, key };
}

const answer = (content, more = {}) => ({
  content, model: MODEL, provider: 'openrouter', is_free_model: false, processing_time_ms: 1,
  usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5, cost: 0.00001 }, ...more,
});

const commit = (person, turn, body, epoch) =>
  person.call(caller, 'message.commit', { turn, ...body }, { headers: { ...(epoch && { 'x-epoch': epoch }) } });

const rowsOf = (id) => database.rows('SELECT * FROM chat.messages WHERE conversation_id = $1 ORDER BY seq', [id]);
const usageOf = (id) => database.rows('SELECT * FROM chat.usage_tracking WHERE conversation_id = $1 ORDER BY created_at', [id]);

async function promptOf(person, id) {
  const question = ask();
  assert.equal((await person.say(shim, id, question)).status, 200);
  return model.requests.find((r) => r.question === question).body.messages.slice(1).map((m) => m.content);
}

describe('an answer that was stopped', () => {
  it('is the turn\'s, as far as it came, and stands in the history', async () => {
    const { person, id } = await begin();
    const { question, turn } = await held({ person, id }, { key: 'k' });
    const { status, body } = await commit(person, turn, { answer: answer('Half of', { ending: 'stopped' }) });
    assert.equal(status, 200, JSON.stringify(body));
    assert.equal(body.assistant_message.content, 'Half of');
    assert.equal(body.assistant_message.metadata.ending, 'stopped');
    const told = await person.turn(caller, turn.id);
    assert.equal(told.state, 'stopped');
    assert.deepEqual(told.result.assistant_message, { ...body.assistant_message, seq: 2 });
    assert.deepEqual((await usageOf(id)).map((u) => [u.id, u.total_tokens]), [[turn.id, 5]]);
    // The same request again has the same outcome, and the model's answer that comes late changes nothing.
    const again = await person.say(shim, id, question, { key: 'k', async: true });
    assert.equal(again.status, 200, again.text);
    assert.equal(again.json.assistant_message.content, 'Half of');
    const late = await commit(person, turn, { answer: answer('Half of it all') }, 2);
    assert.equal(late.body.assistant_message.content, 'Half of');
    assert.equal((await promptOf(person, id))[1], 'Half of');
  });

  it('before its first word is empty, and in no history', async () => {
    const { person, id } = await begin();
    const { question, turn } = await held({ person, id });
    const { status, body } = await commit(person, turn, { answer: answer('', { ending: 'stopped' }) });
    assert.equal(status, 200, JSON.stringify(body));
    assert.equal(body.assistant_message.content, '');
    assert.deepEqual((await rowsOf(id)).map((m) => [m.content, m.chosen]), [[question, true], ['', false]]);
    const { messages } = (await person.http(shim, 'GET', `/conversations/${id}/messages`)).json;
    assert.deepEqual(messages.map((m) => m.superseded), [undefined, undefined]);
    assert.deepEqual((await promptOf(person, id)).slice(0, -1), [question]);
  });

  it('takes the place of an earlier one if it has words, else not', async () => {
    const { person, id } = await begin();
    const first = (await person.say(shim, id, ask())).json;
    const chosen = async () => (await rowsOf(id)).filter((m) => m.sender_type === 'assistant' && m.chosen).map((m) => m.content);
    model.mode = 'held';
    try {
      for (const [words, wanted] of [['', first.assistant_message.content], ['Anew', 'Anew'], ['', 'Anew']]) {
        const { turn } = await held({ person, id }, { kind: 'regenerate', of: first.user_message.id });
        const { status, body } = await commit(person, turn, { answer: answer(words, { ending: 'stopped' }) });
        assert.equal(status, 200);
        assert.equal(body.new_message.content, words);
        assert.deepEqual(await chosen(), [wanted]);
      }
    } finally {
      model.mode = 'normal';
    }
  });
});

describe('an answer that broke off', () => {
  for (const mode of ['drop', 'truncate', 'error-later', 'stall']) {
    it(`is kept, and the turn fails: ${mode}`, async () => {
      const { person, id } = await begin();
      const question = ask(mode);
      const messageId = uuid7();
      const { type, body, notices } = await person.send(caller, id, question, { stream: true }, { messageId, key: 'k' });
      assert.equal(type, 'error');
      assert.equal(body.turn_id, messageId);
      assert.equal(notices.filter((m) => m.type === 'delta').map((m) => m.body.text).join(''), 'Some words');
      const turn = await person.turn(caller, messageId);
      assert.deepEqual([turn.state, turn.result, turn.problem.detail], ['failed', null, body.detail]);
      const [, part] = (await person.http(shim, 'GET', `/conversations/${id}/messages`)).json.messages;
      assert.deepEqual([part.id, part.content, part.metadata.ending, part.superseded],
                       [turn.assistant_message_id, 'Some words', 'broken', undefined]);
      assert.equal((await usageOf(id)).length, 1);
      assert.notEqual((await usageOf(id))[0].id, messageId);
      assert.deepEqual((await promptOf(person, id)).slice(0, -1), [question], 'not in the history');
      // Its key is free, and its message among the dead letters.
      const again = await person.say(shim, id, question.replace(/\[.*\]/, ''), { key: 'k' });
      assert.equal(again.status, 200, again.text);
      const letter = await until('a dead letter', () => caller.channel.get('inference.dlq', { noAck: true }));
      assert.equal(JSON.parse(letter.content).turn.id, messageId);
    });
  }

  it('is replaced by a later one, in its place', async () => {
    const { person, id } = await begin();
    const { question, turn } = await held({ person, id });
    const broken = { answer: answer('Some wo', { ending: 'broken' }), problem: { ...PROBLEM, turn_id: turn.id } };
    for (let i = 0; i < 2; i++) { // also when it comes twice
      const { type, status, body } = await commit(person, turn, broken);
      assert.deepEqual([type, status, body.detail, body.turn_id], ['error', 502, 'it broke', turn.id]);
      assert.deepEqual((await rowsOf(id)).map((m) => m.content), [question, 'Some wo']);
    }
    const next = (await person.say(shim, id, ask())).json;
    assert.equal(next.user_message.seq, 3);
    const { status, body } = await commit(person, turn, { answer: answer('Some words, and all') }, 2);
    assert.equal(status, 200, JSON.stringify(body));
    assert.deepEqual([body.assistant_message.seq, body.assistant_message.metadata.ending], [2, undefined]);
    const rows = await rowsOf(id);
    assert.deepEqual(rows.slice(0, 2).map((m) => [Number(m.seq), m.content, m.chosen]),
                     [[1, question, true], [2, 'Some words, and all', true]]);
    assert.deepEqual(rows.map((m) => Number(m.seq)), [1, 2, 3, 4]);
    assert.equal((await person.turn(caller, turn.id)).state, 'completed');
    const usage = (await usageOf(id)).filter((u) => u.message_id === turn.answer_id);
    assert.equal(usage.length, 2, 'both were paid');
    assert.equal(usage.filter((u) => u.id === turn.id).length, 1);
    // What breaks off beside it changes nothing any more.
    const late = await commit(person, turn, broken, 3);
    assert.equal(late.body.assistant_message.content, 'Some words, and all');
    assert.equal((await rowsOf(id))[1].content, 'Some words, and all');
    assert.equal((await promptOf(person, id))[1], 'Some words, and all');
  });

  it('is refused without its problem, and with an ending that is none', async () => {
    const { person, id } = await begin();
    const { question, turn } = await held({ person, id });
    for (const [body, detail] of [
      [{ answer: answer('x', { ending: 'broken' }) }, /problem cannot be read/],
      [{ answer: answer('x', { ending: 'broken' }), problem: { status: 200 } }, /problem cannot be read/],
      [{ answer: answer('x', { ending: 'lost' }) }, /ending lost is not known/],
    ]) {
      await caller.send('message.commit', { turn, ...body }, person.envelope({ replyTo: null }));
      const letter = await until('a dead letter', () => caller.channel.get('persistence.commit.dlq', { noAck: true }));
      assert.match(letter.properties.headers['x-error'], detail);
    }
    assert.deepEqual((await rowsOf(id)).map((m) => m.content), [question]);
    assert.deepEqual(await usageOf(id), []);
    assert.equal(model.requests.filter((r) => r.question === question).length, 1);
    assert.equal((await person.turn(caller, turn.id)).state, 'failed');
  });
});

it('an answer that is whole says nothing of an ending', async () => {
  const { person, id } = await begin();
  const question = ask();
  const { json } = await person.say(shim, id, question);
  assert.equal(json.assistant_message.content, answerTo(question));
  assert.ok(!('ending' in json.assistant_message.metadata));
});
