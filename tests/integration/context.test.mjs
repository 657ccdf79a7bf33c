// The step context.build over AMQP, as persistence calls it and as inference gets it.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { House } from './lib/house.mjs';

const SLIP = 'inference.generate message.commit';

function step(over = {}) {
  const id = randomUUID();
  return {
    turn: { id, conversation_id: randomUUID(), kind: 'send', question_id: randomUUID(),
            answer_id: randomUUID() },
    stream: false,
    conversation: { id: randomUUID(), title: 'Ganti karier', context_type: 'career_guidance',
                    context_data: { job: 'perawat' } },
    user_message: { id: randomUUID(), content: 'Apa langkah pertama?', content_type: 'text' },
    history: [{ role: 'user', content: 'Halo', content_type: 'text' },
              { role: 'assistant', content: 'Halo! Ada apa?', content_type: 'text' }],
    ...over,
  };
}

describe('context.build', () => {
  let house, caller;

  before(async () => {
    house = await House.open('context');
    await house.run('chatfleet', ['topology', 'apply']); // the queues of the other kinds, too
    await house.worker({ MAX_CONVERSATION_HISTORY_TOKENS: '200', DEFAULT_MODEL: 'some/model:free' });
    caller = await house.caller();
  });
  after(() => house.close());

  it('hands the prompt on to the next step of the slip', async () => {
    const body = step(), messageId = randomUUID();
    const correlationId = await caller.send('context.build', body, {
      messageId, headers: { 'x-slip': SLIP } });
    const message = await caller.take('inference');
    const { headers, ...properties } = message.properties;
    assert.equal(properties.type, 'inference.generate');
    assert.equal(properties.correlationId, correlationId);
    assert.equal(properties.replyTo, caller.replyTo);
    assert.equal(properties.deliveryMode, 2);
    assert.equal(headers['x-slip'], 'message.commit');
    const { prompt, ...rest } = JSON.parse(message.content);
    assert.deepEqual(rest, { turn: body.turn, stream: false, user_message: body.user_message });
    assert.deepEqual(prompt.messages.map((m) => m.role), ['system', 'user', 'assistant', 'user']);
    assert.match(prompt.messages[0].content, /career guidance/);
    assert.match(prompt.messages[0].content, /"Ganti karier"/);
    assert.match(prompt.messages[0].content, /\{"job":"perawat"\}/);
    assert.match(prompt.messages[0].content, /concise/);
    assert.equal(prompt.messages.at(-1).content, body.user_message.content);
    assert.equal(prompt.history_dropped, 0);
    assert.equal(prompt.context_type, 'career_guidance');
    assert.ok(prompt.tokens_estimated > 200);
  });

  it('keeps what of the history fits', async () => {
    const history = Array.from({ length: 40 }, (_, i) => ({
      role: i % 2 ? 'assistant' : 'user', content: `Nomor ${i} dari percakapan ini.` }));
    await caller.send('context.build', step({ history }), { headers: { 'x-slip': SLIP } });
    const { prompt } = JSON.parse((await caller.take('inference')).content);
    const kept = prompt.messages.slice(1, -1);
    assert.ok(kept.length > 4 && kept.length < 40, `${kept.length} messages`);
    assert.equal(kept.length + prompt.history_dropped, 40);
    assert.equal(kept[0].role, 'user');
    assert.deepEqual(kept.at(-1), { role: 'assistant', content: 'Nomor 39 dari percakapan ini.' });
  });

  it('sends what is no step of a turn to the dead letters', async () => {
    await caller.send('context.build', step({ history: 'none' }), { headers: { 'x-slip': SLIP } });
    const dead = await caller.take('context-builder.dlq');
    assert.equal(dead.properties.headers['x-error-kind'], 'fatal');
    assert.match(dead.properties.headers['x-error'], /history is no array/);
  });
});
