// The quota of free models, shared by all inference workers through Redis, which may go and come back.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, afterEach, before, describe, it } from 'node:test';
import { House } from './lib/house.mjs';
import { metricsOf, request } from './lib/http.mjs';
import { valueOf } from './lib/metrics.mjs';
import { startModel } from './lib/model.mjs';
import { ask, promptOf } from './lib/prompts.mjs';
import { Redis } from './lib/redis.mjs';
import { uuid5 } from './lib/uuid.mjs';
import { until } from './lib/wait.mjs';

const NO_NAMESPACE = '00000000-0000-0000-0000-000000000000';
const [FREE, PAID] = ['some/model:free', 'paid/model'];

let house, caller, model;

before(async () => {
  house = await House.open('quota');
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

const countOf = (name) => model.requests.filter(({ body }) => body.model === name).length;
const metric = async (worker, name, labels = {}) => valueOf(await metricsOf(worker.adminPort), name, labels);

// So many workers with an account of their own, {workers, key}, for one test. A Redis that is slow because the
// machine is has a second to answer.
const withWorkers = (count, redis, env, test) => async () => {
  const settings = {
    OPENROUTER_API_KEY: `key-${randomUUID()}`, OPENROUTER_BASE_URL: model.url, REDIS_URL: redis().url,
    REDIS_TIMEOUT_MS: '1000', REDIS_RECONNECT_MAX_MS: '200', DEFAULT_MODEL: FREE, FALLBACK_MODEL: PAID,
    EMERGENCY_FALLBACK_MODEL: 'none', USE_FREE_MODELS_ONLY: 'false', BREAKER_OPEN_SECONDS: '0', FREE_MODEL_WAIT_MS: '0', ...env,
  };
  const account = `${settings.OPENROUTER_BASE_URL}\n${settings.OPENROUTER_API_KEY}`;
  const workers = await Promise.all(Array.from({ length: count }, () => house.inference(settings)));
  try {
    await test(workers, `chatfleet:free:{${uuid5(NO_NAMESPACE, account)}}:`);
  } finally {
    await Promise.all(workers.map((worker) => worker.stop()));
  }
};

const allShared = (workers, shared = 1) => until(`shared is ${shared}`, async () => {
  const all = await Promise.all(workers.map((worker) => metric(worker, 'free_quota_shared')));
  return all.every((value) => value === shared);
});
const allKnow = (workers, processes = workers.length) => until('each knows of the others', async () => {
  const all = await Promise.all(workers.map((worker) => metric(worker, 'worker_processes')));
  return all.every((value) => value === processes);
});
const allHeard = (workers, used) => until(`all heard of ${used}`, async () => {
  const all = await Promise.all(workers.map((worker) => metric(worker, 'free_quota_used', { window: 'minute' })));
  return all.every((value) => value === used);
});
const askMany = (count, what) => Promise.all(Array.from({ length: count }, (_, i) => ask(caller, `${what} ${i}`)));

describe('with Redis', () => {
  let redis;
  before(async () => {
    redis = await (await Redis.open()).start();
  });
  after(() => redis.close());
  const it_ = (name, count, env, test) => it(name, withWorkers(count, () => redis, env, test));

  it_('all workers together ask as often as the account may, and no less', 3,
      { FREE_MODEL_RATE_LIMIT_PER_MINUTE: '5' }, async (workers) => {
        await allShared(workers);
        await askMany(30, 'together');
        assert.equal(countOf(FREE), 5); // three parts of five would be three
        assert.equal(countOf(PAID), 25);
        await allHeard(workers, 5);
      });

  it_('so they do in a day', 2, { FREE_MODEL_RATE_LIMIT_PER_MINUTE: '0', FREE_MODEL_RATE_LIMIT_PER_DAY: '3' },
      async (workers, key) => {
        await allShared(workers);
        await askMany(10, 'today');
        assert.equal(countOf(FREE), 3);
        assert.equal(await redis.cli('ZCARD', `${key}day`), '3');
        assert.equal(await redis.cli('EXISTS', `${key}minute`), '0');
      });

  it_('who waits has a place, and who comes later is not before him', 1,
      { FREE_MODEL_RATE_LIMIT_PER_MINUTE: '1', FREE_MODEL_WAIT_MS: '30000' }, async ([worker], key) => {
        await allShared([worker]);
        const [seconds, micro] = (await redis.cli('TIME')).split('\n').map(Number);
        await redis.cli('ZADD', `${key}minute`, Math.floor(seconds * 1000 + micro / 1000) - 58000, 'before');
        const began = Date.now(), first = ask(caller, 'the first');
        await until('it has its place', async () => await redis.cli('ZCARD', `${key}minute`) === '2');
        assert.equal((await ask(caller, 'the second')).answer.model, PAID);
        assert.equal((await first).answer.model, FREE);
        assert.ok(Date.now() - began >= 1500, 'not before its time');
      });

  it_('who can only wait has a place for longer', 1,
      { FREE_MODEL_RATE_LIMIT_PER_MINUTE: '1', FALLBACK_MODEL: 'none' }, async ([worker], key) => {
        await allShared([worker]);
        const [seconds, micro] = (await redis.cli('TIME')).split('\n').map(Number);
        await redis.cli('ZADD', `${key}minute`, Math.floor(seconds * 1000 + micro / 1000) - 58000, 'before');
        const first = ask(caller, 'the first');
        await until('it has its place', async () => await redis.cli('ZCARD', `${key}minute`) === '2');
        await caller.send('inference.generate', promptOf('the second'));
        assert.match((await caller.take('inference.retry.1s')).properties.headers['x-error'], /no model takes requests/);
        assert.equal((await first).answer.model, FREE);
      });

  it_('a place that is not used is given back', 1, {
    FREE_MODEL_RATE_LIMIT_PER_MINUTE: '1', FREE_MODEL_WAIT_MS: '60000', DRAIN_TIMEOUT_SECONDS: '1',
  }, async ([worker], key) => {
    await allShared([worker]);
    const [seconds] = (await redis.cli('TIME')).split('\n').map(Number);
    await redis.cli('ZADD', `${key}minute`, seconds * 1000 - 30000, 'before');
    await caller.send('inference.generate', promptOf('later'), { replyTo: null });
    await until('it has its place', async () => await redis.cli('ZCARD', `${key}minute`) === '2');
    await worker.stop(); // which hands the prompt back
    assert.equal(await redis.cli('ZCARD', `${key}minute`), '1');
    await caller.channel.purgeQueue('inference');
  });

  for (const mode of ['no-quota 600', 'no-quota-body 600']) {
    it_(`what the provider says to one counts for all: ${mode}`, 2, {}, async (workers, key) => {
      await allShared(workers);
      model.modes = { [FREE]: mode };
      await ask(caller, 'used up?');
      await until('it is told', async () => await redis.cli('EXISTS', `${key}closed`) === '1');
      model.requests.length = 0;
      model.modes = {};
      await askMany(8, 'anybody');
      assert.equal(countOf(FREE), 0);
    });
  }

  it_('also how many are left', 2, { FREE_MODEL_RATE_LIMIT_PER_MINUTE: '20' }, async (workers) => {
    await allShared(workers);
    model.modes = { [FREE]: 'left 2 50' };
    await ask(caller, 'how many?');
    await allHeard(workers, 18); // by the provider's count
    model.modes = {};
    await askMany(12, 'the rest');
    assert.equal(countOf(FREE), 3);
  });

  it_('scripts that it has forgotten are sent again', 1, { FREE_MODEL_RATE_LIMIT_PER_MINUTE: '2' }, async ([worker]) => {
    await allShared([worker]);
    await ask(caller, 'before');
    await redis.cli('SCRIPT', 'FLUSH');
    await askMany(3, 'after');
    assert.equal(countOf(FREE), 2);
    assert.equal(await metric(worker, 'free_quota_shared'), 1);
  });

  it_('scripts that may not run leave each worker its part', 1, { FREE_MODEL_RATE_LIMIT_PER_MINUTE: '3' }, async ([worker], key) => {
    await allShared([worker]);
    await ask(caller, 'before');
    await redis.cli('DEL', `${key}minute`);
    await redis.cli('SET', `${key}minute`, 'no sorted set');
    await askMany(8, 'after');
    assert.equal(countOf(FREE), 3);
    await worker.event('redis script failed');
    await redis.cli('DEL', `${key}minute`);
    await allShared([worker]);
  });
});

describe('a Redis that goes', () => {
  let redis;
  before(async () => {
    redis = await (await Redis.open()).start();
  });
  after(() => redis.close());

  it('and comes back without its memory: never more than the account may',
     withWorkers(3, () => redis, { FREE_MODEL_RATE_LIMIT_PER_MINUTE: '6' }, async (workers) => {
       await allShared(workers);
       await allKnow(workers);
       await askMany(2, 'with it');
       await allHeard(workers, 2);
       await redis.kill();
       await allShared(workers, 0);
       await askMany(24, 'without it');
       assert.ok(countOf(FREE) > 2 && countOf(FREE) <= 5, `${countOf(FREE)}: of the four left each takes one`);
       const taken = countOf(FREE);
       await redis.start();
       await allShared(workers);
       await allHeard(workers, taken); // as they told it
       await askMany(24, 'with it again');
       assert.equal(countOf(FREE), 6);
       for (const worker of workers) assert.equal(worker.events("free models' quota divided").length, 1);
     }));

  it('or is emptied: it is told what it has forgotten',
     withWorkers(2, () => redis, { FREE_MODEL_RATE_LIMIT_PER_MINUTE: '5' }, async (workers) => {
       await allShared(workers);
       await askMany(3, 'before');
       await allHeard(workers, 3);
       await redis.cli('FLUSHALL');
       await Promise.all(workers.map((worker) => worker.event("free models' quota divided")));
       await allShared(workers);
       await allHeard(workers, 3);
       await askMany(8, 'after');
       assert.equal(countOf(FREE), 5);
     }));

  it('or hangs: nobody waits for it', withWorkers(2, () => redis, {
    FREE_MODEL_RATE_LIMIT_PER_MINUTE: '4', REDIS_TIMEOUT_MS: '300',
  }, async (workers) => {
    await allShared(workers);
    await allKnow(workers);
    redis.signal('SIGSTOP');
    try {
      await askMany(12, 'while it hangs');
      await allShared(workers, 0);
      assert.ok(countOf(FREE) >= 2 && countOf(FREE) <= 4, `${countOf(FREE)}`);
    } finally {
      redis.signal('SIGCONT');
    }
    await allShared(workers);
    await askMany(12, 'awake');
    assert.ok(countOf(FREE) <= 4, `${countOf(FREE)}`);
    for (const worker of workers) assert.equal((await request(worker.adminPort, '/health')).status, 200);
  }));
});

describe('a Redis with a password', () => {
  let redis;
  before(async () => {
    redis = await Redis.open({ password: 's3cret/ß' });
  });
  after(() => redis.close());
  const healthOf = async (worker) => (await request(worker.adminPort, '/health')).json.dependencies.redis;

  it('is done without, until it is there', withWorkers(1, () => ({ url: `${redis.url}/3` }), {}, async ([worker], key) => {
    assert.equal((await ask(caller, 'without')).answer.model, FREE);
    assert.deepEqual(await healthOf(worker), { status: 'unhealthy', shared: false });
    await redis.start();
    await allShared([worker]);
    assert.deepEqual(await healthOf(worker), { status: 'healthy', shared: true });
    await ask(caller, 'with');
    assert.equal(await redis.cli('-n', 3, 'ZCARD', `${key}minute`), '2'); // told of the one before, too
    assert.match(await redis.cli('CLIENT', 'LIST'), /name=inference@/);
  }));

  it('is not used with another one', withWorkers(1, () => ({ url: redis.url.replace('s3cret', 'wr0ng') }), {}, async ([worker]) => {
    assert.equal((await ask(caller, 'all the same')).answer.model, FREE);
    assert.match((await worker.event('redis not reached')).error, /WRONGPASS/);
    assert.doesNotMatch(worker.stderr, /wr0ng/);
    assert.equal((await healthOf(worker)).status, 'unhealthy');
  }));
});

describe('settings of Redis', () => {
  const refusal = async (env) => {
    const { code, stderr } = await house.run('chatfleet-inference', [], { OPENROUTER_API_KEY: 'any', ...env });
    assert.notEqual(code, 0);
    return stderr;
  };

  it('that disagree stop the start', async () => {
    assert.match(await refusal({ REDIS_URL: 'redis://one:6379', REDIS_HOST: 'two' }), /REDIS_URL and REDIS_HOST disagree/);
    assert.match(await refusal({ REDIS_URL: 'redis://one', REDIS_HOST: 'one', REDIS_PORT: '6380' }), /REDIS_URL and REDIS_PORT disagree/);
    assert.match(await refusal({ REDIS_PORT: '6380' }), /REDIS_PORT without REDIS_HOST/);
  });

  it('that cannot be read do, too', async () => {
    assert.match(await refusal({ REDIS_URL: 'redis://host/x' }), /REDIS_URL: .*redis:\/\/\[\[user\]:password@\]host/);
    assert.match(await refusal({ REDIS_URL: 'rediss://host' }), /TLS to Redis is not supported/);
    const secret = await refusal({ REDIS_URL: 'redis://:pa55word@host/x' });
    assert.doesNotMatch(secret, /pa55word/);
  });
});
