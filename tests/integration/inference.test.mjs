// The inference worker alone: prompts by AMQP, answers by a scripted model server.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, afterEach, before, describe, it } from 'node:test';
import { House } from './lib/house.mjs';
import { metricsOf, request } from './lib/http.mjs';
import { valueOf } from './lib/metrics.mjs';
import { MODEL_COST, MODEL_USAGE, answerTo, startModel } from './lib/model.mjs';
import { answersOf, ask as askInference, promptOf, textOf } from './lib/prompts.mjs';
import { until } from './lib/wait.mjs';

const KEY = 'sk-or-v1-integration-secret';
const DLQ = 'inference.dlq';

let house, caller, model;

before(async () => {
  house = await House.open('inference');
  model = await startModel();
  caller = await house.caller();
});
after(async () => {
  await house.close();
  await model.close();
});
afterEach(() => {
  model.mode = 'normal';
  model.requests.length = 0;
});

function start(env) {
  return house.start('chatfleet-inference', env).ready();
}

// With a worker of its own, which ends with the test.
function withWorker(env, test) {
  return async () => {
    const worker = await start(env());
    try {
      await test(worker);
    } finally {
      model.release();
      await worker.stop();
    }
  };
}

const ask = (...args) => askInference(caller, ...args);
const of = (correlationId) => answersOf(caller, correlationId);

// A failure without a turn, which is answered to the caller: the problem.
async function failure(question, options) {
  const { reply, deltas } = await ask(question, { turn: false, ...options });
  assert.equal(reply.type, 'error', JSON.stringify(reply.body));
  const dead = await caller.take(DLQ);
  assert.equal(dead.properties.headers['x-error'], reply.body.detail);
  return { ...reply.body, deltas, kind: dead.properties.headers['x-error-kind'],
           attempt: dead.properties.headers['x-attempt'] ?? 1 };
}

