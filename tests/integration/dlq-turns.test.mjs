// Dead letters of whole turns, replayed by chatfleet dlq.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { randomUUID } from 'node:crypto';
import { House } from './lib/house.mjs';
import { Letters, of, somebody } from './lib/letters.mjs';
import { startModel } from './lib/model.mjs';
import { until } from './lib/wait.mjs';

describe('dead letters of turns', () => {
  let house, model, fleet, letters;

  before(async () => {
    house = await House.open('dlqturns', { database: true });
    model = await startModel();
    fleet = await house.fleet({ model });
    letters = new Letters(house, fleet.caller);
  });
  after(async () => {
    await house.close();
    await model.close();
  });

  // A turn whose model refuses it the first time: its dead letter.
  async function failed(mode) {
    const person = somebody();
    const { id } = await person.conversation(fleet.caller);
    const answer = await person.say(fleet.shim, id, `What then, ${randomUUID()}? [model:${mode}]`);
    assert.equal(answer.status, 502, answer.text);
    const [letter] = await until('its dead letter', async () => {
      const found = await letters.exported(of(person));
      return found.length === 1 && found;
    });
    return { person, conversation: id, turnId: answer.json.turn_id, letter };
  }

  const messages = async (conversation) => (await house.database.rows(
    'SELECT seq::int, sender_type FROM chat.messages WHERE conversation_id = $1 ORDER BY seq', [conversation]));
  const header = (letter, name) => letter.headers.find(([n]) => n === name)?.[2];

  it('a failed turn is completed, once and billed once', async () => {
    const { person, conversation, turnId, letter } = await failed('flaky 1 401');
    assert.equal(letter.queue, 'inference');
    assert.equal((await person.turn(fleet.caller, turnId)).state, 'failed');
    const { code, json, stdout } = await letters.replay(person);
    assert.equal(code, 0, stdout);
    assert.equal(json.succeeded, 1);
    const turn = await person.turn(fleet.caller, turnId);
    assert.deepEqual([turn.state, turn.problem], ['completed', null]);
    assert.deepEqual(await messages(conversation), [{ seq: 1, sender_type: 'user' }, { seq: 2, sender_type: 'assistant' }]);
    assert.equal(await house.database.value('SELECT count(*)::int FROM chat.usage_tracking WHERE id = $1', [turnId]), 1);
    assert.deepEqual(await letters.exported(of(person)), []);
  });

  it('one that fails again is a new letter of a later epoch, until it succeeds', async () => {
    const { person, turnId, letter } = await failed('flaky 2 401');
    const first = await letters.replay(person);
    assert.deepEqual([first.code, first.json.failed], [1, 1], first.stdout);
    const [second] = await letters.exported(of(person));
    assert.notEqual(second.id, letter.id);
    assert.equal(header(second, 'x-replay-of'), letter.id);
    assert.ok(header(second, 'x-epoch') > header(letter, 'x-epoch'));
    assert.equal((await person.turn(fleet.caller, turnId)).state, 'failed');
    const next = await letters.replay(person);
    assert.deepEqual([next.code, next.json.succeeded], [0, 1], next.stdout);
    assert.equal((await person.turn(fleet.caller, turnId)).state, 'completed');
  });

  it('one whose tool was killed before its confirm is resumed, and answered once', async () => {
    const { person, conversation, turnId } = await failed('flaky 1 401');
    const killed = await letters.tool(['replay', ...of(person)],
                                      { env: { CHATFLEET_FAULT: 'replay.confirmed' } });
    assert.equal(killed.code, 'SIGKILL');
    await until('it was published all the same', async () => (await person.turn(fleet.caller, turnId)).state === 'completed');
    await letters.has(person, 1);
    const { code, json, stdout } = await letters.replay(person, '--resume');
    assert.deepEqual([code, json.succeeded], [0, 1], stdout);
    assert.equal((await messages(conversation)).length, 2);
    assert.equal(await house.database.value('SELECT count(*)::int FROM chat.usage_tracking WHERE id = $1', [turnId]), 1);
  });

  it('an unanswered one is open, and says so', async () => {
    const { person, turnId } = await failed('flaky 1 401');
    await fleet.inference.stop();
    const { code, json } = await letters.replay(person, '--timeout', '1');
    assert.deepEqual([code, json.open], [2, 1]);
    fleet.inference = await house.inference({ OPENROUTER_API_KEY: 'any', OPENROUTER_BASE_URL: model.url, DEFAULT_MODEL: 'm' });
    await until('it is done later', async () => (await person.turn(fleet.caller, turnId)).state === 'completed');
  });
});
