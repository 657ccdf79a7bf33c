// Faults at chosen points, under turns: after each of them all is as before, with nothing missing and nothing
// twice. What stops the servers themselves is in turn-faults.test.mjs.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { connect } from './lib/database.mjs';
import { metricsOf, request } from './lib/http.mjs';
import { closeConnection, connections, management } from './lib/management.mjs';
import { valueOf } from './lib/metrics.mjs';

import { Person } from './lib/person.mjs';
import { assertProblem } from './lib/problem.mjs';
import { Recovery } from './lib/recovery.mjs';
import { pause, until } from './lib/wait.mjs';

const outcomes = async (p, outcome) =>
  valueOf(await metricsOf(p.adminPort), 'worker_job_duration_seconds_count', { outcome });

describe('turns survive', () => {
  let r;

  const policy = () => `/policies/${encodeURIComponent(r.house.vhost)}/full`;
  const limit = (queue, length) => management('PUT', policy(), {
    pattern: `^${queue}$`, 'apply-to': 'queues', definition: { 'max-length': length },
  });

  before(async () => {
    r = await Recovery.open('recovery');
  });
  after(() => r.close());
  afterEach(() => r.quiet());

  // The n-th time, so that there is work before and beside it.
  const points = {
    persistence: ['settle.publish', 'settle.confirm', 'settle.ack', 'database.sent', 'database.committed'],
    'context-builder': ['settle.publish', 'settle.confirm', 'settle.ack'],
    inference: ['settle.publish', 'settle.confirm', 'settle.ack'],
  };
  for (const [kind, names] of Object.entries(points)) {
    for (const name of names) {
      it(`that ${kind} is killed at ${name}`, async () => {
        await r.begin();
        await r[kind].stop();
        const victim = await r.worker(kind, { CHATFLEET_FAULT: `${name}:17` });
        await victim.faulted();
        r[kind] = await r.worker(kind);
        await r.assertRecovered();
      });
    }
  }

  for (const name of ['rpc.publish', 'rpc.confirm', 'rpc.reply']) {
    it(`that the shim is killed at ${name}, while clients wait`, async () => {
      await r.begin({ broken: true });
      const first = r.shim;
      await r.newShim({ CHATFLEET_FAULT: `${name}:17` });
      const victim = r.shim;
      await victim.faulted();
      r.door.port = first.port;
      await r.talks.more(10);
      await r.newShim();
      await first.stop();
      await r.assertRecovered();
    });
  }

  it('that a channel is closed by the broker', async () => {
    await r.begin();
    await r.caller.channel.deleteExchange('chat.events'); // who publishes to it loses the channel
    await r.persistence.event('channel closed by the broker', ({ error }) => /no exchange/.test(error));
    await r.talks.more(10);
    assert.equal((await management('GET', `/exchanges/${encodeURIComponent(r.house.vhost)}/chat.events`)).type, 'topic');
    await r.assertRecovered();
  });

  it('that each process loses its connections to the broker', async () => {
    await r.begin();
    for (const p of r.processes) {
      for (const c of await connections(r.house.vhost, `:${p.pid} `, 2)) await closeConnection(c.name);
      await r.talks.more(10);
    }
    await r.assertRecovered();
  });

  it('that queues are deleted: each is declared and consumed anew', async () => {
    await r.begin();
    await r.talks.end(); // what stood in them would be gone with them
    for (const queue of ['persistence', 'persistence.commit', 'persistence.read', 'context-builder', 'inference']) {
      await r.caller.channel.deleteQueue(queue);
      await until(`${queue} is consumed again`, async () => (await r.house.count(queue)).consumerCount === 1);
    }
    await r.begin();
    await r.assertRecovered();
  });

  it('that a step\'s queue is full: the step before waits, and no attempt is used up', async () => {
    await r.begin();
    r.inference.signal('SIGSTOP');
    await limit('inference', 1);
    const people = Array.from({ length: 160 }, () => new Person());
    const asked = people.map(async (person) => {
      const { json: { id } } = await person.http(r.shim, 'POST', '/conversations', {});
      return person.say(r.shim, id, 'is there room?', { key: 'once' });
    });
    await until('the builder holds what it cannot hand on', async () =>
      (await request(r['context-builder'].adminPort, '/health')).status === 503 || undefined);
    await limit('inference', 100000); // RabbitMQ 3.10 goes on refusing when there is none any more
    r.inference.signal('SIGCONT');
    for (const answer of await Promise.all(asked)) assert.equal(answer.status, 200, answer.text);
    for (const kind of ['context-builder', 'inference']) assert.equal(await outcomes(r[kind], 'retried'), 0);
    await management('DELETE', policy());
    await r.assertRecovered();
  });

  it('that the first queue is full: 503 and when to come again', async () => {
    await r.begin();
    await r.talks.end();
    r.persistence.signal('SIGSTOP');
    await limit('persistence', 1);
    const person = new Person();
    const ask = () => person.http(r.shim, 'POST', '/conversations', {});
    const asked = Array.from({ length: 60 }, ask);
    await until('it is full', async () => (await r.house.count('persistence')).messageCount > 1);
    const refused = await until('one is refused', () => Promise.race([ask(), pause(200)]));
    assertProblem(refused, 503);
    assert.match(refused.json.detail, /queue is full/);
    assert.ok(Number(refused.headers['retry-after']) > 0);
    await limit('persistence', 100000);
    r.persistence.signal('SIGCONT');
    const made = (await Promise.all(asked)).filter((answer) => answer.status === 201).length;
    assert.ok(made > 48, `${made} of 60`);
    // One that was taken late had its time-out while persistence stood still.
    const kept = await until('all are there', () => r.database.value(
      'SELECT count(*)::int FROM chat.conversations WHERE user_id = $1 HAVING count(*) >= $2', [person.id, made]));
    assert.ok(kept <= 61, `${kept} conversations`);
    await r.database.rows('DELETE FROM chat.conversations WHERE user_id = $1', [person.id]);
    await management('DELETE', policy());
    await r.begin();
    await r.assertRecovered();
  });

  it('that a backend is killed in the middle of a transaction', async () => {
    await r.begin();
    const person = new Person();
    const { id } = await person.conversation(r.caller);
    const holder = await connect(r.database.adminUrl);
    await holder.query('BEGIN');
    await holder.query('SELECT 1 FROM chat.conversations WHERE id = $1 FOR UPDATE', [id]);
    const asked = person.say(r.shim, id, 'in the middle');
    const pid = await until('its transaction waits', () => r.database.value(
      `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
       AND application_name LIKE '%persistence%'`));
    assert.equal(await r.database.value('SELECT pg_terminate_backend($1)', [pid]), true);
    await until('it is gone', async () => await r.database.value(
      'SELECT count(*)::int FROM pg_stat_activity WHERE pid = $1', [pid]) === 0);
    await holder.query('ROLLBACK');
    await holder.end();
    assert.equal((await asked).status, 200);
    const { json } = await until('it is read', async () => {
      const answer = await person.http(r.shim, 'GET', `/conversations/${id}`);
      return answer.status === 200 && answer; // persistence is away until all of its connections are back
    });
    assert.deepEqual(json.messages.map(({ seq }) => seq), [1, 2]);
    assert.equal(await outcomes(r.persistence, 'retried'), 0);
    await r.assertRecovered();
  });

  // Errors of the database's, in a statement or not before the commit, for what `fails` names. To be called
  // without traffic: the locks that this takes would end others' transactions, too.
  async function failable(timing) {
    await r.database.rows(`
      CREATE SEQUENCE IF NOT EXISTS public.failures;
      CREATE TABLE IF NOT EXISTS public.failing (content text PRIMARY KEY, times int, sqlstate text);
      CREATE OR REPLACE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
      DECLARE f public.failing;
      BEGIN
        SELECT * INTO f FROM public.failing WHERE content = NEW.content;
        IF FOUND AND nextval('public.failures') <= f.times THEN
          RAISE EXCEPTION 'told to fail' USING ERRCODE = f.sqlstate;
        END IF;
        RETURN NULL;
      END $$;
      DROP TRIGGER IF EXISTS fails ON chat.messages;
      CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON chat.messages ${timing} FOR EACH ROW EXECUTE FUNCTION public.fail()`);
    await r.begin();
  }

  // This cannot be saved, the next n times.
  const fails = (text, n, sqlstate) => r.database.rows(`
    DELETE FROM public.failing;
    SELECT setval('public.failures', 1, false);
    INSERT INTO public.failing VALUES ('${text}', ${n}, '${sqlstate}')`);

  async function assertMended() {
    await r.assertRecovered();
    await r.database.rows('DROP TRIGGER fails ON chat.messages');
  }

  for (const [what, timing] of [['a statement', 'NOT DEFERRABLE'], ['the commit', 'DEFERRABLE INITIALLY DEFERRED']]) {
    it(`a serialization failure of ${what}, at once, and one that lasts by a retry`, async () => {
      const retried = await outcomes(r.persistence, 'retried');
      await failable(timing);
      const person = new Person();
      const { id } = await person.conversation(r.caller);
      await fails('briefly', 2, '40001');
      const brief = await person.say(r.shim, id, 'briefly');
      assert.equal(brief.status, 200, brief.text);
      assert.equal(await outcomes(r.persistence, 'retried'), retried, 'no attempt is used up');
      await fails('for long', 6, '40001'); // more than one attempt's, fewer than two attempts'
      const long = await person.say(r.shim, id, 'for long');
      assert.equal(long.status, 200, long.text);
      assert.ok(await outcomes(r.persistence, 'retried') > retried);
      const { json } = await person.http(r.shim, 'GET', `/conversations/${id}`);
      assert.deepEqual(json.messages.map(({ seq, content }) => [seq, content]).filter(([seq]) => seq % 2),
                       [[1, 'briefly'], [3, 'for long']]);
      await assertMended();
    });

    it(`an error of ${what}, which ends that message alone`, async () => {
      await failable(timing);
      const person = new Person();
      const { id } = await person.conversation(r.caller);
      await fails('never', 1000000, '23514');
      const answer = await person.say(r.shim, id, 'never');
      assertProblem(answer, 500);
      const dead = await r.caller.take('persistence.dlq');
      assert.match(dead.properties.headers['x-error'], /23514/);
      assert.equal(JSON.parse(dead.content).content, 'never');
      const { json } = await person.http(r.shim, 'GET', `/conversations/${id}`);
      assert.deepEqual(json.messages, []);
      await assertMended();
    });
  }
});
