// Which model is asked: the chain of fallbacks, local ones first, and the circuit breaker of each.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, afterEach, before, describe, it } from 'node:test';
import { House } from './lib/house.mjs';
import { metricsOf, request } from './lib/http.mjs';
import { valueOf } from './lib/metrics.mjs';
import { answerTo, startModel } from './lib/model.mjs';
import { ask, promptOf, textOf } from './lib/prompts.mjs';
import { until } from './lib/wait.mjs';

const [DEFAULT, FREE, PAID] = ['first/model', 'second/model:free', 'third/model'];

let house, caller, model;

before(async () => {
  house = await House.open('models');
  model = await startModel();
  caller = await house.caller();
});
after(async () => {
  await house.close();
  await model.close();
});
afterEach(() => {
  model.modes = {};
  model.requests.length = 0;
});

const chain = (env) => ({
  OPENROUTER_API_KEY: 'any', OPENROUTER_BASE_URL: model.url, DEFAULT_MODEL: DEFAULT, FALLBACK_MODEL: FREE,
  EMERGENCY_FALLBACK_MODEL: PAID, BREAKER_OPEN_SECONDS: '0', FREE_MODEL_RATE_LIMIT_PER_MINUTE: '0', MODEL_FIRST_TOKEN_TIMEOUT_SECONDS: '3', ...env,
});
const start = (env) => house.start('chatfleet-inference', chain(env)).ready();
const asked = () => model.requests.map(({ body }) => body.model);

// With a worker of its own, which ends with the test.
const withWorker = (env, test) => async () => {
  const worker = await start(typeof env === 'function' ? env() : env);
  try {
    await test(worker);
  } finally {
    await worker.stop();
  }
};

// A failure for good, which is answered; its dead letter is taken away.
async function failure(question, options) {
  const { reply } = await ask(caller, question, { turn: false, ...options });
  assert.equal(reply.type, 'error', JSON.stringify(reply.body));
  await caller.take('inference.dlq');
  return reply.body;
}

// One that may pass: what is held for the next attempt.
async function retry(question, options) {
  await caller.send('inference.generate', promptOf(question, options));
  return (await caller.take('inference.retry.1s')).properties.headers['x-error'];
}

