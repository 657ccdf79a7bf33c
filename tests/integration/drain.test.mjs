// Processes come and go under traffic, and no client notices.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { binary } from './lib/environment.mjs';
import { echo, House, modelSettings } from './lib/house.mjs';
import { answersIn, metricsOf, request } from './lib/http.mjs';
import { valueOf } from './lib/metrics.mjs';
import { startModel } from './lib/model.mjs';
import { plainEnvironment } from './lib/processes.mjs';
import { Talks } from './lib/talks.mjs';
import { token } from './lib/token.mjs';
import { later, until } from './lib/wait.mjs';

const WORK = 'context-builder';

const assertNoFailure = (traffic) => {
  assert.deepEqual(traffic.failures, []);
  assert.ok(traffic.answered > 0);
};

describe('workers', () => {
  let house, shim;

  before(async () => {
    house = await House.open('scale');
    shim = await house.shim();
  });
  after(() => house.close());

  it('scale 1, 3, 1, and are replaced one by one, without an error', async () => {
    const workers = [await house.worker()];
    await house.answers(shim);
    const traffic = house.traffic(shim, { clients: 32 });
    await traffic.more(100);
    workers.push(...await Promise.all([house.worker(), house.worker()]));
    await until('all three work', async () => (await Promise.all(workers.map(async (w) =>
      valueOf(await metricsOf(w.adminPort), 'worker_job_duration_seconds_count', { outcome: 'replied' }))))
      .every((n) => n > 0));
    await traffic.more(200);
    await workers.shift().stop();
    await traffic.more(100);
    await workers.shift().stop();
    await traffic.more(100);
    for (let i = 0; i < 2; i++) {
      workers.push(await house.worker());
      await traffic.more(50);
      await workers.shift().stop();
      await traffic.more(50);
    }
    await traffic.stop();
    assertNoFailure(traffic);
    await until('nothing is left behind', async () => (await house.queue(WORK)).messages === 0);
    assert.equal((await house.count(`${WORK}.dlq`)).messageCount, 0);
    await workers[0].stop();
  });

  it('that end finish what they have: AMQP callers get one answer each', async () => {
    const caller = await house.caller();
    const [first, second] = await Promise.all([house.worker(), house.worker()]);
    const ids = [];
    for (let i = 0; i < 600; i++) {
      ids.push(await caller.send('system.echo', { i }));
      if (i === 200) first.signal('SIGTERM');
    }
    await until('all are answered', () => caller.replies.length >= ids.length);
    await first.stop();
    assert.deepEqual(caller.replies.map((m) => m.properties.correlationId).sort(), [...ids].sort());
    assert.ok(caller.replies.every((m) => !m.fields.redelivered));
    await second.stop();
  });

  it('that are told to end before they reached the broker end at once', async () => {
    const worker = house.start('chatfleet-context-builder', {
      RABBITMQ_URL: 'amqp://guest:guest@127.0.0.1:1/',
    });
    await until('it tries', () => worker.lines.length > 0);
    const started = Date.now();
    await worker.stop();
    assert.ok(Date.now() - started < 5000);
  });

  for (const name of ['chatfleet-context-builder', 'chatfleet-gateway']) {
    it(`told again and again to end it ends once, and well: ${name}`, async () => {
      const p = await house.start(name).ready();
      while (!p.ended) {
        p.signal('SIGTERM');
        await new Promise(setImmediate);
      }
      await p.stop();
    });
  }

  it('say that they drain', async () => {
    const worker = await house.worker();
    await worker.stop();
    assert.ok(worker.events('draining').length === 1);
  });
});

describe('a shim that ends', () => {
  let house;

  before(async () => {
    house = await House.open('ends');
  });
  after(() => house.close());

  it('answers what is in flight', async () => {
    const [shim, worker] = await Promise.all([house.shim(), house.worker()]);
    await house.answers(shim);
    worker.signal('SIGSTOP'); // so that requests stay in flight
    const asked = Array.from({ length: 20 }, (_, i) => echo(shim, { message: String(i) }));
    await until('all are in flight', async () =>
      valueOf(await metricsOf(shim.adminPort), 'rpc_calls_pending') === 20);
    shim.signal('SIGTERM');
    await shim.event('draining');
    worker.signal('SIGCONT');
    const answers = await Promise.all(asked);
    answers.forEach((answer, i) => {
      assert.equal(answer.status, 200, answer.text);
      assert.deepEqual(answer.json, { message: String(i) });
      assert.equal(answer.headers.connection, 'close');
    });
    await shim.stop();
    await worker.stop();
  });

  it('tells the outcome as open where no answer came within the drain', async () => {
    const [shim, worker] = await Promise.all([
      house.shim({ DRAIN_TIMEOUT_SECONDS: '1' }), house.worker(),
    ]);
    await house.answers(shim);
    worker.signal('SIGSTOP');
    const asked = Array.from({ length: 5 }, () => echo(shim));
    await until('all are in flight', async () =>
      valueOf(await metricsOf(shim.adminPort), 'rpc_calls_pending') === 5);
    shim.signal('SIGTERM');
    for (const answer of await Promise.all(asked)) {
      assert.equal(answer.status, 503);
      assert.match(answer.json.detail, /open/);
    }
    await shim.stop();
    await worker.stop();
  });

  it('reads to the end a request that has begun', async () => {
    const [shim, worker] = await Promise.all([house.shim(), house.worker()]);
    await house.answers(shim);
    const body = '{"message":"slowly"}';
    const socket = net.connect(shim.port, '127.0.0.1');
    let text = '', error;
    socket.on('data', (part) => { text += part; });
    socket.on('error', (e) => { error = e; });
    socket.write(`POST /echo HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token()}\r\n` +
      `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body.slice(0, 5)}`);
    await until('the shim has the connection', async () =>
      (await request(shim.adminPort, '/health')).json.connections >= 1);
    shim.signal('SIGTERM');
    await shim.event('draining');
    socket.write(body.slice(5));
    await until('the answer', () => answersIn(text)[0] ?? error);
    assert.equal(error, undefined);
    assert.equal(answersIn(text)[0].status, 200);
    await shim.stop();
    await worker.stop();
  });
});

