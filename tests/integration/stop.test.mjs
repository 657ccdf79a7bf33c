// Answers that their users stop: while they are made, before, and after.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { House, modelSettings } from './lib/house.mjs';
import { metricsOf, request } from './lib/http.mjs';
import { closeConnection, connections } from './lib/management.mjs';
import { answerTo, startModel } from './lib/model.mjs';
import { valueOf } from './lib/metrics.mjs';
import { Person } from './lib/person.mjs';
import { assertProblem } from './lib/problem.mjs';
import { Stream } from './lib/sse.mjs';
import { uuid7 } from './lib/uuid.mjs';
import { until } from './lib/wait.mjs';

const SETTINGS = {
  MODEL_FIRST_TOKEN_TIMEOUT_SECONDS: '60', MODEL_IDLE_TIMEOUT_SECONDS: '60', MODEL_TIMEOUT_SECONDS: '120',
};
const REMEMBERED = 4096; // stops of turns to come
const PARTIAL = 'Some words'; // what mode "stall" says

const ask = (mode, text = 'What then?') => `[model:${mode}] ${text} ${randomUUID()}`;

describe('stopping', () => {
  let house, model, fleet, shim, caller, database;

  before(async () => {
    model = await startModel();
    house = await House.open('stop', { database: true });
    database = house.database;
    fleet = await house.fleet({ model, settings: SETTINGS });
    fleet.second = await house.inference(settings());
    ({ shim, caller } = fleet);
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
  const isAsked = (question, times = 1) =>
    until('the model is asked', () => requestsOf(question).length >= times && requestsOf(question)[0]);
  const stop = (person, id, message) =>
    person.http(shim, 'POST', `/conversations/${id}/messages/${message}/stop`, {});
  const open = (person, id, content) => Stream.open(shim.port, `/api/chat/conversations/${id}/messages`, {
    body: { content }, headers: { authorization: `Bearer ${person.token}`, accept: 'text/event-stream' },
  });
  const isStopped = (person, turnId) => until('the turn is stopped', async () => {
    const turn = await person.turn(caller, turnId);
    return turn.state === 'stopped' && turn;
  });
  const saved = (id) => database.rows('SELECT * FROM chat.messages WHERE conversation_id = $1 ORDER BY seq', [id]);
  const billed = (id) => database.rows('SELECT * FROM chat.usage_tracking WHERE conversation_id = $1', [id]);

  describe('an answer under way', () => {
    for (const which of ['turn', 'question', 'answer']) {
      it(`closes its request to the model and saves what came: by the ${which}'s id`, async (t) => {
        const { person, id } = await begin();
        const question = ask('stall');
        const stream = await open(person, id, question);
        await stream.has(PARTIAL.length);
        const { turn_id: turnId, user_message: message } = stream.events[0].data;
        const ids = {
          turn: turnId, question: message.id.toUpperCase(),
          answer: (await person.turn(caller, turnId)).assistant_message_id,
        };

        const asked = performance.now();
        const answer = await stop(person, id, ids[which]);
        assert.equal(answer.status, 202, answer.text);
        assert.deepEqual(answer.json, { turn_id: turnId, conversation_id: id, state: 'accepted', stopping: true });
        assert.equal(answer.headers.location, `/api/chat/turns/${turnId}`);

        const [request] = requestsOf(question);
        await until('the request to the model is closed', () => request.closed, { every: 1 });
        t.diagnostic(`closed ${(request.closedAt - asked).toFixed(1)} ms after the stop was sent`);
        await stream.ended;
        assert.equal(stream.last.event, 'message.completed');
        const { assistant_message: told, usage } = stream.last.data;
        assert.equal(told.content, PARTIAL);
        assert.equal(told.metadata.ending, 'stopped');
        assert.equal(stream.text, PARTIAL);

        const turn = await isStopped(person, turnId);
        assert.deepEqual(turn.result, stream.last.data);
        assert.equal(turn.problem, null);
        assert.deepEqual((await saved(id)).map((row) => row.content), [question, PARTIAL]);
        const bills = await billed(id);
        assert.equal(bills.length, 1);
        assert.ok(usage.prompt_tokens > 0 && usage.completion_tokens > 0);
        assert.equal(bills[0].completion_tokens, usage.completion_tokens);
        assert.equal(requestsOf(question).length, 1);
      });
    }

    it('closes them soon, again and again', async (t) => {
      const { person, id } = await begin();
      const times = [];
      for (let i = 0; i < 20; i++) {
        const question = ask('stall');
        const stream = await open(person, id, question);
        await stream.has(PARTIAL.length);
        const asked = performance.now();
        await stop(person, id, stream.events[0].data.turn_id);
        const [upstream] = requestsOf(question);
        await until('the request to the model is closed', () => upstream.closed, { every: 1 });
        times.push(upstream.closedAt - asked);
        await stream.ended;
      }
      times.sort((a, b) => a - b);
      t.diagnostic(`from the stop to the close: median ${times[10].toFixed(1)} ms, at most ${times[19].toFixed(1)} ms`);
      assert.equal((await billed(id)).length, 20);
    });

    it('gives a caller who waits for the whole what there is', async () => {
      const { person, id } = await begin();
      const question = ask('mute');
      const answer = person.say(shim, id, question);
      await isAsked(question);
      const [{ id: message }] = await saved(id);
      assert.equal((await stop(person, id, message)).status, 202);
      const { status, json } = await answer;
      assert.equal(status, 200);
      assert.equal(json.assistant_message.content, '');
      assert.equal(json.assistant_message.metadata.ending, 'stopped');
      await until('the request to the model is closed', () => requestsOf(question)[0].closed);
      assert.equal((await billed(id)).length, 1);
      // The conversation goes on, without it.
      const next = ask('normal');
      assert.equal((await person.say(shim, id, next)).json.assistant_message.content, answerTo(next));
      const prompt = requestsOf(next)[0].body.messages;
      assert.ok(!prompt.some((m) => m.role === 'assistant'));
    });

    it('is stopped over AMQP, and its caller hears of it there', async () => {
      const { person, id } = await begin();
      const question = ask('stall');
      const messageId = uuid7();
      const correlationId = randomUUID();
      const answer = person.send(caller, id, question, { stream: true }, { messageId, correlationId });
      await until('text comes', () => caller.notices(correlationId).some(({ type }) => type === 'delta'));
      const { status, body } = await person.call(caller, 'message.stop', { conversation_id: id, message_id: messageId });
      assert.deepEqual([status, body], [202, { turn_id: messageId, conversation_id: id, state: 'accepted', stopping: true }]);
      const reply = await answer;
      assert.deepEqual([reply.type, reply.status], ['reply', 200]);
      assert.equal(reply.body.assistant_message.content, PARTIAL);
      assert.equal(reply.notices.slice(1).map((delta) => delta.body.text).join(''), PARTIAL);
    });

    it('is stopped once, however often that is said', async () => {
      const { person, id } = await begin();
      const question = ask('stall');
      const stream = await open(person, id, question);
      await stream.has(PARTIAL.length);
      const turnId = stream.events[0].data.turn_id;
      const answers = await Promise.all(Array.from({ length: 8 }, () => stop(person, id, turnId)));
      for (const { status, json } of answers) {
        assert.ok(status === 202 ? json.stopping : status === 200 && json.state === 'stopped', JSON.stringify(json));
      }
      assert.ok(answers.some(({ status }) => status === 202));
      await stream.ended;
      const turn = await isStopped(person, turnId);
      const again = await stop(person, id, turnId);
      assert.deepEqual([again.status, again.json],
                       [200, { turn_id: turnId, conversation_id: id, state: 'stopped', stopping: false }]);
      assert.deepEqual(await person.turn(caller, turnId), turn);
      assert.equal((await billed(id)).length, 1);
    });

    it('is the one that was asked for last, if its question was asked again', async () => {
      const { person, id } = await begin();
      const question = ask('flaky 1 400'); // fails at first
      const first = await person.say(shim, id, question);
      assert.equal(first.status, 502);
      const message = first.json.user_message_id;
      const again = (await person.http(shim, 'POST', `/conversations/${id}/messages/${message}/regenerate`, {})).json;
      const { status, json } = await stop(person, id, message);
      assert.deepEqual([status, json.turn_id, json.state], [200, again.turn_id, 'completed']);
    });
  });

  describe('a turn that is not being answered', () => {
    it('changes nothing when it has ended', async () => {
      const { person, id } = await begin();
      const { json } = await person.say(shim, id, ask('normal'));
      const turn = await person.turn(caller, json.turn_id);
      for (const message of [json.turn_id, json.user_message.id, json.assistant_message.id]) {
        const answer = await stop(person, id, message);
        assert.deepEqual([answer.status, answer.json],
                         [200, { turn_id: json.turn_id, conversation_id: id, state: 'completed', stopping: false }]);
      }
      assert.deepEqual(await person.turn(caller, json.turn_id), turn);
      const failed = await person.say(shim, id, ask('status 400'));
      const { status, json: said } = await stop(person, id, failed.json.turn_id);
      assert.deepEqual([status, said.state, said.stopping], [200, 'failed', false]);
    });

    it('is not there for others, nor elsewhere', async () => {
      const { person, id } = await begin();
      const other = await begin();
      const { id: second } = await person.conversation(caller);
      const stream = await open(person, id, ask('stall'));
      await stream.has(PARTIAL.length);
      const turnId = stream.events[0].data.turn_id;
      assertProblem(await stop(other.person, id, turnId), 404);
      assertProblem(await stop(other.person, other.id, turnId), 404);
      assertProblem(await stop(person, second, turnId), 404);
      assertProblem(await stop(person, id, randomUUID()), 404);
      assertProblem(await stop(person, id, uuid7()), 404);
      assertProblem(await stop(person, id, 'none'), 400);
      // Whoever may publish there is trusted, but means only what he may mean.
      for (const who of [other.person, { id: person.id, tenant: 'elsewhere' }]) {
        await caller.send('stop', { turn_id: turnId }, {
          exchange: 'chat.control', key: '', mandatory: false,
          headers: { 'x-user-id': who.id, 'x-tenant-id': who.tenant },
        });
      }
      for (const body of [{}, { turn_id: 7 }, { turn_id: 'x' }, [], 'text']) {
        await caller.send('stop', body, { exchange: 'chat.control', key: '', mandatory: false, headers: { 'x-user-id': person.id } });
      }
      assert.equal((await person.turn(caller, turnId)).state, 'accepted');
      assert.ok(!requestsOf(stream.events[0].data.user_message.content)[0].closed);
      assert.equal((await stop(person, id, turnId)).status, 202);
      await stream.ended;
    });

    it('is not answered, when the model was to be asked again', async () => {
      const { person, id } = await begin();
      const question = ask('flaky 2 500');
      const answer = person.say(shim, id, question);
      await isAsked(question, 2); // the next time is five seconds later
      const [{ id: message }] = await saved(id);
      assert.equal((await stop(person, id, message)).status, 202);
      const { status, json } = await answer;
      assert.equal(status, 200, JSON.stringify(json));
      assert.deepEqual([json.assistant_message.content, json.assistant_message.metadata.ending], ['', 'stopped']);
      assert.deepEqual([json.usage.total_tokens, json.usage.cost, json.usage.model], [0, 0, 'none']);
      assert.equal(requestsOf(question).length, 2);
    });

    it('is not answered, when it is stopped before its prompt is made', async () => {
      const { person, id } = await begin();
      const question = ask('normal');
      fleet.builder.signal('SIGSTOP');
      const stream = await open(person, id, question);
      await stream.event('message.accepted');
      assert.equal((await stop(person, id, stream.events[0].data.turn_id)).status, 202);
      fleet.builder.thaw();
      await stream.ended;
      assert.deepEqual(stream.names, ['message.accepted', 'message.completed']);
      assert.equal(stream.last.data.assistant_message.content, '');
      assert.equal(stream.last.data.assistant_message.metadata.ending, 'stopped');
      assert.equal(requestsOf(question).length, 0);
      assert.equal((await billed(id)).length, 1);
    });

    it('is remembered by the workers, among a bounded number', async () => {
      const { person, id } = await begin();
      const heard = async () => valueOf(await metricsOf(fleet.inference.adminPort), 'worker_control_messages_total');
      const tell = (turnId) => caller.send('stop', { turn_id: turnId }, {
        exchange: 'chat.control', key: '', mandatory: false, headers: { 'x-user-id': person.id },
      });
      const forgotten = uuid7();
      const remembered = uuid7();
      const before = await heard();
      await tell(forgotten);
      await Promise.all(Array.from({ length: REMEMBERED - 1 }, () => tell(randomUUID())));
      await tell(remembered);
      await until('all are heard', async () => await heard() - before === REMEMBERED + 1);
      for (const [messageId, content, ending] of [[forgotten, 'Yes.', undefined], [remembered, '', 'stopped']]) {
        const { status, body } = await person.send(caller, id, ask('instant'), {}, { messageId });
        assert.equal(status, 200);
        assert.deepEqual([body.assistant_message.content, body.assistant_message.metadata.ending], [content, ending]);
      }
    });

    it('is stopped also when nobody heard of it', async () => {
      const { person, id } = await begin();
      const question = ask('normal');
      await Promise.all([fleet.inference.stop(), fleet.second.stop()]);
      const stream = await open(person, id, question);
      await stream.event('message.accepted');
      const turnId = stream.events[0].data.turn_id;
      assert.equal((await stop(person, id, turnId)).status, 202);
      fleet.inference = await house.inference(settings());
      await stream.ended;
      // It was made in vain, and is saved and counted as what it is.
      const { assistant_message: answer } = stream.last.data;
      assert.deepEqual([answer.content, answer.metadata.ending], [answerTo(question), 'stopped']);
      assert.deepEqual((await isStopped(person, turnId)).result, stream.last.data);
      assert.equal((await billed(id)).length, 1);
    });
  });

  it('is heard of after the broker was lost', async () => {
    const { person, id } = await begin();
    const worker = fleet.inference;
    const times = async () => valueOf(await metricsOf(worker.adminPort), 'amqp_connections_total', { connection: 'consume' });
    const before = await times();
    const [consumer] = await connections(house.vhost, `:${worker.pid} consume`, 1);
    await closeConnection(consumer.name);
    await until('the worker is back', async () =>
      await times() > before && (await request(worker.adminPort, '/health')).json.consuming);
    const question = ask('stall');
    const stream = await open(person, id, question);
    await stream.has(PARTIAL.length);
    assert.equal((await stop(person, id, stream.events[0].data.turn_id)).status, 202);
    await stream.ended;
    assert.equal(stream.last.data.assistant_message.content, PARTIAL);
    assert.ok(requestsOf(question)[0].closed);
  });
});
