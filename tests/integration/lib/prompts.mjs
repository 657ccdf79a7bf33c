// Prompts sent to the inference worker by AMQP, as context-builder does, and what comes back.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readAnswer } from './amqp.mjs';
import { until } from './wait.mjs';

export function promptOf(question, { stream = false, messages, ...prompt } = {}) {
  return {
    turn: { id: randomUUID(), conversation_id: randomUUID(), kind: 'send',
            question_id: randomUUID(), answer_id: randomUUID() },
    stream,
    user_message: { id: randomUUID(), content: question },
    prompt: {
      messages: messages ?? [{ role: 'system', content: 'Be kind.' },
                             { role: 'user', content: question }],
      tokens_estimated: 42, history_dropped: 0, context_type: 'general', ...prompt,
    },
  };
}

// What came back of one call so far.
export const answersOf = (caller, correlationId) => caller.replies
  .filter((m) => m.properties.correlationId === correlationId).map(readAnswer);

// Asks without a next step, so that the answer comes here: {reply, answer, body, deltas}. Without a turn
// when options.turn is false, so that a failure comes here, too.
export async function ask(caller, question, options = {}, properties = {}) {
  const correlationId = properties.correlationId ?? randomUUID();
  const body = promptOf(question, options);
  if (options.turn === false) delete body.turn;
  await caller.send('inference.generate', body, { ...properties, correlationId });
  const reply = await until(`an answer to ${question}`, () =>
    answersOf(caller, correlationId).find((m) => ['reply', 'error'].includes(m.type)), { every: 10 });
  return { reply, answer: reply.body.answer, body,
           deltas: answersOf(caller, correlationId).filter((m) => m.type === 'delta') };
}

// What the deltas say together; each stands where the one before ended.
export function textOf(deltas, epoch = 1) {
  let text = '';
  for (const delta of deltas) {
    assert.equal(delta.headers['x-epoch'], epoch);
    assert.equal(delta.headers['x-offset'], Buffer.byteLength(text));
    assert.equal(delta.properties.deliveryMode, 1);
    text += delta.body.text;
  }
  return text;
}