// Holds the socket that shims share; {door, port, close}.
async function keepSocket(house) {
  const door = path.join(house.folder, 'door');
  const keeper = spawn(binary('chatfleet-socket'), ['hold', door, '127.0.0.1', '0'], {
    env: plainEnvironment({}), stdio: ['ignore', 'pipe', 'inherit'],
  });
  const { promise, resolve, reject } = later('the port of the shared socket');
  keeper.stdout.on('data', (text) => resolve(Number(text)));
  keeper.on('error', reject);
  const port = await promise;
  await until('the door is there', () => fs.existsSync(door));
  const close = async () => {
    const ended = new Promise((done) => keeper.on('close', done));
    keeper.kill('SIGTERM');
    assert.equal(await ended, 0);
  };
  return { door, port, close };
}

async function sharingShim(house, { door, port }, env = {}) {
  const p = house.start('chatfleet-gateway', env, [
    binary('chatfleet-socket'), 'exec', door, binary('chatfleet-gateway'),
  ]);
  await p.event('listening', (line) => line.socket === 'inherited');
  await p.ready();
  p.port = port;
  return p;
}

describe('shims that share a socket', () => {
  let house, socket, port;

  before(async () => {
    house = await House.open('rolling');
    socket = await keepSocket(house);
    port = socket.port;
    await house.worker();
  });
  after(async () => {
    await house.close();
    await socket.close();
  });

  const shim = () => sharingShim(house, socket);

  it('are restarted one after the other, and no client sees an error', async () => {
    const shims = await Promise.all([shim(), shim()]);
    await house.answers(shims[0]);
    // Half of the clients keep their connections, half open a new one for each request.
    const traffic = house.traffic(shims[0], { clients: 32, keepAlive: 16, pauseMs: 5 });
    await traffic.more(100);
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 2; i++) {
        shims.push(await shim());
        await shims.shift().stop();
        await traffic.more(100);
      }
    }
    await traffic.stop();
    assertNoFailure(traffic);
    // The work was shared.
    const counts = await Promise.all(shims.map(async (s) =>
      valueOf(await metricsOf(s.adminPort), 'http_request_duration_seconds_count', { route: '/echo' })));
    assert.ok(counts.every((n) => n > 0), counts.join());
    for (const s of shims) await s.stop();
  });

  it('let clients wait while none runs', async () => {
    const waiting = Array.from({ length: 10 }, () => echo({ port }));
    const late = await shim();
    for (const answer of await Promise.all(waiting)) assert.ok([200, 503].includes(answer.status));
    await house.answers(late);
    await late.stop();
  });
});

describe('the whole fleet, under turns', () => {
  const KINDS = ['chatfleet-persistence', 'chatfleet-context-builder', 'chatfleet-inference', 'chatfleet-gateway'];
  const ROUNDS = 10;
  let house, model, socket, talks;

  before(async () => {
    model = await startModel({ mode: 'instant' });
    house = await House.open('drains', { database: true });
    socket = await keepSocket(house);
  });
  after(async () => {
    await talks?.end().catch(() => {});
    await house.close();
    await socket.close();
    await model.close();
  });

  const start = (name) => (name === 'chatfleet-gateway' ? sharingShim(house, socket, modelSettings(model))
    : house.start(name, modelSettings(model)).ready());

  it(`is replaced process by process, workers ${ROUNDS} times in a row: no error is seen, nothing is dead-lettered`, async () => {
    const pools = []; // one after the other: a shim that came before a worker finds it at its next look only
    for (const name of KINDS) pools.push([await start(name), await start(name)]);
    await house.answers(pools[3][0]);
    talks = new Talks(socket, { people: 16 });
    await talks.more(50);
    for (let round = 0; round < ROUNDS; round++) {
      for (const [i, name] of KINDS.entries()) {
        if (name === 'chatfleet-gateway' && round % 4) continue; // each waits two seconds for its idle connections
        pools[i].push(await start(name));
        await pools[i].shift().stop();
        await talks.more(5);
      }
    }
    await talks.end();
    assert.deepEqual(talks.repeated, [], 'each request was answered at once');
    await talks.assertKept(house.database);
    for (const queue of ['persistence', 'persistence.commit', 'persistence.read', 'context-builder', 'inference']) {
      assert.equal((await house.count(`${queue}.dlq`)).messageCount, 0, `dead letters of ${queue}`);
      await until(`${queue} is empty`, async () => (await house.count(queue)).messageCount === 0);
    }
    for (const p of pools.flat()) assert.equal(p.events('jobs handed back unfinished').length, 0);
  });
});
