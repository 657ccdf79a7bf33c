// Streams of turns that were begun before: GET /turns/{turn_id}/events, through any shim, whatever was
// restarted in between; and what is told while there is no word yet.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { House, modelSettings } from './lib/house.mjs';
import { metricsOf } from './lib/http.mjs';
import { closeConnection, connections } from './lib/management.mjs';
import { valueOf } from './lib/metrics.mjs';
import { answerTo, startModel } from './lib/model.mjs';
import { Person } from './lib/person.mjs';
import { assertProblem, assertSecured } from './lib/problem.mjs';
import { Stream } from './lib/sse.mjs';
import { uuid7 } from './lib/uuid.mjs';
import { until } from './lib/wait.mjs';

const SETTINGS = {
  MODEL_FIRST_TOKEN_TIMEOUT_SECONDS: '60', MODEL_IDLE_TIMEOUT_SECONDS: '60', MODEL_TIMEOUT_SECONDS: '120',
  MAX_MESSAGE_BYTES: '40000', INTERIM_SECONDS: '2', HTTP_STREAM_PING_SECONDS: '1', DRAIN_TIMEOUT_SECONDS: '3',
};
const FOLLOWERS_MAX = 16;

const ask = (mode, text = 'Größe, 你好?') => `[model:${mode}] ${text} ${randomUUID()}`;

