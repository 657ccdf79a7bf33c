// Which models answer whom: by the user's tier, the task, the kind of conversation, the request's own wish and
// the tenant's settings. The model server says in turn who was asked.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, afterEach, before, describe, it } from 'node:test';
import { House } from './lib/house.mjs';
import { metricsOf } from './lib/http.mjs';
import { valueOf } from './lib/metrics.mjs';
import { startModel } from './lib/model.mjs';
import { Person } from './lib/person.mjs';
import { assertProblem } from './lib/problem.mjs';
import { ask, promptOf } from './lib/prompts.mjs';
import { until } from './lib/wait.mjs';
import { uuid7 } from './lib/uuid.mjs';

const [MAIN, SECOND, EMERGENCY, BIG] = ['main/model:free', 'second/model:free', 'emergency/model', 'paid/big'];
const [ASKED, DEAR, LOCAL, OTHER] = ['asked/small:free', 'asked/dear', 'here/llama', 'other/model'];
const ALL = [MAIN, SECOND, EMERGENCY, BIG, ASKED, DEAR, LOCAL, OTHER];

let house, model, caller;

before(async () => {
  model = await startModel();
  house = await House.open('selection', { database: true });
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

const settings = (env) => ({
  OPENROUTER_API_KEY: 'any', OPENROUTER_BASE_URL: model.url, DEFAULT_MODEL: MAIN, FALLBACK_MODEL: SECOND,
  EMERGENCY_FALLBACK_MODEL: EMERGENCY, PAID_MODELS: BIG, ALLOWED_MODELS: `${ASKED}, ${DEAR}`, USE_FREE_MODELS_ONLY: 'false',
  COMPLEX_CONTEXT_TYPES: 'career_guidance', FREE_MODEL_RATE_LIMIT_PER_MINUTE: '0', BREAKER_OPEN_SECONDS: '0',
  TENANTS_REFRESH_MS: '50', ...env,
});
const asked = () => model.requests.map(({ body }) => body.model);
const allFail = (mode) => { model.modes = Object.fromEntries(ALL.map((name) => [name, mode])); };

describe('a turn', () => {
  let shim, persistence, builder, inference;
  before(async () => {
    ({ shim, persistence, builder, inference } = await house.fleet({ settings: settings() }));
  });
  after(() => Promise.all([shim, persistence, builder, inference].map((p) => p.stop())));

  async function begin({ context_type: kind = 'general', ...args } = {}) {
    const person = new Person(args);
    const { id } = await person.conversation(caller, { context_type: kind });
    return { person, id };
  }

  // Who was asked for one question of somebody, when all refuse it for good; the dead letter is taken away.
  async function chainOf({ task, model: wish, ...who } = {}) {
    const { person, id } = await begin(who);
    allFail('status 404');
    model.requests.length = 0;
    const answer = await person.say(shim, id, 'who answers?', { ...(task && { task }), ...(wish && { model: wish }) });
    assert.equal(answer.status, 502, answer.text);
    await caller.take('inference.dlq');
    return asked();
  }

  async function setTenant(tenant, args) {
    const { status, body } = await caller.call('tenant.set', { tenant_id: tenant, ...args }, {
      messageId: uuid7(), headers: { 'x-roles': 'service', 'x-user-id': '' },
    });
    assert.equal(status, 200, JSON.stringify(body));
    const count = await house.database.value('SELECT count(*)::int FROM chat.tenants');
    await until('it is known', async () => valueOf(await metricsOf(persistence.adminPort), 'persistence_tenants_known') >= count);
  }

  const CHAIN = [MAIN, SECOND, EMERGENCY];
  const PAID_FIRST = [BIG, EMERGENCY, MAIN, SECOND];
  const complex = { task: 'complex_analysis' };

  it('goes along the chain that is configured, whatever the tier', async () => {
    for (const tier of [undefined, 'free', 'premium', 'unheard-of']) assert.deepEqual(await chainOf({ tier }), CHAIN, tier);
  });

  it('with a complex task asks what costs first, for tiers that pay', async () => {
    for (const tier of ['premium', 'enterprise']) assert.deepEqual(await chainOf({ tier, ...complex }), PAID_FIRST);
    for (const tier of [undefined, 'free', 'premiums']) assert.deepEqual(await chainOf({ tier, ...complex }), CHAIN);
  });

  it('is complex by its kind of conversation, too', async () => {
    assert.deepEqual(await chainOf({ tier: 'premium', context_type: 'career_guidance' }), PAID_FIRST);
    assert.deepEqual(await chainOf({ tier: 'premium', context_type: 'assessment' }), CHAIN);
    assert.deepEqual(await chainOf({ context_type: 'career_guidance' }), CHAIN);
  });

  it('asks first whom the request names, if he may be named', async () => {
    assert.deepEqual(await chainOf({ model: ASKED }), [ASKED, ...CHAIN]);
    assert.deepEqual(await chainOf({ tier: 'premium', model: DEAR }), [DEAR, ...CHAIN]);
    model.requests.length = 0;
    const { person, id } = await begin();
    for (const [name, about] of [[DEAR, /not for this user's tier/], [BIG, /none of those that may be asked for/],
                                 [MAIN, /none of those/], ['asked', /none of those/]]) {
      const answer = await person.say(shim, id, 'him!', { model: name });
      assertProblem(answer, 422);
      assert.match(answer.json.detail, about);
      assert.equal((await person.send(caller, id, 'him!', { model: name })).status, 422);
    }
    for (const args of [{ model: '' }, { model: 7 }, { task: 'dishes' }]) {
      assertProblem(await person.say(shim, id, 'him!', args), 400);
    }
    assert.deepEqual(asked(), []);
    assert.equal(await house.database.value('SELECT count(*)::int FROM chat.turns WHERE conversation_id = $1', [id]), 0);
  });

  it('given anew is chosen for like any other', async () => {
    const { person, id } = await begin({ tier: 'premium' });
    const { assistant_message: first } = (await person.say(shim, id, 'once')).json;
    assert.equal(first.metadata.model, MAIN);
    const anew = (args) => person.http(shim, 'POST', `/conversations/${id}/messages/${first.id}/regenerate`, args);
    assert.equal((await anew(complex)).json.new_message.metadata.model, BIG);
    assert.equal((await anew({ model: ASKED })).json.new_message.metadata.model, ASKED);
    assertProblem(await anew({ model: BIG }), 422);
  });

  it('of a tenant with models of its own asks those, in their order, and no others', async () => {
    const tenant = `own-${randomUUID().slice(0, 8)}`;
    await setTenant(tenant, { models: [OTHER, SECOND] });
    assert.deepEqual(await chainOf({ tenant }), [OTHER, SECOND]);
    assert.deepEqual(await chainOf({ tenant, tier: 'premium', ...complex }), [OTHER, SECOND]);
    const { person, id } = await begin({ tenant });
    const refused = await person.say(shim, id, 'him!', { model: ASKED });
    assertProblem(refused, 422);
    assert.match(refused.json.detail, /none of the tenant's/);
    await setTenant(tenant, { models: null });
    await until('the change is known', async () => (await chainOf({ tenant })).length === 3);
  });

  it('of a tenant that nobody may answer fails, and says so', async () => {
    const tenant = `local-${randomUUID().slice(0, 8)}`;
    await setTenant(tenant, { providers: ['llamacpp'] });
    const { person, id } = await begin({ tenant });
    const answer = await person.say(shim, id, 'keep it here');
    assertProblem(answer, 503);
    assert.match(answer.json.detail, /no model is configured that may answer this tenant/);
    await caller.take('inference.dlq');
    assert.deepEqual(asked(), []);
  });
});

describe('the inference worker', () => {
  const withWorker = async (env, test) => {
    const worker = await house.inference(settings(typeof env === 'function' ? env() : env));
    try {
      await test(worker);
    } finally {
      await worker.stop();
    }
  };
  // Who was asked for a prompt with this selection; or the problem.
  async function chainOf(selection) {
    allFail('status 404');
    model.requests.length = 0;
    const correlationId = randomUUID();
    const body = { ...promptOf('who?'), selection };
    delete body.turn;
    const { body: problem, type } = await caller.call('inference.generate', body, { correlationId });
    assert.equal(type, 'error');
    if (problem.status !== 422) await caller.take('inference.dlq');
    return problem.status === 502 ? asked() : problem;
  }

  it('asks local ones first, and for tenants that want it nobody else', () => withWorker(
    () => ({ LLAMACPP_BASE_URL: model.url, LLAMACPP_MODEL: LOCAL }), async () => {
      assert.deepEqual(await chainOf(undefined), [LOCAL, MAIN, SECOND, EMERGENCY]);
      assert.deepEqual(await chainOf({ providers: ['llamacpp'] }), [LOCAL]);
      assert.deepEqual(await chainOf({ providers: ['openrouter'] }), [MAIN, SECOND, EMERGENCY]);
      assert.deepEqual(await chainOf({ providers: ['llamacpp'], models: [OTHER, LOCAL] }), [LOCAL]);
      assert.deepEqual(await chainOf({ pays: true, task: 'complex_analysis' }), [BIG, EMERGENCY, LOCAL, MAIN, SECOND]);
      const { status, detail } = await chainOf({ providers: ['llamacpp'], model: ASKED });
      assert.deepEqual([status, detail], [422, `the model ${ASKED} cannot be asked here`]);
    }));

  it('has a second server for tenants that want it', () => withWorker(
    () => ({ OPENAI_BASE_URL: model.url, OPENAI_MODEL: OTHER }), async () => {
      assert.deepEqual(await chainOf(undefined), [MAIN, SECOND, EMERGENCY]);
      assert.deepEqual(await chainOf({ providers: ['openai'] }), [OTHER]);
    }));

  it('asks nobody who costs where only free ones are wanted, but the first', () => withWorker(
    { USE_FREE_MODELS_ONLY: 'true', DEFAULT_MODEL: OTHER }, async (worker) => {
      assert.deepEqual(await chainOf({ pays: true, task: 'complex_analysis' }), [OTHER, SECOND]);
      assert.deepEqual(await chainOf({ pays: true, models: [DEAR, ASKED] }), [ASKED]);
      assert.equal((await chainOf({ pays: true, model: DEAR })).status, 422);
      assert.equal((await chainOf({ models: [DEAR] })).status, 503);
      assert.deepEqual(worker.events('PAID_MODELS left out').map((line) => line.model), [BIG]);
    }));

  it('asks nobody who costs for tiers that do not pay, where that is wanted', () => withWorker(
    { PAID_TIERS_ONLY: 'true' }, async () => {
      assert.deepEqual(await chainOf(undefined), [MAIN, SECOND]);
      assert.deepEqual(await chainOf({ pays: true }), [MAIN, SECOND, EMERGENCY]);
      assert.deepEqual(await chainOf({ models: [DEAR, ASKED] }), [ASKED]);
      assert.equal((await chainOf({ models: [DEAR] })).status, 503);
    }));

  it('refuses a selection that it cannot read', () => withWorker({}, async () => {
    for (const selection of [{ model: 1 }, { models: 'a' }, { models: [1] }, { providers: [null] }, { pays: 'yes' }, 'all']) {
      const { status, detail } = await chainOf(selection);
      assert.equal(status, 500, JSON.stringify(selection));
      assert.match(detail, /selection of models cannot be used/);
    }
  }));

  it('asks whomever tenants name, however many did before, and keeps them within bounds', () => withWorker({}, async (worker) => {
    for (let i = 0; i < 9; i++) {
      const names = Array.from({ length: 31 }, (_, n) => `many/${i}-${n}:free`);
      for (const name of names) model.modes[name] = 'status 404';
      model.requests.length = 0;
      const { body } = await caller.call('inference.generate', {
        ...promptOf('many?'), turn: undefined, selection: { models: [...names, MAIN] },
      });
      assert.equal(body.answer?.model, MAIN, JSON.stringify(body));
      assert.deepEqual(asked(), [...names, MAIN]);
    }
    const known = (await metricsOf(worker.adminPort)).filter(({ name }) => name === 'model_breaker_state');
    assert.equal(known.length, 256);
    for (const name of [MAIN, 'many/8-0:free', 'many/8-30:free']) assert.ok(known.some(({ labels }) => labels.model === name), name);
    assert.ok(!known.some(({ labels }) => labels.model === 'many/0-0:free'));
    model.modes = {};
    const { answer } = await ask(caller, 'still there?');
    assert.equal(answer.model, MAIN);
  }));
});