describe('the next model', () => {
  let worker;
  before(async () => {
    worker = await start({ USE_FREE_MODELS_ONLY: 'false' });
  });
  after(() => worker.stop());

  const FAULTS = ['status 400', 'status 402', 'status 403', 'status 404', 'status 408', 'status 413', 'status 429 7', 'status 500',
                  'status 502', 'status 503', 'status 529', 'redirect', 'html', 'error-200', 'choice-error',
                  'error-in-choice', 'empty', 'empty-choices', 'bad-json', 'drop-first'];
  for (const stream of [false, true]) {
    for (const mode of [...FAULTS, ...(stream ? ['error-first', 'truncate-first', 'mute'] : [])]) {
      it(`answers when the first does not${stream ? ', streamed' : ''}: ${mode}`, async () => {
        model.modes = { [DEFAULT]: mode };
        const { answer, deltas } = await ask(caller, 'who is there?', { stream });
        assert.equal(answer.content, answerTo('who is there?'));
        assert.equal(answer.model, FREE);
        assert.equal(answer.is_free_model, true);
        assert.equal(answer.usage.cost, 0);
        if (stream) assert.equal(textOf(deltas), answer.content);
        // libcurl itself asks anew where a connection that it had kept is closed at once.
        const all = mode === 'drop-first' ? [...new Set(asked())] : asked();
        assert.deepEqual(all, [DEFAULT, FREE]);
      });
    }
  }

  it('and the one behind it, which costs', async () => {
    model.modes = { [DEFAULT]: 'status 500', [FREE]: 'status 429' };
    const { answer } = await ask(caller, 'anybody?');
    assert.deepEqual([answer.model, answer.is_free_model], [PAID, false]);
    assert.ok(answer.usage.cost > 0);
    assert.deepEqual(asked(), [DEFAULT, FREE, PAID]);
  });

  it('is not asked once something was told', async () => {
    for (const mode of ['drop', 'truncate', 'error-later']) {
      model.requests.length = 0;
      model.modes = { [DEFAULT]: mode };
      const problem = await failure('and then?', { stream: true });
      assert.equal(problem.status, 502);
      assert.deepEqual(asked(), [DEFAULT], mode);
    }
  });

  it('is not asked of a provider that does not know us', async () => {
    model.modes = { [DEFAULT]: 'status 401' };
    assert.match((await failure('who am I?')).detail, /does not accept our key/);
    assert.deepEqual(asked(), [DEFAULT]);
  });

  it('is not asked when the caller waits no more', async () => {
    model.modes = { [DEFAULT]: 'mute' };
    await caller.send('inference.generate', promptOf('quick!', { stream: true }),
                      { headers: { 'x-deadline': Date.now() + 500 } });
    await caller.take('inference.dlq');
    assert.deepEqual(asked(), [DEFAULT]);
  });

  it('is asked, too, if the first said nothing but white space', async () => {
    model.modes = { [DEFAULT]: 'blank' };
    const { answer, deltas } = await ask(caller, 'well?', { stream: true });
    assert.equal(answer.model, FREE);
    assert.equal(textOf(deltas), answer.content);
  });

  it('fails in the end: later again, if one of them may answer then', async () => {
    model.modes = { [DEFAULT]: 'status 503', [FREE]: 'status 404', [PAID]: 'status 404' };
    assert.match(await retry('nobody?'), /does not know the model/);
    model.modes = { [DEFAULT]: 'status 404', [FREE]: 'status 404', [PAID]: 'status 402' };
    assert.match((await failure('really nobody?')).detail, /no credit/);
  });

  it('is told of in the log, without what was said', async () => {
    model.modes = { [DEFAULT]: 'status 500' };
    const correlationId = randomUUID();
    await ask(caller, 'between us', {}, { correlationId });
    const line = await worker.event('next model asked', (l) => l.correlation_id === correlationId);
    assert.deepEqual([line.failed, line.model, line.provider], [DEFAULT, FREE, 'openrouter']);
    assert.doesNotMatch(worker.stderr, /between us/);
    const of = (labels) => metricsOf(worker.adminPort).then((text) => valueOf(text, 'openrouter_requests_total', labels));
    assert.ok(await of({ model: DEFAULT, status: '500' }) > 0);
    assert.ok(await of({ model: FREE, status: 'success' }) > 0);
  });
});

describe('models that cost', () => {
  it('are no fallback unless it is allowed', withWorker({}, async () => {
    model.modes = { [DEFAULT]: 'status 404', [FREE]: 'status 404' };
    await failure('for nothing?');
    assert.deepEqual(asked(), [DEFAULT, FREE]);
  }));

  it('are not asked twice where they are named twice', withWorker({ FALLBACK_MODEL: DEFAULT }, async () => {
    model.modes = { [DEFAULT]: 'status 404' };
    await failure('you again?');
    assert.deepEqual(asked(), [DEFAULT]);
  }));
});

describe('a local model', () => {
  let local;
  before(async () => {
    local = await startModel();
  });
  after(() => local.close());
  const settings = () => ({ LLAMACPP_BASE_URL: local.url, LLAMACPP_MODEL: 'own' });

  it('is asked first, and costs nothing', withWorker(settings, async () => {
    const { answer } = await ask(caller, 'at home?');
    assert.deepEqual([answer.provider, answer.model, answer.is_free_model, answer.usage.cost],
                     ['llamacpp', 'own', true, 0]);
    assert.equal(local.requests.at(-1).headers.authorization, undefined);
    assert.deepEqual(asked(), []);
  }));

  it('is followed by another, which is logged', withWorker(settings, async (worker) => {
    local.modes = { own: 'status 503' }; // as it says while it loads
    const { answer } = await ask(caller, 'still asleep?', { stream: true });
    assert.deepEqual([answer.provider, answer.model], ['openrouter', DEFAULT]);
    assert.equal((await worker.event('next model asked')).provider, 'openrouter');
    local.modes = {};
    assert.equal((await ask(caller, 'awake?')).answer.provider, 'llamacpp');
  }));

  it('may be the only one', withWorker(() => ({ ...settings(), OPENROUTER_API_KEY: '' }), async () => {
    assert.equal((await ask(caller, 'alone?')).answer.provider, 'llamacpp');
  }));
});

