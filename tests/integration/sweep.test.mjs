// Messages that crash a worker, and turns that nobody ends.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { House, modelSettings } from './lib/house.mjs';
import { metricsOf } from './lib/http.mjs';
import { closeConnection, connections } from './lib/management.mjs';
import { valueOf } from './lib/metrics.mjs';
import { startModel } from './lib/model.mjs';
import { Person } from './lib/person.mjs';
import { assertProblem } from './lib/problem.mjs';
import { pause, until } from './lib/wait.mjs';

const POISON = 'poison-5b1f';
const SWEEP = { TURN_EXPIRES_SECONDS: '3', TURN_SWEEP_SECONDS: '1' };

describe('a message that crashes the worker', () => {
  let house, model, shim, caller, persistence;
  let crashes = 0, supervising = true, supervisor;

  // What systemd does.
  async function supervise() {
    while (supervising) {
      const p = house.start('chatfleet-context-builder', { ...modelSettings(model), CHATFLEET_FAULT: `job.body=${POISON}` });
      await until('it ends', () => p.ended || !supervising, { limit: 170000 });
      if (!p.ended) {
        await p.stop();
        return;
      }
      await p.faulted();
      crashes++;
    }
  }

  before(async () => {
    model = await startModel({ mode: 'instant' });
    house = await House.open('poison', { database: true });
    const env = { ...modelSettings(model), ...SWEEP, TURN_EXPIRES_SECONDS: '15' };
    [persistence, caller] = await Promise.all([house.persistence(env), house.caller(), house.inference(env)]);
    supervisor = supervise();
    await until('somebody builds', async () => (await house.count('context-builder')).consumerCount === 1);
    shim = await house.shim(env);
  });
  after(async () => {
    supervising = false;
    await supervisor;
    await house.close();
    await model.close();
  });

  it('ends in the dead letters, and its turn as failed; the others go on', async () => {
    const person = new Person();
    const { id } = await person.conversation(caller);
    const others = [];
    const asked = person.say(shim, id, `say ${POISON}`, { key: 'poisonous', async: true })
      .then((answer) => answer.json);
    const { turn_id: turn } = await asked;
    for (let i = 0; i < 40; i++) {
      others.push((async () => {
        const other = new Person();
        const conversation = await other.conversation(caller);
        return other.send(caller, conversation.id, 'harmless', { async: true }).then((answer) => ({ other, answer }));
      })());
      await pause(10);
    }
    const dead = await until('the broker gives it up', () => caller.channel.get('context-builder.dlq'), { limit: 120000 });
    caller.channel.ack(dead);
    assert.match(dead.content.toString(), new RegExp(POISON));
    assert.equal(dead.properties.headers['x-death'][0].reason, 'delivery_limit');
    await until('the supervisor has seen it', () => crashes > 20);
    assert.equal(crashes, 21);
    for (const { other, answer } of await Promise.all(others)) {
      await until('its turn is completed', async () => (await other.turn(caller, answer.body.turn_id)).state === 'completed',
                  { limit: 60000 });
    }
    assert.equal((await house.count('context-builder.dlq')).messageCount, 0, 'the others are not among them');

    // Nobody has ended its turn, and the key stands for it, until it expires.
    const ended = await until('it is ended', async () => {
      const known = await person.turn(caller, turn);
      return known.state !== 'accepted' && known;
    }, { limit: 60000 });
    assert.equal(ended.state, 'failed');
    assert.equal(ended.problem.status, 504);
    assert.equal(ended.problem.turn_id, turn);
    assert.match(ended.problem.detail, /dead letters/);
    const line = await persistence.event('turn expired', ({ turn_id: which }) => which === turn);
    assert.equal(line.user_id, person.id);
    assert.equal(valueOf(await metricsOf(persistence.adminPort), 'persistence_turns_expired_total'), 1);
    assert.equal(await house.database.value("SELECT count(*)::int FROM chat.idempotency_keys WHERE key = 'poisonous'"), 0,
                 'the key is free');

    // Replayed, when the worker can take it, it completes the turn all the same.
    supervising = false;
    await supervisor;
    await house.worker(modelSettings(model));
    const { headers, ...properties } = dead.properties;
    caller.channel.publish('', 'context-builder', dead.content, {
      ...properties, headers: Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith('x-death') &&
        !name.startsWith('x-first-death') && name !== 'x-delivery-count')),
    });
    await until('it is completed', async () => (await person.turn(caller, turn)).state === 'completed');
  });
});

