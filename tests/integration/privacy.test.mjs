// What leaves the fleet: a model server sees placeholders for personal data, the user none of them.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { readAnswer } from './lib/amqp.mjs';
import { House } from './lib/house.mjs';
import { metricsOf } from './lib/http.mjs';
import { valueOf } from './lib/metrics.mjs';
import { answerTo, startModel } from './lib/model.mjs';
import { until } from './lib/wait.mjs';

const PERSONAL = ['ada@example.org', '+62 812-3456-7890', '3174012304950001', 'Siti Rahayu'];
const SECRET = `I am Siti Rahayu, ${PERSONAL[0]}, ${PERSONAL[1]}, NIK ${PERSONAL[2]}.`;
const HIDDEN = 'I am [NAME_1], [EMAIL_1], [PHONE_1], NIK [NIK_1].';

let house, caller, model;

before(async () => {
  house = await House.open('privacy');
  await house.run('chatfleet', ['topology', 'apply']);
  model = await startModel();
  caller = await house.caller();
});
after(async () => {
  await house.close();
  await model.close();
});

// By context-builder and inference, as the steps of a turn; the answer comes here: {answer, deltas}.
async function ask(content, { stream = false } = {}) {
  const correlationId = randomUUID();
  const of = () => caller.replies
    .filter((m) => m.properties.correlationId === correlationId).map(readAnswer);
  await caller.send('context.build', {
    turn: { id: randomUUID() }, stream,
    conversation: { context_type: 'general', context_data: { full_name: 'Siti Rahayu' } },
    user_message: { id: randomUUID(), content },
    history: [{ role: 'user', content: `Before: ${PERSONAL[1]}` }, { role: 'assistant', content: 'Yes.' }],
  }, { correlationId, headers: { 'x-slip': 'inference.generate' } });
  const reply = await until('the answer', () => of().find((m) => m.type === 'reply'));
  return { answer: reply.body.answer, deltas: of().filter((m) => m.type === 'delta'), body: reply.body };
}

async function withWorkers(env, test) {
  const [builder, worker] = await Promise.all([house.worker(), house.inference({
    OPENAI_BASE_URL: model.url, DEFAULT_MODEL: 'test/model', ...env })]);
  model.requests.length = 0;
  try {
    await test(worker);
  } finally {
    await Promise.all([worker.stop(), builder.stop()]);
  }
}

const sent = () => model.requests.map((r) => JSON.stringify(r.body)).join('\n');

describe('an answer with PII_PROTECTION=all', () => {
  for (const [stream, mode] of [[false, 'normal'], [true, 'normal'], [true, 'split']]) {
    it(`${stream ? 'streamed' : 'in one piece'}: ${mode}`, () =>
      withWorkers({ PII_PROTECTION: 'all' }, async (worker) => {
        const question = `${SECRET} [model:${mode}]`;
        const { answer, deltas, body } = await ask(question, { stream });
        assert.equal(answer.content, answerTo(question));
        let text = '';
        for (const { headers, body: { text: piece } } of deltas) {
          assert.equal(headers['x-offset'], Buffer.byteLength(text));
          text += piece;
        }
        assert.equal(text, stream ? answer.content : '');
        assert.deepEqual(Object.keys(body).sort(), ['answer', 'turn', 'user_message']);
        const [{ body: asked }] = model.requests;
        assert.equal(asked.messages.at(-1).content, `${HIDDEN} [model:${mode}]`);
        assert.match(asked.messages[0].content, /"full_name":"\[NAME_1\]"/);
        assert.match(asked.messages[0].content, /square brackets/);
        assert.equal(asked.messages[1].content, 'Before: [PHONE_1]');
        for (const value of PERSONAL) assert.ok(!sent().includes(value), value);
        const metrics = await metricsOf(worker.adminPort);
        assert.equal(valueOf(metrics, 'inference_pii_replaced_total', { kind: 'PHONE' }), 2);
        assert.equal(valueOf(metrics, 'inference_pii_replaced_total', { kind: 'NAME' }), 2);
        for (const value of PERSONAL) assert.ok(!worker.stderr.includes(value), value);
      }));
  }

  it('that ends with the beginning of a placeholder', () =>
    withWorkers({ PII_PROTECTION: 'all' }, async () => {
      const { answer } = await ask('[model:say [EMAI]', { stream: true });
      assert.equal(answer.content, '[EMAI');
    }));
});

describe('by default', () => {
  it('a server on this machine sees the texts as they are', () => withWorkers({}, async () => {
    const { answer } = await ask(SECRET);
    assert.equal(answer.content, answerTo(SECRET));
    assert.equal(model.requests[0].body.messages.at(-1).content, SECRET);
  }));

  it('one at an address that is not known to be private does not', () =>
    withWorkers({ OPENAI_BASE_URL: model.url.replace('127.0.0.1', '127.1') }, async () => {
      const { answer } = await ask(SECRET);
      assert.equal(answer.content, answerTo(SECRET));
      assert.equal(model.requests[0].body.messages.at(-1).content, HIDDEN);
    }));
});

describe('the offline provider', () => {
  it('gets no placeholders', () =>
    withWorkers({ OPENAI_BASE_URL: '', PII_PROTECTION: 'all' }, async () => {
      const { answer } = await ask(SECRET);
      assert.equal(answer.model, 'offline');
      assert.ok(answer.content.includes(SECRET), answer.content);
      assert.equal(model.requests.length, 0);
    }));
});