describe('OpenRouter', () => {
  let worker;
  before(async () => {
    worker = await start({
      OPENROUTER_API_KEY: KEY, OPENROUTER_BASE_URL: model.url, DEFAULT_MODEL: 'paid/model',
      FALLBACK_MODEL: 'none', BREAKER_OPEN_SECONDS: '0', MODEL_FIRST_TOKEN_TIMEOUT_SECONDS: '2', MODEL_IDLE_TIMEOUT_SECONDS: '2',
      MAX_ANSWER_BYTES: '20000', OPENAI_API_KEY: 'not this one',
    });
  });
  after(() => worker.stop());

  const metric = async (name, labels) => valueOf(await metricsOf(worker.adminPort), name, labels);

  it('is asked as it wants to be', async () => {
    const userId = randomUUID();
    await ask('hello', {}, { headers: { 'x-user-id': userId } });
    const [asked] = model.requests;
    assert.equal(asked.path, '/v1/chat/completions');
    assert.equal(asked.headers.authorization, `Bearer ${KEY}`);
    assert.equal(asked.headers['content-type'], 'application/json');
    assert.equal(asked.headers['http-referer'], 'https://atma.chhrone.web.id');
    assert.equal(asked.headers['x-title'], 'ATMA - AI Talent Mapping');
    assert.match(asked.headers['user-agent'], /^chatfleet\//);
    assert.deepEqual(asked.body, {
      model: 'paid/model', max_tokens: 1000, temperature: 0.7, user: userId,
      messages: [{ role: 'system', content: 'Be kind.' }, { role: 'user', content: 'hello' }],
      usage: { include: true },
    });
  });

  for (const stream of [false, true]) {
    describe(stream ? 'streaming' : 'in one piece', () => {
      it('answers', async () => {
        const { reply, answer, deltas, body } = await ask('how are you?', { stream });
        assert.equal(reply.type, 'reply');
        assert.equal(reply.status, 200);
        assert.deepEqual(Object.keys(reply.body).sort(), ['answer', 'turn', 'user_message']);
        assert.deepEqual(reply.body.turn, body.turn);
        assert.deepEqual(reply.body.user_message, body.user_message);
        const { processing_time_ms, estimated_response_time, generation_id, request_id, ...rest } = answer;
        assert.match(request_id, /^[0-9a-f]{8}-[0-9a-f]{4}-7/);
        assert.deepEqual(rest, {
          content: answerTo('how are you?'), model: 'paid/model', provider: 'openrouter',
          finish_reason: 'stop', is_free_model: false, usage: { ...MODEL_USAGE, cost: MODEL_COST },
        });
        assert.match(generation_id, /^gen-/);
        assert.ok(Number.isInteger(processing_time_ms) && processing_time_ms >= 0);
        assert.ok(Number.isInteger(estimated_response_time) && estimated_response_time >= 0);
        assert.equal(model.requests[0].body.stream, stream || undefined);
        if (stream) assert.equal(textOf(deltas), answer.content);
        else assert.deepEqual(deltas, []);
      });

      for (const mode of ['thinks', 'no-done', 'length', 'other', 'slow 50']) {
        it(`takes what is right all the same: ${mode}`, async () => {
          const question = `[model:${mode}]`;
          const { answer, deltas } = await ask(question, { stream });
          assert.equal(answer.content, answerTo(question));
          assert.equal(answer.finish_reason, mode === 'length' ? 'length' : 'stop');
          assert.equal(answer.model, mode === 'other' ? 'some/other' : 'paid/model');
          assert.deepEqual(answer.usage, { ...MODEL_USAGE, cost: MODEL_COST });
          if (stream) assert.equal(textOf(deltas), answer.content);
        });
      }

      it('estimates what is not told', async () => {
        const { answer } = await ask('[model:no-usage]', { stream });
        assert.equal(answer.usage.prompt_tokens, 42);
        assert.ok(answer.usage.completion_tokens > 0);
        assert.equal(answer.usage.total_tokens, 42 + answer.usage.completion_tokens);
        assert.deepEqual([answer.usage.cost, answer.usage.cost_known, answer.usage.tokens_estimated, answer.look_up],
                         [0, false, true, true]);
        const uncounted = await ask('[model:no-usage]', { stream, tokens_estimated: undefined });
        assert.ok(uncounted.answer.usage.prompt_tokens > 0);
      });

      it('hands on no bytes that are no text', async () => {
        assert.equal((await ask('[model:bad-bytes]', { stream })).answer.content, 'a\ufffd\ufffdb');
        const { answer, deltas } = await ask('[model:bad-escapes]', { stream });
        assert.equal(answer.content, 'a\ufffd b\ufffdc');
        if (stream) assert.equal(textOf(deltas), answer.content);
      });

      const cases = [
        ['status 400', 502, /refused the request \(400\): told to say 400/, 'fatal'],
        ['status 401', 502, /does not accept our key \(401\)$/, 'fatal'],
        ['status 402', 502, /no credit \(402\)/, 'fatal'],
        ['status 403', 502, /does not allow the request \(403\)$/, 'fatal'],
        ['status 404', 502, /does not know the model \(404\): told/, 'fatal'],
        ['status 504', 504, /in time \(504\)/, 'fatal'],
        ['redirect', 502, /refused the request \(302\)/, 'fatal'],
        ['filtered', 502, /filter/, 'fatal'],
        ['no-room', 502, /MAX_TOKENS/, 'fatal'],
        ['huge', 502, /longer than 20000 bytes|larger than \d+ bytes/, 'fatal'],
        ['error-200 400', 502, /refused the request \(400\): slow down/, 'fatal'],
      ];
      for (const [mode, status, detail, kind] of cases) {
        it(`fails for good: ${mode}`, async () => {
          const problem = await failure(`[model:${mode}]`, { stream });
          assert.equal(problem.status, status);
          assert.match(problem.detail, detail);
          assert.equal(problem.kind, kind);
          assert.equal(model.requests.length, 1, 'asked once');
        });
      }

      it('never shows the key', async () => {
        for (const mode of ['leak 400', 'leak 401', 'leak 404']) {
          const problem = await failure(`[model:${mode}]`, { stream });
          assert.doesNotMatch(JSON.stringify(problem), /sk-or|secret/);
        }
        assert.doesNotMatch(worker.stderr, /sk-or|integration-secret/);
      });
    });
  }

  describe('streaming', () => {
    for (const mode of ['split', 'crlf', 'cr', 'lines', 'no-finish', 'no-end', 'no-done-no-end',
                        'drop-late', 'plain', 'paced 1']) {
      it(`is read however it comes: ${mode}`, async () => {
        const question = `[model:${mode}]`;
        const { answer, deltas } = await ask(question, { stream: true });
        assert.equal(answer.content, answerTo(question));
        assert.equal(answer.finish_reason, 'stop');
        assert.equal(textOf(deltas), answer.content);
        if (!['no-done-no-end', 'drop-late'].includes(mode)) assert.equal(answer.usage.cost, MODEL_COST);
      });
    }

    it('puts pieces together that come fast, and tells slow ones as they come', async () => {
      const fast = await ask('[model:paced 2] a b c d e f g h i j k l m n o p q r s t', { stream: true });
      assert.ok(fast.deltas.length < 20, `${fast.deltas.length} deltas for more than 20 pieces`);
      const slow = await ask('[model:paced 120] x', { stream: true });
      assert.ok(slow.deltas.length > 5, `${slow.deltas.length} deltas of a slow answer`);
    });

    it('to nobody is not streamed', async () => {
      await caller.send('inference.generate', promptOf('nobody', { stream: true }), { replyTo: null });
      await until('it was asked', () => model.requests.length === 1);
      assert.equal(model.requests[0].body.stream, undefined);
    });

    it('tells which epoch it is of', async () => {
      const { deltas } = await ask('again', { stream: true }, { headers: { 'x-epoch': 3 } });
      assert.equal(textOf(deltas, 3), answerTo('again'));
    });

    it('that breaks after the first words is not begun again', async () => {
      for (const [mode, status, detail] of [
        ['drop', 502, /connection was lost/], ['truncate', 502, /broke off/],
        ['error-later', 502, /it broke/], ['stall', 504, /fell silent for 2 s/],
      ]) {
        model.requests.length = 0;
        const problem = await failure(`[model:${mode}]`, { stream: true });
        assert.equal(problem.status, status, mode);
        assert.match(problem.detail, detail);
        assert.equal(problem.kind, 'fatal');
        assert.equal(model.requests.length, 1);
        assert.equal(textOf(problem.deltas), 'Some words');
      }
    });

    for (const mode of ['mute', 'silent']) {
      it(`that never begins is given up, whatever comments come: ${mode}`, async () => {
        const problem = await failure(`[model:${mode}]`, { stream: true });
        assert.equal(problem.status, 504);
        assert.match(problem.detail, /no word within 2 s/);
        assert.equal(problem.kind, 'fatal');
        await until('the model was hung up on', () => model.requests[0].closed);
      });
    }

    it('of one endless line is given up', async () => {
      const problem = await failure('[model:huge-line]', { stream: true });
      assert.equal(problem.status, 502);
      assert.match(problem.detail, /longer than allowed/);
      await until('the model was hung up on', () => model.requests[0].closed);
    });
  });

  describe('what may pass', () => {
    const retried = async (mode, { stream, outcome }) => {
      const before_ = await metric('openrouter_requests_total', { status: outcome });
      const body = promptOf(`[model:${mode}]`, { stream });
      await caller.send('inference.generate', body, { messageId: randomUUID() });
      const held = await caller.take('inference.retry.1s');
      assert.equal(held.properties.headers['x-error-kind'], 'retry');
      assert.equal(held.properties.headers['x-attempt'], 2);
      assert.equal(held.properties.headers['x-epoch'], 2);
      assert.equal(await metric('openrouter_requests_total', { status: outcome }), before_ + 1);
      return held.properties.headers['x-error'];
    };
    const cases = [
      ['status 429 7', '429', /no more requests for now \(429\): told/],
      ['status 500', '500', /failed \(500\): told/],
      ['status 503', '503', /overloaded \(503\)/],
      ['html', '502', /failed \(502\)$/],
      ['error-200', '429', /slow down/],
      ['error-in-choice', '502', /the upstream broke/],
      ['choice-error', '502', /failed \(502\)/],
      ['empty', 'empty', /empty answer/],
      ['empty-choices', 'empty', /empty answer|no choices/],
      ['bad-json', 'unreadable', /no JSON/],
      ['drop-first', 'unreachable', /connection was lost/],
    ];
    for (const [mode, outcome, error] of cases) {
      it(`is tried again: ${mode}`, async () => {
        assert.match(await retried(mode, { stream: false, outcome }), error);
        assert.match(await retried(mode, { stream: true, outcome }), error);
      });
    }
    for (const [mode, outcome, error] of [
      ['error-first', '503', /overloaded \(503\): no room/],
      ['truncate-first', 'truncated', /broke off/],
    ]) {
      it(`is tried again: ${mode}`, async () => {
        assert.match(await retried(mode, { stream: true, outcome }), error);
      });
    }

    it('has passed at the second attempt, whose epoch is the next', async () => {
      const { answer, deltas } = await ask('[model:flaky 1]', { stream: true });
      assert.equal(answer.content, answerTo('[model:flaky 1]'));
      assert.equal(textOf(deltas, 2), answer.content);
    });

    it('is told when it did not pass', async () => {
      const problem = await failure('[model:flaky 99]');
      assert.equal(problem.status, 503);
      assert.match(problem.detail, /overloaded \(503\): not yet/);
      assert.equal(problem.attempt, 3);
    });
  });

  it('gathers deltas for a queue whose name asks for it, and sends what ends an answer behind them', async () => {
    const channel = await caller.connection.createChannel();
    const { queue } = await channel.assertQueue(`chat.reply.many.${randomUUID()}`, { exclusive: true });
    const came = [];
    await channel.consume(queue, (message) => came.push(message), { noAck: true });
    const questions = Array.from({ length: 40 }, (_, i) => `[model:paced 40] ${i} of many words that come one by one`);
    model.mode = 'normal';
    const ids = await Promise.all(questions.map((question) =>
      caller.send('inference.generate', promptOf(question, { stream: true }), { replyTo: queue })));
    await until('all are answered', () => came.filter((m) => m.properties.type === 'reply').length === ids.length);
    const texts = new Map(ids.map((id) => [id, '']));
    let deltas = 0;
    for (const { properties, content } of came) {
      if (properties.type === 'reply') { // behind its deltas
        assert.equal(texts.get(properties.correlationId), JSON.parse(content).answer.content);
        continue;
      }
      assert.deepEqual([properties.type, properties.deliveryMode], ['notices', 1]);
      const lines = content.toString().split('\n');
      assert.equal(lines.pop(), '');
      for (let i = 0; i < lines.length; i += 2, deltas++) {
        const [type, id, epoch, offset] = lines[i].split(' ');
        assert.deepEqual([type, epoch], ['delta', '1']);
        assert.equal(Number(offset), Buffer.byteLength(texts.get(id)));
        texts.set(id, texts.get(id) + JSON.parse(lines[i + 1]).text);
      }
    }
    assert.deepEqual([...texts.values()], questions.map(answerTo));
    const messages = came.length - ids.length;
    assert.ok(messages < deltas, `${deltas} deltas in ${messages} messages`);
    await channel.close();
  });

  it('ends the turn when it fails for good', async () => {
    const channel = await caller.connection.createChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    await channel.bindQueue(queue, 'chat.rpc', 'turn.fail');
    const body = promptOf('[model:status 401]');
    await caller.send('inference.generate', body);
    const message = await until('turn.fail', () => channel.get(queue, { noAck: true }));
    const failed = JSON.parse(message.content);
    assert.deepEqual(failed.turn, body.turn);
    assert.deepEqual(failed.user_message, body.user_message);
    assert.equal(failed.problem.status, 502);
    assert.equal(failed.problem.turn_id, body.turn.id);
    assert.equal(message.properties.replyTo, caller.replyTo);
    await channel.close();
    await caller.take(DLQ);
  });

  it('hands on to the next step', async () => {
    const channel = await caller.connection.createChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    await channel.bindQueue(queue, 'chat.rpc', 'message.commit');
    const body = promptOf('onwards');
    await caller.send('inference.generate', body, { headers: { 'x-slip': 'message.commit' } });
    const message = await until('message.commit', () => channel.get(queue, { noAck: true }));
    const handed = JSON.parse(message.content);
    assert.equal(handed.answer.content, answerTo('onwards'));
    assert.equal(handed.prompt, undefined, 'what no later step needs');
    assert.deepEqual(handed.turn, body.turn);
    await channel.close();
  });

  it('is not asked with a prompt that is none', async () => {
    for (const prompt of [
      {}, { messages: [] }, { messages: 'hello' }, { messages: [1] }, { messages: [{ role: 'user' }] },
      { messages: [{ content: 'x' }] }, { messages: [{ role: 'user', content: 7 }] },
      { messages: [{ role: 'user', content: 'x' }], tokens_estimated: 'many' },
    ]) {
      await caller.send('inference.generate', { prompt }, { replyTo: null });
      assert.equal((await caller.take(DLQ)).properties.headers['x-error-kind'], 'fatal');
    }
    await caller.send('inference.generate', {}, { replyTo: null });
    assert.match((await caller.take(DLQ)).properties.headers['x-error'], /prompt/);
    assert.equal(model.requests.length, 0);
  });

  it('counts requests and tokens', async () => {
    const labels = { model: 'paid/model' };
    const count = () => Promise.all([
      metric('openrouter_requests_total', { ...labels, status: 'success' }),
      metric('token_usage_total', { ...labels, type: 'prompt' }),
      metric('token_usage_total', { ...labels, type: 'completion' }),
    ]);
    const before_ = await count();
    await ask('count me');
    const now = await count();
    assert.deepEqual(now.map((n, i) => n - before_[i]),
                     [1, MODEL_USAGE.prompt_tokens, MODEL_USAGE.completion_tokens]);
  });

  it('shows in the health, and does not make the worker ill', async () => {
    const health = async () => (await request(worker.adminPort, '/health')).json;
    await ask('fine');
    assert.deepEqual((await health()).dependencies.openrouter, {
      status: 'healthy', model: 'paid/model',
      models: [{ model: 'paid/model', status: 'healthy', breaker: 'closed' }],
    });
    await failure('[model:status 400]');
    assert.equal((await health()).dependencies.openrouter.status, 'unhealthy');
    assert.equal((await health()).status, 'healthy');
  });

  it('does not log what was said', () => {
    assert.doesNotMatch(worker.stderr, /how are you|count me/);
  });
});

describe('a free model', () => {
  it('costs nothing', withWorker(() => ({
    OPENROUTER_API_KEY: KEY, OPENROUTER_BASE_URL: `${model.url}/`,
  }), async () => {
    const { answer } = await ask('for free');
    assert.equal(model.requests[0].body.model, 'qwen/qwen3-235b-a22b-07-25:free');
    assert.equal(answer.is_free_model, true);
    assert.deepEqual(answer.usage, { ...MODEL_USAGE, cost: 0 });
  }));
});

describe('an OpenAI-compatible server', () => {
  it('is asked without what only OpenRouter knows', withWorker(() => ({
    OPENAI_BASE_URL: model.url, OPENAI_API_KEY: 'sk-own', DEFAULT_MODEL: 'mine', MAX_TOKENS: '77',
    TEMPERATURE: '1.25',
  }), async () => {
    const whole = await ask('hello');
    const streamed = await ask('hello', { stream: true });
    const [first, second] = model.requests;
    assert.equal(first.headers.authorization, 'Bearer sk-own');
    assert.equal(first.headers['x-title'], undefined);
    assert.equal(first.headers['http-referer'], undefined);
    assert.equal(first.body.usage, undefined);
    assert.equal(first.body.stream_options, undefined);
    assert.equal(first.body.model, 'mine');
    assert.equal(first.body.max_tokens, 77);
    assert.equal(first.body.temperature, 1.25);
    assert.deepEqual(second.body.stream_options, { include_usage: true });
    for (const { answer } of [whole, streamed]) {
      assert.equal(answer.provider, 'openai');
      assert.deepEqual(answer.usage, { ...MODEL_USAGE, cost: 0, cost_known: false });
      assert.equal(answer.look_up, undefined, 'there is nobody to be asked');
    }
  }));

  const prices = { 'mi*': { prompt: 1, completion: 1 }, mine: { prompt: 0.25, completion: 3 }, other: { prompt: 9, completion: 9 } };
  it('costs what the table of prices says', withWorker(() => ({
    OPENAI_BASE_URL: model.url, DEFAULT_MODEL: 'mine', MODEL_PRICES: JSON.stringify(prices),
  }), async () => {
    const cost = (11 * 0.25 + 7 * 3) / 1e6;
    assert.deepEqual((await ask('hello')).answer.usage, { ...MODEL_USAGE, cost });
    assert.deepEqual((await ask('[model:no-usage]')).answer.usage.cost_known, false, 'not by estimated tokens');
  }));

  it('may be one\'s own, which costs then', withWorker(() => ({
    LLAMACPP_BASE_URL: model.url, LLAMACPP_MODEL: 'mine', MODEL_PRICES: JSON.stringify(prices),
  }), async () => {
    const { answer } = await ask('hello');
    assert.deepEqual([answer.provider, answer.is_free_model, answer.usage.cost], ['llamacpp', false, (11 * 0.25 + 7 * 3) / 1e6]);
  }));

  it('with a table of prices that is none does not start', async () => {
    for (const [env, line] of [
      [{ MODEL_PRICES: '{' }, /MODEL_PRICES cannot be read/],
      [{ MODEL_PRICES: '[]' }, /MODEL_PRICES must be a JSON object/],
      [{ MODEL_PRICES: '{"m": {"prompt": 1}}' }, /MODEL_PRICES: the price of m: .*completion/],
      [{ MODEL_PRICES: '{"m": {"prompt": 1, "completion": -1}}' }, /the price of m must be between 0 and 1000000/],
      [{ MODEL_PRICES_FILE: '/nowhere' }, /MODEL_PRICES_FILE: \/nowhere cannot be read/],
    ]) {
      const { code, stderr } = await house.run('chatfleet-inference', [], { OPENAI_BASE_URL: model.url, ...env });
      assert.equal(code, 78, stderr);
      assert.match(stderr, line);
    }
  });

  it('needs no key', withWorker(() => ({
    OPENAI_BASE_URL: model.url, OPENAI_MODEL: 'llama',
  }), async () => {
    await ask('hello');
    assert.equal(model.requests[0].headers.authorization, undefined);
    assert.equal(model.requests[0].body.model, 'llama');
  }));

  it('that is not there is tried again, and is well when it comes', async () => {
    const server = await startModel();
    await server.close();
    await withWorker(() => ({ OPENAI_BASE_URL: server.url }), async () => {
      await caller.send('inference.generate', promptOf('away'), { replyTo: null });
      const held = await caller.take('inference.retry.1s');
      assert.match(held.properties.headers['x-error'], /connection is refused/);
      await server.listen(server.port);
      assert.equal((await ask('there')).answer.content, answerTo('there'));
    })();
    await server.close();
  });
});

describe('an answer that takes too long', () => {
  it('is given up, whether it is streamed or not', withWorker(() => ({
    OPENAI_BASE_URL: model.url, MODEL_TIMEOUT_SECONDS: '2',
  }), async () => {
    for (const [mode, stream] of [['mute', false], ['mute', true], ['paced 900', true]]) {
      const problem = await failure(`[model:${mode}] and on and on and on`, { stream });
      assert.equal(problem.status, 504);
      assert.match(problem.detail, /no complete answer within 2000 ms/);
      assert.equal(problem.kind, 'fatal');
    }
  }));
});

describe('the answers under way', () => {
  it('are hundreds, over connections that are used again', withWorker(() => ({
    OPENAI_BASE_URL: model.url,
  }), async (worker) => {
    const metric = async (name) => valueOf(await metricsOf(worker.adminPort), name);
    model.mode = 'held';
    const asked = Array.from({ length: 200 }, (_, i) => ask(`crowd ${i}`, { stream: i % 2 === 0 }));
    await until('all are under way', () => model.held === 200);
    assert.equal(await metric('inference_generations_in_flight'), 200);
    model.release();
    const answers = await Promise.all(asked);
    answers.forEach(({ answer }, i) => assert.equal(answer.content, answerTo(`crowd ${i}`)));
    assert.equal(await metric('inference_generations_in_flight'), 0);
    const sockets = new Set(model.requests.map((r) => r.socket));
    model.requests.length = 0;
    model.mode = 'normal';
    await Promise.all(Array.from({ length: 50 }, (_, i) => ask(`again ${i}`, { stream: true })));
    for (const { socket } of model.requests) assert.ok(sockets.has(socket), 'a new connection');
  }));

  it('are limited, and the others wait', withWorker(() => ({
    OPENAI_BASE_URL: model.url, INFERENCE_CONCURRENCY: '3',
  }), async (worker) => {
    model.mode = 'held';
    const asked = Array.from({ length: 10 }, (_, i) => ask(`one of few ${i}`));
    const metric = async (name) => valueOf(await metricsOf(worker.adminPort), name);
    await until('three are under way', () => model.held === 3);
    await until('seven wait', async () => await metric('inference_generations_waiting') === 7);
    assert.equal(await metric('inference_generations_in_flight'), 3);
    for (let done = 0; done < 10; done += 3) {
      await until('the next are under way', () => model.held === Math.min(3, 10 - done));
      model.release();
    }
    for (const { reply } of await Promise.all(asked)) assert.equal(reply.status, 200);
  }));

  it('are finished before the worker ends', withWorker(() => ({
    OPENAI_BASE_URL: model.url,
  }), async (worker) => {
    model.mode = 'held';
    const asked = ask('just in time', { stream: true });
    await until('it is under way', () => model.held === 1);
    worker.signal('SIGTERM');
    await worker.event('draining');
    model.release();
    assert.equal((await asked).answer.content, answerTo('just in time'));
  }));

  it('go back to the queue if they last too long, and are begun again', async () => {
    const env = { OPENAI_BASE_URL: model.url, DRAIN_TIMEOUT_SECONDS: '1' };
    const question = '[model:paced 400] slow words';
    const correlationId = randomUUID();
    let asked;
    await withWorker(() => env, async () => {
      asked = ask(question, { stream: true }, { correlationId });
      await until('the first words were told', () => of(correlationId).length > 0);
    })();
    await withWorker(() => env, async () => {
      const { answer, deltas } = await asked;
      assert.equal(answer.content, answerTo(question));
      const [first, later] = [1, 2].map((n) => deltas.filter((d) => d.headers['x-epoch'] === n));
      assert.ok(first.length > 0 && later.length > 0, `${first.length} and ${later.length} deltas`);
      assert.ok(answer.content.startsWith(textOf(first, 1)));
      assert.equal(textOf(later, 2), answer.content);
    })();
  });
});

describe('the offline provider', () => {
  let worker;
  before(async () => {
    worker = await start({});
  });
  after(() => worker.stop());

  const history = [
    { role: 'system', content: 'Be kind.' }, { role: 'user', content: 'first' },
    { role: 'assistant', content: 'second' },
  ];

  it('answers from the prompt, and says what it is', async () => {
    const { answer } = await ask('', {
      messages: [...history, { role: 'user', content: 'What is the plan?' }],
      context_type: 'career_guidance', history_dropped: 4,
    });
    const { processing_time_ms, estimated_response_time, request_id, ...rest } = answer;
    assert.equal(typeof request_id, 'string');
    assert.equal(typeof processing_time_ms, 'number');
    assert.equal(typeof estimated_response_time, 'number');
    assert.deepEqual(rest, {
      content: 'This is the built-in offline provider: no model is configured, so this answer is ' +
        'made from the prompt itself. You wrote: "What is the plan?". The context is ' +
        'career_guidance. Earlier messages that I saw: 2. That did not fit: 4.',
      model: 'offline', provider: 'offline', finish_reason: 'stop', is_free_model: true,
      usage: { prompt_tokens: 42, completion_tokens: rest.usage.completion_tokens,
               total_tokens: 42 + rest.usage.completion_tokens, cost: 0, tokens_estimated: true },
    });
    assert.ok(rest.usage.completion_tokens > 20);
    assert.equal(model.requests.length, 0);
  });

  it('answers in Indonesian', async () => {
    const { answer } = await ask('Apa yang bisa saya lakukan untuk karir saya?');
    assert.match(answer.content, /^Ini penyedia luring bawaan: .*Anda menulis: "Apa yang bisa saya/);
    assert.match(answer.content, /Konteks percakapan: general\. Pesan sebelumnya yang saya lihat: 0\.$/);
  });

  it('streams, and says the same', async () => {
    const whole = await ask('Same, 你好 🚀?');
    const streamed = await ask('Same, 你好 🚀?', { stream: true });
    assert.ok(streamed.deltas.length > 2);
    assert.equal(textOf(streamed.deltas), streamed.answer.content);
    assert.equal(streamed.answer.content, whole.answer.content);
  });

  it('quotes questions of all kinds', async () => {
    for (const [content, said] of [
      ['x'.repeat(4000), `"${'x'.repeat(240)}…"`], ['🚀'.repeat(1000), `"${'🚀'.repeat(60)}…"`],
      ['你'.repeat(4000), `"${'你'.repeat(80)}…"`], ['one\ntwo', '"one…"'],
      ['100% %s %n', '"100% %s %n"'],
      [[{ type: 'image_url', image_url: { url: 'http://x' } }, { type: 'text', text: 'a picture' }], '"a picture"'],
    ]) {
      const { answer } = await ask('', { messages: [{ role: 'user', content }], stream: true });
      assert.ok(answer.content.includes(said), answer.content);
    }
    const { answer } = await ask('', { messages: [{ role: 'user', content: '' }] });
    assert.doesNotMatch(answer.content, /You wrote/);
  });

  it('is told of in the log', () => {
    assert.equal(worker.events('no model configured').length, 1);
  });
});

describe('a configuration that cannot work', () => {
  for (const [env, says] of [
    [{ OPENAI_BASE_URL: 'ftp://x/v1' }, /OPENAI_BASE_URL must be an address/],
    [{ OPENROUTER_API_KEY: 'two words' }, /OPENROUTER_API_KEY has a character/],
    [{ OPENROUTER_API_KEY: 'x', OPENROUTER_BASE_URL: 'openrouter.ai' }, /OPENROUTER_BASE_URL must/],
    [{ OPENAI_API_KEY: 'x', MODEL_CA_FILE: '/does/not/exist' }, /\/does\/not\/exist cannot be read/],
    [{ TEMPERATURE: 'hot' }, /TEMPERATURE=hot: a number from 0 to 2/],
  ]) {
    it(`stops the start: ${Object.keys(env).join(', ')}`, async () => {
      const { code, stderr } = await house.run('chatfleet-inference', [], env);
      assert.equal(code, 78, stderr);
      assert.match(stderr, says);
      assert.doesNotMatch(stderr, /two words/);
    });
  }
});