describe('turns that nobody ends', () => {
  let house, model, shim, caller, workers;

  before(async () => {
    model = await startModel({ mode: 'held' });
    house = await House.open('sweep', { database: true });
    const env = { ...modelSettings(model), ...SWEEP };
    workers = await Promise.all([house.persistence(env), house.persistence(env)]);
    await Promise.all([house.worker(env), house.inference(env)]);
    caller = await house.caller();
    shim = await house.shim(env);
  });
  after(async () => {
    await house.close();
    await model.close();
  });

  const total = async () => (await Promise.all(workers.map(async (w) =>
    valueOf(await metricsOf(w.adminPort), 'persistence_turns_expired_total')))).reduce((a, b) => a + b);

  it('each become failed once, by several processes and in several batches', async () => {
    const person = new Person();
    const { id } = await person.conversation(caller);
    const turns = await Promise.all(Array.from({ length: 150 }, async (_, i) =>
      (await person.send(caller, id, `question ${i}`, { async: true }, { key: `key ${i}` })).body.turn_id));
    await until('all are failed', async () => await house.database.value(
      "SELECT count(*)::int FROM chat.turns WHERE state = 'failed' AND problem ->> 'status' = '504'") === turns.length);
    assert.equal(await total(), turns.length);
    assert.equal(await house.database.value('SELECT count(*)::int FROM chat.idempotency_keys'), 0);
    // The answers that come after all complete them, each once.
    model.mode = 'instant';
    await until('the model is asked', async () => {
      model.release();
      return await house.database.value("SELECT count(*)::int FROM chat.turns WHERE state = 'completed'") === turns.length;
    }, { limit: 60000 });
    assert.equal(await total(), turns.length);
    const seqs = await house.database.value('SELECT array_agg(seq::int ORDER BY seq) FROM chat.messages');
    assert.deepEqual(seqs, Array.from({ length: 300 }, (_, i) => i + 1));
  });

  it('wait until whoever holds their conversation is through', async () => {
    model.mode = 'held';
    const person = new Person();
    const [held, free] = await Promise.all([person.conversation(caller), person.conversation(caller)]);
    const { body: { turn_id: first } } = await person.send(caller, held.id, 'held', { async: true });
    const { body: { turn_id: second } } = await person.send(caller, free.id, 'free', { async: true });
    const holder = await house.database.client(house.database.adminUrl);
    await holder.query('BEGIN');
    await holder.query('SELECT 1 FROM chat.conversations WHERE id = $1 FOR UPDATE', [held.id]);
    await until('the other is failed', async () => (await person.turn(caller, second)).state === 'failed');
    assert.equal((await person.turn(caller, first)).state, 'accepted');
    await holder.query('ROLLBACK');
    await until('this one, too', async () => (await person.turn(caller, first)).state === 'failed');
    model.mode = 'instant';
    model.release();
  });

  it('are found by their time alone', async () => {
    const plan = (await house.database.rows(`EXPLAIN SELECT id FROM chat.turns WHERE state = 'accepted'
      AND created_at >= now() - interval '1 hour' AND created_at < now() - interval '59 minutes'`))
      .map((row) => row['QUERY PLAN']).join('\n');
    assert.match(plan, /turns_created_idx/);
  });
});

describe('a generation whose delivery was lost', () => {
  let house, model, caller, first;

  before(async () => {
    model = await startModel({ mode: 'held' });
    house = await House.open('lostgen', { database: true });
    const env = modelSettings(model);
    [caller, first] = await Promise.all([house.caller(), house.inference(env), house.persistence(env), house.worker(env)]);
  });
  after(async () => {
    model.release();
    await house.close();
    await model.close();
  });

  it('says nothing when it fails: the turn goes on where it was delivered again', async () => {
    const person = new Person();
    const { id } = await person.conversation(caller);
    model.mode = 'held-refused';
    const answer = person.send(caller, id, 'Do not give up.');
    await until('the model is asked', () => model.held === 1);
    model.mode = 'held';
    const second = await house.inference(modelSettings(model));
    const [victim] = (await connections(house.vhost, `:${first.pid} `, 2))
      .filter((c) => c.client_properties.connection_name.endsWith('consume'));
    await closeConnection(victim.name);
    await until('it is generated again', () => model.held === 2);
    // The first one's model refuses, for good.
    model.releaseFirst();
    await first.event('job done', ({ outcome }) => outcome === 'redelivered');
    model.release();
    assert.equal((await answer).status, 200);
    assert.equal((await house.count('inference.dlq')).messageCount, 0);
    assert.equal(await house.database.value('SELECT count(*)::int FROM chat.turns WHERE state = $1', ['completed']), 1);
    await second.stop();
  });
});

describe('the clock', () => {
  let house, model, shim, caller, file, processes;

  before(async () => {
    model = await startModel({ mode: 'instant' });
    house = await House.open('clock', { database: true });
    file = path.join(house.folder, 'clock');
    fs.writeFileSync(file, '0');
    const { shim: s, caller: c, ...others } = await house.fleet({ model, settings: { CHATFLEET_FAULT_CLOCK: file } });
    [shim, caller, processes] = [s, c, [s, others.persistence, others.builder, others.inference]];
  });
  after(async () => {
    await house.close();
    await model.close();
  });

  for (const ms of [-30000, -3600000]) {
    it(`set back by ${-ms / 1000} s changes nothing: turns, what was said before, deadlines`, async () => {
      const person = new Person();
      fs.writeFileSync(file, '0');
      const { id } = (await person.http(shim, 'POST', '/conversations', {})).json;
      assert.equal((await person.say(shim, id, 'before')).status, 200);
      fs.writeFileSync(file, String(ms));
      for (let i = 0; i < 5; i++) {
        const answer = await person.say(shim, id, `after ${i}`);
        assert.equal(answer.status, 200, answer.text);
      }
      const { json } = await person.http(shim, 'GET', `/conversations/${id}`);
      assert.deepEqual(json.messages.map(({ seq }) => seq), Array.from({ length: 12 }, (_, i) => i + 1));
      assert.equal(new Set(json.messages.map((m) => m.id)).size, 12);
      // Not waited for: what is under way while the clock differs from when it began.
      model.mode = 'held';
      const turn = (await person.say(shim, id, 'later', { async: true, headers: { prefer: 'respond-async' } }));
      assert.equal(turn.status, 202, turn.text);
      await until('the model is asked', () => model.held === 1);
      model.mode = 'instant';
      model.release();
      await until('it is completed', async () => (await person.turn(caller, turn.json.turn_id)).state === 'completed');
      for (const p of processes) assert.ok(!p.ended);
      assert.equal(valueOf(await metricsOf(shim.adminPort), 'rpc_calls_pending'), 0);
    });
  }
});