describe('a model that keeps failing', () => {
  const settings = { BREAKER_OPEN_SECONDS: '1', BREAKER_OPEN_MAX_SECONDS: '1', BREAKER_LEAST_REQUESTS: '3' };
  const breakerOf = async (worker, name) => {
    const { json } = await request(worker.adminPort, '/health');
    return json.dependencies.openrouter.models.find((m) => m.model === name).breaker;
  };

  it('is left alone for a while, and then tried by one request', withWorker(settings, async (worker) => {
    const state = async () => valueOf(await metricsOf(worker.adminPort), 'model_breaker_state', { provider: 'openrouter', model: DEFAULT });
    model.modes = { [DEFAULT]: 'status 500' };
    assert.deepEqual([await state(), await breakerOf(worker, DEFAULT)], [0, 'closed']);
    for (let i = 0; i < 3; i++) await ask(caller, `failure ${i}`);
    assert.deepEqual([await state(), await breakerOf(worker, DEFAULT)], [2, 'open']);
    const line = await worker.event('model left alone');
    assert.equal(line.model, DEFAULT);
    const before_ = asked().filter((name) => name === DEFAULT).length;
    assert.equal(before_, 3);
    model.modes = {};
    await until('it is asked again', async () => (await ask(caller, 'better?')).answer.model === DEFAULT);
    assert.equal(await breakerOf(worker, DEFAULT), 'closed');
    assert.equal(asked().filter((name) => name === DEFAULT).length, 4, 'not before its time');
  }));

  it('is left alone for as long as its server asks', withWorker(
    { ...settings, BREAKER_OPEN_MAX_SECONDS: '600' }, async (worker) => {
      model.modes = { [DEFAULT]: 'status 429 300' };
      await ask(caller, 'too much?');
      assert.equal(await breakerOf(worker, DEFAULT), 'open');
      assert.equal((await worker.event('model left alone')).ms, 300000);
      await ask(caller, 'and now?');
      assert.deepEqual(asked(), [DEFAULT, FREE, FREE]);
    }));

  it('and is the only one: its prompts wait for the trial', withWorker(
    { ...settings, FALLBACK_MODEL: 'none' }, async (worker) => {
      model.modes = { [DEFAULT]: 'status 429 1' };
      await caller.send('inference.generate', promptOf('too much?'), { replyTo: null });
      await until('it is left alone', async () => await breakerOf(worker, DEFAULT) === 'open');
      model.modes = {};
      const answers = await Promise.all(Array.from({ length: 5 }, (_, i) => ask(caller, `waiting ${i}`)));
      for (const { answer } of answers) assert.equal(answer.model, DEFAULT);
      assert.equal(await breakerOf(worker, DEFAULT), 'closed');
      await until('the first one is answered, too', () => model.requests.some((r) => r.question === 'too much?' &&
        r !== model.requests[0]));
    }));

  it('and all others, too: the next attempt is later, and nobody is asked', withWorker(
    { ...settings, FALLBACK_MODEL: 'none', BREAKER_OPEN_MAX_SECONDS: '600' }, async () => {
      model.modes = { [DEFAULT]: 'status 503 300' };
      assert.match(await retry('hello?'), /overloaded/);
      assert.match(await retry('hello again?'), /no model takes requests for now/);
      assert.deepEqual(asked(), [DEFAULT]);
    }));

  it('by its own limits is not', withWorker(settings, async (worker) => {
    model.modes = { [DEFAULT]: 'status 404' };
    for (let i = 0; i < 6; i++) await ask(caller, `gone ${i}`);
    assert.equal(await breakerOf(worker, DEFAULT), 'closed');
    assert.equal(asked().filter((name) => name === DEFAULT).length, 6);
  }));
});