describe('a turn that was begun before', () => {
  let house, model, caller, database, inference, builder;
  const shims = [];

  before(async () => {
    model = await startModel();
    house = await House.open('resume', { database: true });
    database = house.database;
    ({ shim: shims[0], inference, builder, caller } = await house.fleet({ model, settings: SETTINGS }));
    shims[1] = await house.shim(settings());
  });
  after(async () => {
    model.release();
    await house.close();
    await model.close();
  });

  const settings = () => ({ ...modelSettings(model), ...SETTINGS });

  async function begin() {
    const person = new Person();
    return { person, id: (await person.conversation(caller)).id };
  }

  const requestsOf = (question) => model.requests.filter((r) => r.question === question);
  const authorized = (person) => ({ authorization: `Bearer ${person.token}` });
  const open = (person, id, content, shim = shims[0]) => Stream.open(shim.port, `/api/chat/conversations/${id}/messages`, {
    body: { content }, headers: { ...authorized(person), accept: 'text/event-stream' },
  });
  const follow = (person, turnId, { shim = shims[1], last, query = '', ...options } = {}) =>
    Stream.open(shim.port, `/api/chat/turns/${turnId}/events${query}`, {
      method: 'GET', headers: { ...authorized(person), accept: 'text/event-stream', 'last-event-id': last }, ...options,
    });
  // Goes on where a stream ended.
  const resume = (person, turnId, stream, options) =>
    follow(person, turnId, { last: stream.last.id, text: stream.text, ...options });

  // The words that are left, until the model's request is done.
  async function sayAll(question, times = 1) {
    const done = () => requestsOf(question).length >= times && requestsOf(question).at(-1).closedAt !== undefined;
    await until('the model has said all', () => {
      model.release(question);
      return done();
    }, { every: 5 });
  }

  // Somebody's turn of which some words are told.
  async function underWay(words = 4) {
    const { person, id } = await begin();
    const question = ask('steps');
    const stream = await open(person, id, question);
    await stream.event('message.accepted');
    await model.step(question, words);
    await until('words are told', () => stream.text.trim().split(' ').length >= words - 1);
    return { person, id, question, stream, turnId: stream.events[0].data.turn_id };
  }

  function assertWhole(stream, question) {
    assert.equal(stream.last.event, 'message.completed', JSON.stringify(stream.last));
    assert.equal(stream.text, answerTo(question));
    assert.equal(stream.last.data.assistant_message.content, answerTo(question));
    assert.equal(stream.names.filter((name) => name === 'message.completed').length, 1);
  }

  describe('while it is under way', () => {
    it('is told from its beginning, to whoever comes', async () => {
      const { person, question, stream, turnId } = await underWay();
      const other = await follow(person, turnId);
      assert.equal(other.status, 200, other.raw);
      assert.ok(other.isStream);
      assertSecured(other);
      await other.has(Buffer.byteLength(stream.text));
      assert.equal(other.text, stream.text);
      await sayAll(question);
      await Promise.all([stream.ended, other.ended]);
      assertWhole(stream, question);
      assertWhole(other, question);
      assert.deepEqual(other.last.data, stream.last.data);
      assert.equal(other.last.id, stream.last.id);
      const [accepted] = other.events;
      assert.deepEqual([accepted.event, accepted.id], ['message.accepted', `${turnId}:1:0`]);
      assert.deepEqual(accepted.data, {
        turn_id: turnId, conversation_id: stream.events[0].data.conversation_id,
        user_message_id: stream.events[0].data.user_message.id, state: 'accepted',
      });
      assert.equal(requestsOf(question).length, 1);
    });

    it('goes on through another shim where it ended', async () => {
      const { person, id, question, stream, turnId } = await underWay();
      stream.leave();
      const other = await resume(person, turnId, stream);
      assert.deepEqual(other.names, []);
      await sayAll(question);
      await other.ended;
      assertWhole(other, question);
      assert.ok(!other.names.includes('message.accepted') && !other.names.includes('reset'));
      assert.equal(requestsOf(question).length, 1, 'whoever leaves changes nothing');
      const rows = await database.rows('SELECT content FROM chat.messages WHERE conversation_id = $1 ORDER BY seq', [id]);
      assert.deepEqual(rows.map((row) => row.content), [question, answerTo(question)]);
    });

    it('is told what came in between, in the first piece', async () => {
      const { person, question, stream, turnId } = await underWay();
      stream.leave();
      await model.step(question, 2);
      const other = await follow(person, turnId, {
        query: `?last_event_id=${encodeURIComponent(stream.last.id)}`, text: stream.text, shim: shims[0],
      });
      await other.event('delta');
      assert.equal(other.events[0].data.offset, Buffer.byteLength(stream.text));
      await sayAll(question);
      await other.ended;
      assertWhole(other, question);
    });

    it('goes on after its shim was killed', async () => {
      const shim = await house.shim(settings());
      const { person, id } = await begin();
      const question = ask('steps');
      const stream = await open(person, id, question, shim);
      await stream.event('message.accepted');
      await model.step(question, 4);
      await stream.event('delta');
      stream.ended.catch(() => {});
      await shim.kill();
      const other = await resume(person, stream.events[0].data.turn_id, stream);
      await sayAll(question);
      await other.ended;
      assertWhole(other, question);
    });

    it('begins anew after its worker was killed, and is saved once', async () => {
      const { person, id, question, stream, turnId } = await underWay();
      const other = await resume(person, turnId, stream);
      await until('its worker knows', () => other.comments > 0);
      await inference.kill();
      inference = await house.inference(settings());
      await until('the model is asked again', () => requestsOf(question).length === 2);
      await sayAll(question, 2);
      await Promise.all([stream.ended, other.ended]);
      for (const one of [stream, other]) {
        assertWhole(one, question);
        assert.equal(one.events.find(({ event }) => event === 'reset').data.epoch, 2);
      }
      assert.equal(await database.value('SELECT count(*)::int FROM chat.usage_tracking WHERE conversation_id = $1 AND status = \'completed\'', [id]), 1);
    });

    it('goes on when its shim has lost the broker', async () => {
      const shim = await house.shim(settings());
      const { person, question, stream, turnId } = await underWay();
      const other = await resume(person, turnId, stream, { shim });
      for (const { name } of await connections(house.vhost, `:${shim.pid} `, 2)) await closeConnection(name);
      await sayAll(question);
      await Promise.all([stream.ended, other.ended]);
      assertWhole(other, question);
      assert.ok(!other.names.includes('reset'));
    });

    it('is the same to all, however often each leaves and comes back elsewhere', async () => {
      const { person, id } = await begin();
      const question = ask('paced 5', Array.from({ length: 120 }, (_, i) => `word${i} €${'ä'.repeat(i % 4)}`).join(' '));
      const { json } = await person.say(shims[0], id, question, { headers: { prefer: 'respond-async' } });
      await Promise.all(Array.from({ length: 6 }, async (_, i) => {
        let [text, last, hops] = ['', undefined, 0];
        for (;;) {
          const stream = await follow(person, json.turn_id, { shim: shims[(i + hops) % 2], text, last });
          const some = Buffer.byteLength(text) + 40 * (i + 1);
          await Promise.race([stream.has(some), stream.ended]);
          if (stream.last?.event === 'message.completed') {
            assertWhole(stream, question);
            assert.ok(hops > 1, `${hops} hops`);
            return;
          }
          stream.leave();
          [text, last] = [stream.text, stream.last?.id ?? last];
          assert.ok(answerTo(question).startsWith(text));
          hops++;
        }
      }));
      assert.equal(requestsOf(question).length, 1);
    });

    it('may be an answer given anew', async () => {
      const { person, id } = await begin();
      const question = ask('held');
      const first = person.say(shims[0], id, question);
      await until('the model is asked', () => requestsOf(question).length === 1);
      model.release(question);
      const { json } = await first;
      const again = await person.http(shims[0], 'POST', `/conversations/${id}/messages/${json.user_message.id}/regenerate`, {},
                                      { headers: { prefer: 'respond-async' } });
      const other = await follow(person, again.json.turn_id);
      await other.event('message.accepted');
      await until('the model is asked', () => requestsOf(question).length === 2);
      model.release(question);
      await other.ended;
      assert.equal(other.text, answerTo(question));
      assert.equal(other.last.data.new_message.content, answerTo(question));
      const late = await follow(person, again.json.turn_id, { last: other.events[0].id });
      await late.ended;
      assert.deepEqual(late.last, other.last);
    });

    it('is followed although nobody makes its answer yet', async () => {
      const { person, id } = await begin();
      const question = ask('paced 20');
      builder.signal('SIGSTOP');
      const { json } = await person.say(shims[0], id, question, { headers: { prefer: 'respond-async' } });
      const other = await follow(person, json.turn_id);
      await until('nothing but comments comes', () => other.comments > 0);
      assert.deepEqual(other.names, ['message.accepted']);
      builder.thaw();
      await other.ended;
      assertWhole(other, question);
    });

    it('is followed by several, of whom some leave', async () => {
      const { person, question, stream, turnId } = await underWay();
      const others = await Promise.all(Array.from({ length: 6 }, (_, i) => follow(person, turnId, { shim: shims[i % 2] })));
      await Promise.all(others.map((other) => other.has(Buffer.byteLength(stream.text))));
      others[0].leave();
      others[1].leave();
      stream.leave();
      await sayAll(question);
      for (const other of others.slice(2)) {
        await other.ended;
        assertWhole(other, question);
      }
    });

    it('is told to all in the end, though not live to more than a few', async () => {
      const { person, question, stream, turnId } = await underWay();
      const others = await Promise.all(Array.from({ length: FOLLOWERS_MAX + 2 }, () => follow(person, turnId)));
      const length = Buffer.byteLength(stream.text);
      await until('some hear it', () => others.filter((other) => Buffer.byteLength(other.text) >= length).length === FOLLOWERS_MAX);
      // There is room again when one leaves.
      others.find((other) => other.text).leave();
      await until('another hears it', () => others.filter((other) => other.text).length === FOLLOWERS_MAX + 1);
      await sayAll(question);
      for (const other of others.filter(({ request }) => !request.destroyed)) {
        await other.ended;
        assertWhole(other, question);
      }
      await stream.ended;
    });

    // Pieces for one shim go together: not in a message that it would not take.
    it('is told to many at once, in pieces of any size', async () => {
      const { person, id } = await begin();
      const question = ask('steps 1400');
      const { json } = await person.say(shims[0], id, question, { headers: { prefer: 'respond-async' } });
      const all = await Promise.all(Array.from({ length: FOLLOWERS_MAX - 1 }, () => follow(person, json.turn_id)));
      await model.step(question, 2);
      await Promise.all(all.map((one) => one.has(4000)));
      for (const words of [2, 3]) {
        await model.step(question);
        await Promise.all(all.map((one) => one.has(words * 4000)));
      }
      assert.equal(valueOf(await metricsOf(shims[1].port), 'rpc_replies_oversized_total'), 0);
      assert.equal((await person.http(shims[1], 'POST', `/conversations/${id}/messages/${json.turn_id}/stop`, {})).status, 202);
      await Promise.all(all.map((one) => one.ended));
      for (const one of all) assert.equal(one.text, one.last.data.assistant_message.content);
      model.release(question);
    });

    it('is told from its beginning in several pieces, when it is too long for one', async () => {
      const { person, id } = await begin();
      const question = ask('steps 1400');
      const { json } = await person.say(shims[0], id, question, { headers: { prefer: 'respond-async' } });
      const deltasOf = (one) => caller.notices(one).filter(({ type }) => type === 'delta');
      const textOf = (one) => deltasOf(one).map(({ body }) => body.text).join('');
      const resumeTo = (correlationId) => caller.send('resume', { turn_id: json.turn_id, epoch: 1, offset: 0 }, {
        exchange: 'chat.control', key: '', mandatory: false, correlationId, headers: { 'x-user-id': person.id },
      });
      const [early, late] = [randomUUID(), randomUUID()];
      await until('the model is asked', () => requestsOf(question).length === 1);
      await resumeTo(early);
      await model.step(question, 11);
      await until('ten words have come', () => Buffer.byteLength(textOf(early)) > 41000);
      await resumeTo(late);
      await until('they come again', () => textOf(late) === textOf(early));
      assert.ok(deltasOf(late).every(({ body }) => Buffer.byteLength(JSON.stringify(body)) < 40000));
      let offset = 0;
      for (const { body, headers } of deltasOf(late)) {
        assert.equal(headers['x-offset'], offset);
        offset += Buffer.byteLength(body.text);
      }
      await sayAll(question);
      const letter = await caller.take('inference.dlq'); // the answer is too large for the next step
      assert.match(letter.properties.headers['x-error'], /takes \d+ bytes, and a message at most 40000/);
    });

    it('is told that it failed', async () => {
      const { person, id } = await begin();
      const question = ask('held-refused');
      const stream = await open(person, id, question);
      await stream.event('message.accepted');
      const turnId = stream.events[0].data.turn_id;
      const other = await follow(person, turnId);
      await other.event('message.accepted');
      await until('the model is asked', () => requestsOf(question).length === 1);
      model.release(question);
      await Promise.all([stream.ended, other.ended]);
      assert.deepEqual(other.names.filter((name) => name !== 'interim'), ['message.accepted', 'error']);
      assert.deepEqual(other.last.data, (await person.turn(caller, turnId)).problem);
    });

    it('is told that it was stopped', async () => {
      const { person, id, question, stream, turnId } = await underWay();
      const other = await resume(person, turnId, stream);
      const { status } = await person.http(shims[1], 'POST', `/conversations/${id}/messages/${turnId}/stop`, {});
      assert.equal(status, 202);
      await Promise.all([stream.ended, other.ended]);
      assert.deepEqual(other.last.data, stream.last.data);
      assert.equal(other.last.data.assistant_message.metadata.ending, 'stopped');
      assert.equal(other.text, stream.text);
      model.release(question);
    });

    it('is left by a shim that must not wait for it any longer', async () => {
      const shim = await house.shim(settings());
      const { person, question, turnId, stream } = await underWay();
      const other = await follow(person, turnId, { shim });
      await other.event('delta');
      await shim.stop();
      await other.ended;
      assert.equal(other.last.event, 'error');
      assert.equal(other.last.data.status, 503);
      await sayAll(question);
      await stream.ended;
      assertWhole(stream, question);
    });

    it('is followed over AMQP', async () => {
      const { person, question, stream, turnId } = await underWay();
      const correlationId = randomUUID();
      const control = (type, body) => caller.send(type, { turn_id: turnId, ...body }, {
        exchange: 'chat.control', key: '', mandatory: false, correlationId, headers: { 'x-user-id': person.id },
      });
      const offset = Buffer.byteLength(stream.text.slice(0, 5));
      const textOf = () => caller.notices(correlationId).filter(({ type }) => type === 'delta')
        .map(({ body }) => body.text).join('');
      await control('resume', { epoch: 1, offset });
      await until('the rest comes', () => textOf().length >= stream.text.length - 5);
      assert.equal(caller.notices(correlationId)[0].headers['x-offset'], offset);
      assert.equal(caller.notices(correlationId)[0].headers['x-epoch'], 1);
      await sayAll(question);
      await until('the end comes', () => caller.notices(correlationId).at(-1).type === 'generated');
      assert.equal(stream.text.slice(0, 5) + textOf(), answerTo(question));
      await stream.ended;
    });
  });

  describe('and has ended', () => {
    let person, id, question, turn, content;

    before(async () => {
      ({ person, id } = await begin());
      question = ask('normal');
      const { json } = await person.say(shims[0], id, question);
      turn = await person.turn(caller, json.turn_id);
      content = answerTo(question);
    });

    it('is told as a whole', async () => {
      const stream = await follow(person, turn.id);
      await stream.ended;
      assert.deepEqual(stream.names, ['message.accepted', 'delta', 'message.completed']);
      assert.equal(stream.text, content);
      assert.deepEqual(stream.last.data, turn.result);
      assert.equal(stream.last.id, `${turn.id}:1:${Buffer.byteLength(content)}`);
    });

    it('is told from where the client is, between any two characters', async () => {
      let text = '';
      for (const character of [...content, '']) {
        const stream = await follow(person, turn.id, { last: `${turn.id}:1:${Buffer.byteLength(text)}`, text });
        await stream.ended;
        assert.equal(stream.text, content);
        assert.deepEqual(stream.names, text === content ? ['message.completed'] : ['delta', 'message.completed']);
        text += character;
      }
    });

    it('begins anew for who has another text', async () => {
      const inside = Buffer.byteLength(content.slice(0, content.indexOf('ö'))) + 1;
      for (const place of ['2:5', `1:${inside}`, '1:9999999999', '7:9999999999']) {
        const stream = await follow(person, turn.id.toUpperCase(), { last: `${turn.id}:${place}`, text: 'something else' });
        await stream.ended;
        assert.deepEqual(stream.names, ['reset', 'delta', 'message.completed'], place);
        assert.equal(stream.text, content);
      }
    });

    it('tells its failure', async () => {
      const failed = await person.say(shims[0], id, ask('status 400'));
      const stream = await follow(person, failed.json.turn_id);
      await stream.ended;
      assert.deepEqual(stream.names, ['error']);
      assert.deepEqual(stream.last.data, (await person.turn(caller, failed.json.turn_id)).problem);
    });

    it('is not there for others', async () => {
      assertProblem(await follow(new Person(), turn.id), 404);
      assertProblem(await follow(new Person({ id: person.id, tenant: 'elsewhere' }), turn.id), 404);
      assertProblem(await follow(person, uuid7()), 404);
      assertProblem(await follow(person, 'none'), 400);
      const nobody = await Stream.open(shims[0].port, `/api/chat/turns/${turn.id}/events`, { method: 'GET' });
      assertProblem(nobody, 401);
    });

    it('is not told to who says wrongly where he is', async () => {
      for (const last of ['x', turn.id, `${turn.id}:1`, `${turn.id}:1:`, `${turn.id}:1:x`, `${turn.id}:0:1`, `${turn.id}:1:-1`,
                          `${turn.id}:1:1:1`, `${turn.id}:12345678901:1`, `${uuid7()}:1:1`]) {
        assertProblem(await follow(person, turn.id, { last }), 400);
        assertProblem(await follow(person, turn.id, { query: `?last_event_id=${last}` }), 400);
      }
    });
  });

  describe('without a word yet', { concurrency: true }, () => {
    for (const [language, text, wanted] of [
      ['English', 'What is it that you can do for me?', /still working/],
      ['Indonesian', 'Apa yang bisa kamu lakukan untuk saya?', /masih mengerjakannya/],
    ]) {
      it(`says so in ${language} to all who wait, and keeps it nowhere`, async () => {
        const { person, id } = await begin();
        const question = ask('held', text);
        const stream = await open(person, id, question);
        await stream.event('message.accepted');
        const turnId = stream.events[0].data.turn_id;
        const other = await follow(person, turnId);
        await Promise.all([stream.event('interim'), other.event('interim')]);
        const late = await follow(person, turnId, { shim: shims[0] });
        await late.event('interim');
        model.release(question);
        for (const one of [stream, other, late]) {
          await one.ended;
          assertWhole(one, question);
          const told = one.events.filter(({ event }) => event === 'interim');
          assert.equal(told.length, 1);
          assert.match(told[0].data.text, wanted);
          assert.equal(told[0].data.turn_id, turnId);
          assert.ok('estimated_response_time' in told[0].data);
          assert.equal(told[0].id, `${turnId}:1:0`);
        }
        const { conversation, messages } = (await person.http(shims[0], 'GET', `/conversations/${id}`)).json;
        assert.equal(conversation.id, id);
        assert.deepEqual(messages.map(({ content }) => content), [question, answerTo(question)]);
      });
    }

    it('says so over AMQP', async () => {
      const { person, id } = await begin();
      const question = ask('held');
      const correlationId = randomUUID();
      const answer = person.send(caller, id, question, { stream: true }, { correlationId });
      await until('it is said', () => caller.notices(correlationId).some(({ type }) => type === 'interim'));
      model.release(question);
      const { notices, status } = await answer;
      assert.equal(status, 200);
      assert.deepEqual([...new Set(notices.map(({ type }) => type))], ['accepted', 'interim', 'delta']);
      assert.deepEqual(notices[1].headers['x-offset'], undefined);
    });
  });

  it('leaves nothing behind', () => until('no call and no stream is left', async () => {
    const all = await Promise.all(shims.map((shim) => metricsOf(shim.adminPort)));
    return all.every((m) => valueOf(m, 'rpc_calls_pending') === 0 && valueOf(m, 'http_streams') === 0);
  }));
});
