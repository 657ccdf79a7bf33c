// Restless people: they leave streams and come back through any shim, stop answers or do not, while workers are
// replaced and killed. Whatever happens, each sees one text grow, and it is what was saved.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, it } from 'node:test';
import { House, modelSettings } from './lib/house.mjs';
import { answerTo, startModel } from './lib/model.mjs';
import { Person } from './lib/person.mjs';
import { Stream } from './lib/sse.mjs';
import { pause, until } from './lib/wait.mjs';

const PEOPLE = 12;
const LASTS_MS = 8000; // longer by hand: RESTLESS_MS
const MODES = ['normal', 'paced 5', 'paced 20', 'paced 60', 'slow 1500'];
const BUSY = [409, 503, 504]; // ask again
const LIMIT = 60000;

const below = (n) => Math.floor(Math.random() * n);
const one = (list) => list[below(list.length)];

let house, model, shims, workers, caller;

before(async () => {
  model = await startModel();
  house = await House.open('restless', { database: true });
  const { shim, inference, persistence, ...others } = await house.fleet({ model, settings: settings() });
  ({ caller } = others);
  shims = [shim, await house.shim(settings())];
  workers = {
    inference: [inference, await house.inference(settings())],
    persistence: [persistence, await house.persistence(settings())],
  };
});
after(async () => {
  model.release();
  await house.close();
  await model.close();
});

const settings = () => ({ ...modelSettings(model), INTERIM_SECONDS: '1', DRAIN_TIMEOUT_SECONDS: '5' });

// A stream, however often it must be asked for.
async function insist(path, options) {
  for (const end = Date.now() + LIMIT; Date.now() < end; await pause(50)) {
    const stream = await Stream.open(one(shims).port, `/api/chat${path}`, { ...options, limit: LIMIT });
    if (stream.isStream) return stream;
    assert.ok(BUSY.includes(stream.status), `${stream.status} ${stream.raw}`);
  }
  throw new Error(`${path} gave no stream`);
}

// One turn, from its question to its end: what its stream said last, and what it cost on the way.
async function turn(person, conversation, question, told) {
  const headers = { authorization: `Bearer ${person.token}`, accept: 'text/event-stream' };
  let stream = await insist(`/conversations/${conversation}/messages`, {
    body: { content: question }, headers: { ...headers, 'idempotency-key': randomUUID() },
  });
  await until('it has begun', () => stream.events.length > 0, { every: 5, limit: LIMIT });
  const { turn_id: id } = stream.events[0].data;
  let lastId;
  for (;;) {
    stream.ended.catch(() => {}); // when we leave
    await Promise.race([stream.ended, pause(below(600))]);
    assert.ok(answerTo(question).startsWith(stream.text), stream.text);
    if (['message.completed', 'error'].includes(stream.last?.event)) return { id, stream };
    if (below(6) === 0) {
      const { status } = await person.http(one(shims), 'POST', `/conversations/${conversation}/messages/${id}/stop`, {}, { limit: LIMIT });
      assert.ok(status === 200 || status === 202 || BUSY.includes(status), `stop: ${status}`);
      told.stops++;
    } else if (below(2)) {
      stream.leave();
      lastId = stream.last?.id ?? lastId; // of one that brought nothing the one before
      stream = await insist(`/turns/${id}/events`, { method: 'GET', headers: { ...headers, 'last-event-id': lastId }, text: stream.text });
      told.returns++;
    }
  }
}

async function live(end, told) {
  const person = new Person();
  const { id: conversation } = await person.conversation(caller);
  while (Date.now() < end) {
    const question = `[model:${one(MODES)}] ${'wörd '.repeat(10 + below(40))}${randomUUID()}`;
    const { id, stream } = await turn(person, conversation, question, told);
    assert.equal(stream.last.event, 'message.completed', JSON.stringify(stream.last));
    const answer = stream.last.data.assistant_message;
    assert.equal(stream.text, answer.content);
    if (!answer.metadata.ending) assert.equal(answer.content, answerTo(question));
    const { state, result } = await person.turn(caller, id);
    assert.equal(state, answer.metadata.ending ?? 'completed');
    assert.deepEqual(result, stream.last.data);
    told[state]++;
  }
}

// Workers come and go, each other time without a word.
async function unrest(end) {
  for (let i = 0; Date.now() < end; i++) {
    await pause(1000);
    const kind = i % 3 === 2 ? 'persistence' : 'inference';
    const worker = workers[kind].shift();
    await (i % 2 ? worker.stop() : worker.kill());
    workers[kind].push(await house[kind](settings()));
  }
}

it('see one text, which is saved and counted once', { timeout: 170000 }, async (t) => {
  const end = Date.now() + Number(process.env.RESTLESS_MS ?? LASTS_MS);
  const told = { completed: 0, stopped: 0, stops: 0, returns: 0 };
  await Promise.all([unrest(end), ...Array.from({ length: PEOPLE }, () => live(end, told))]);
  t.diagnostic(JSON.stringify(told));
  assert.ok(told.completed > 0 && told.stopped > 0 && told.returns > 0);
  assert.deepEqual(await house.database.rows('SELECT state::text, count(*)::int FROM chat.turns GROUP BY 1 ORDER BY 1'), [
    { state: 'completed', count: told.completed }, { state: 'stopped', count: told.stopped }]);
  for (const [table, turnOf] of [['messages', 'x.turn_id = t.id AND x.sender_type = \'assistant\''], ['usage_tracking', 'x.id = t.id']]) {
    assert.equal(await house.database.value(`SELECT count(*)::int FROM chat.turns t WHERE 1 <> (SELECT count(*) FROM chat.${table} x WHERE ${turnOf})`), 0);
  }
});
