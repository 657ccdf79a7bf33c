// Database, broker and workers go away in the middle of turns: what was answered is there, once, and all goes
// on by itself. The servers are this file's own (./fleet servers).
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { House, modelSettings } from './lib/house.mjs';
import { metricsOf, request } from './lib/http.mjs';
import { management } from './lib/management.mjs';
import { valueOf } from './lib/metrics.mjs';
import { startModel } from './lib/model.mjs';
import { Person } from './lib/person.mjs';
import { Talks } from './lib/talks.mjs';
import { until } from './lib/wait.mjs';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const QUEUES = ['persistence', 'persistence.commit', 'persistence.read', 'context-builder', 'inference'];
const AWAY_MS = 60000;
const skip = process.env.FLEET_HOME ? false : 'not run: ./fleet servers runs it';

const fleet = (...args) => promisify(execFile)(path.join(ROOT, 'fleet'), args, { cwd: ROOT, env: process.env });

describe('turns', { skip }, () => {
  let house, database, model, shim, persistence, builder, inference, talks;

  before(async () => {
    model = await startModel({ mode: 'instant' });
    house = await House.open('turn_faults', { database: true });
    database = house.database;
    ({ shim, persistence, builder, inference } = await house.fleet({ model }));
  });
  after(async () => {
    await house.close();
    await model.close();
  });
  afterEach(async () => {
    if (talks) await talks.end().catch(() => {});
    // A test that failed half-way must not leave the others without servers.
    await fleet('database', 'start').catch(() => {});
    await fleet('broker', 'start').catch(() => {});
  });

  const begin = async () => {
    talks = new Talks(shim);
    await talks.more(30);
  };

  const healthy = (...processes) => until('all are well', async () => {
    for (const p of processes) if ((await request(p.adminPort, '/health')).status !== 200) return false;
    return true;
  }, { limit: AWAY_MS });

  const outcomes = async (p, outcome) =>
    valueOf(await metricsOf(p.adminPort), 'worker_job_duration_seconds_count', { outcome });

  // Each queue has its consumers again, by themselves; turns go through, and nothing is left behind.
  async function assertWell(...workers) {
    await healthy(shim, ...workers);
    await talks.more(30);
    await talks.end();
    await talks.assertKept(database);
    const wanted = { persistence: workers.filter((w) => w.name === 'chatfleet-persistence').length };
    await until('each queue is consumed', async () => {
      const consumers = await management('GET', `/consumers/${encodeURIComponent(house.vhost)}`);
      return QUEUES.every((queue) => consumers.filter((c) => c.queue.name === queue).length ===
        (wanted[queue.split('.')[0]] ?? 1));
    }, { every: 200 });
    for (const queue of QUEUES) {
      const dead = await house.count(`${queue}.dlq`);
      assert.equal(dead.messageCount, 0, `dead letters of ${queue}`);
      await until(`${queue} is empty`, async () => (await house.count(queue)).messageCount === 0);
    }
    const person = new Person();
    const { json: { id } } = await person.http(shim, 'POST', '/conversations', {});
    assert.equal((await person.say(shim, id, 'and now?')).status, 200);
    // A read is refused while one of persistence's connections is not back.
    const { status, text, json } = await until('it is read', async () => {
      const answer = await person.http(shim, 'GET', `/conversations/${id}`);
      return answer.status !== 503 && answer;
    });
    assert.equal(status, 200, text);
    assert.equal(json.messages.length, 2);
  }

  it('survive a restart of PostgreSQL, and no attempt is used up', async () => {
    await begin();
    await fleet('database', 'restart');
    await assertWell(persistence, builder, inference);
    await begin();
    await fleet('database', 'stop');
    await until('persistence has noticed', async () => (await request(persistence.adminPort, '/health')).status === 503);
    const health = await request(shim.port, '/health');
    assert.equal(health.status, 503);
    await fleet('database', 'start');
    await assertWell(persistence, builder, inference);
    assert.equal(await outcomes(persistence, 'retried'), 0);
    for (const p of [shim, persistence, builder, inference]) assert.ok(!p.ended, 'the processes are the same');
  });

  it('survive that their connections to PostgreSQL are cut', async () => {
    await begin();
    for (let i = 0; i < 4; i++) {
      const cut = await database.value(
        `SELECT count(pg_terminate_backend(pid))::int FROM pg_stat_activity
         WHERE datname = current_database() AND application_name LIKE '%persistence%'`);
      assert.ok(cut > 0, 'there were some');
      await talks.more(10);
    }
    await assertWell(persistence, builder, inference);
  });

  it('survive a restart of the broker', async () => {
    await begin();
    await fleet('broker', 'restart');
    await assertWell(persistence, builder, inference);
    assert.ok(talks.repeated.length > 0, 'it was met');
    for (const p of [shim, persistence, builder, inference]) assert.ok(!p.ended, 'the processes are the same');
  });

  it('survive that workers are killed', async () => {
    const second = await house.persistence();
    await begin();
    await persistence.kill();
    await talks.more(10);
    persistence = await house.persistence();
    await second.kill();
    await talks.more(10);
    await Promise.all([builder.kill(), inference.kill()]);
    [builder, inference] = await Promise.all([house.worker(modelSettings(model)),
                                          house.inference(modelSettings(model))]);
    await assertWell(persistence, builder, inference);
  });
});