describe('free models', () => {
  const settings = {
    DEFAULT_MODEL: FREE, FALLBACK_MODEL: PAID, USE_FREE_MODELS_ONLY: 'false', FREE_MODEL_RATE_LIMIT_PER_MINUTE: '3',
    FREE_MODEL_WAIT_MS: '0',
  };
  const countOf = (name) => asked().filter((m) => m === name).length;

  it('are asked as often as the account may', withWorker(settings, async () => {
    const answers = [];
    for (let i = 0; i < 5; i++) answers.push((await ask(caller, `free ${i}`)).answer.model);
    assert.deepEqual(answers, [FREE, FREE, FREE, PAID, PAID]);
    assert.equal(countOf(FREE), 3);
  }));

  const shared = { ...settings, FREE_MODEL_RATE_LIMIT_PER_MINUTE: '4' };
  it('share that among all workers', withWorker(shared, (first) => withWorker(shared, async (second) => {
    for (const worker of [first, second]) {
      await until('each knows of the other', async () =>
        valueOf(await metricsOf(worker.adminPort), 'worker_processes', {}) === 2);
    }
    await Promise.all(Array.from({ length: 20 }, (_, i) => ask(caller, `both ${i}`)));
    assert.ok(countOf(FREE) >= 2 && countOf(FREE) <= 4, `${countOf(FREE)} of the account's four`);
  })()));

  it('are waited for a little, and then asked', withWorker(
    { ...settings, FREE_MODEL_RATE_LIMIT_PER_MINUTE: '0', FREE_MODEL_WAIT_MS: '60000' }, async () => {
      model.modes = { [FREE]: 'no-quota 2' };
      assert.equal((await ask(caller, 'used up?')).answer.model, PAID);
      model.modes = {};
      assert.equal((await ask(caller, 'and now?')).answer.model, FREE);
      assert.deepEqual(asked(), [FREE, PAID, FREE]);
    }));

  it('are not waited for beyond a drain', withWorker({
    ...settings, FREE_MODEL_RATE_LIMIT_PER_MINUTE: '1', FREE_MODEL_WAIT_MS: '65000', DRAIN_TIMEOUT_SECONDS: '1',
  }, async (worker) => {
    await ask(caller, 'first');
    await caller.send('inference.generate', promptOf('later'), { replyTo: null });
    await until('it waits', async () =>
      valueOf(await metricsOf(worker.adminPort), 'inference_generations_in_flight', {}) === 1);
    assert.deepEqual(asked(), [FREE]);
    await worker.stop(); // which hands it back
    await caller.channel.purgeQueue('inference');
  }));

  it('are left alone when the provider says that the account has no more', withWorker(
    { ...settings, FREE_MODEL_RATE_LIMIT_PER_MINUTE: '0', FALLBACK_MODEL: 'another:free', EMERGENCY_FALLBACK_MODEL: PAID },
    async () => {
      model.modes = { [FREE]: 'no-quota 600' };
      for (let i = 0; i < 2; i++) assert.equal((await ask(caller, `none left ${i}`)).answer.model, PAID);
      assert.deepEqual(asked(), [FREE, PAID, PAID]);
    }));

  it('that all have no room are asked later', withWorker(
    { ...settings, FALLBACK_MODEL: 'none', EMERGENCY_FALLBACK_MODEL: 'none' }, async () => {
      for (let i = 0; i < 3; i++) await ask(caller, `the only one ${i}`);
      assert.match(await retry('one too many'), /no model takes requests for now/);
      assert.equal(model.requests.length, 3);
    }));
});
