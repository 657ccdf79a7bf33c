// Turns whose answers are streamed, not waited for, asked for again, late or never there.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { House } from './lib/house.mjs';
import { answerTo, startModel } from './lib/model.mjs';
import { Person } from './lib/person.mjs';
import { assertProblem } from './lib/problem.mjs';
import { Stream } from './lib/sse.mjs';
import { uuid7 } from './lib/uuid.mjs';
import { until } from './lib/wait.mjs';

const SETTINGS = {
  MODEL_FIRST_TOKEN_TIMEOUT_SECONDS: '10', MODEL_IDLE_TIMEOUT_SECONDS: '10', MODEL_TIMEOUT_SECONDS: '120',
};

// Somebody with a conversation.
async function begin(caller) {
  const person = new Person();
  const { id } = await person.conversation(caller);
  return { person, id };
}

// A question that no other test asks, for this mode of the model.
const ask = (mode, text = 'What then?') => `${mode ? `[model:${mode}] ` : ''}${text} ${randomUUID()}`;

async function contentsOf(database, id) {
  const rows = await database.rows('SELECT * FROM chat.messages WHERE conversation_id = $1 ORDER BY seq', [id]);
  assert.deepEqual(rows.map((row) => Number(row.seq)), rows.map((_, i) => i + 1));
  return rows.map((row) => row.content);
}

const countOf = (database, table, id) =>
  database.value(`SELECT count(*)::int FROM chat.${table} WHERE conversation_id = $1`, [id]);

// The text of the deltas, which follow one another without a hole.
function textOf(deltas, epoch) {
  let text = '';
  for (const { headers, body, properties } of deltas) {
    assert.equal(headers['x-epoch'], epoch);
    assert.equal(headers['x-offset'], Buffer.byteLength(text));
    assert.equal(properties.deliveryMode, 1);
    assert.ok(!body.text.includes('\ufffd'), 'no character is cut');
    text += body.text;
  }
  return text;
}

// All at once: each has conversations and questions of its own, and some take their time.
describe('turns', { concurrency: true }, () => {
  describe('with a model', () => {
    let house, database, model, shim, caller, unanswered;

    before(async () => {
      model = await startModel();
      house = await House.open('turns', { database: true });
      database = house.database;
      ({ shim, caller } = await house.fleet({ model, settings: SETTINGS }));
      unanswered = await neverAnswered(); // takes a minute
    });
    after(async () => {
      model.release();
      await house.close();
      await model.close();
    });

    const regenerate = (person, id, message, { key, ...body } = {}) =>
      person.http(shim, 'POST', `/conversations/${id}/messages/${message}/regenerate`, body,
                  { headers: key ? { 'idempotency-key': key } : {} });
    const asked = (question) => model.requests.filter((r) => r.question === question).length;
    const isAsked = (question, times = 1) => until('the model is asked', () => asked(question) >= times);
    const stateIs = (person, turnId, state) => until(`the turn is ${state}`, async () => {
      const turn = await person.turn(caller, turnId);
      return turn.state === state && turn;
    });
    const open = (person, id, content, body = {}) => Stream.open(shim.port, `/api/chat/conversations/${id}/messages`, {
      body: { content, ...body }, headers: { authorization: `Bearer ${person.token}`, accept: 'text/event-stream' },
    });

    // A turn that the shim will have waited for in vain.
    async function neverAnswered() {
      const { person, id } = await begin(caller);
      const question = ask('held');
      const answer = person.http(shim, 'POST', `/conversations/${id}/messages`, { content: question },
                                 { headers: { 'idempotency-key': 'late' }, limit: 100000 });
      answer.catch(() => {});
      await isAsked(question);
      return { person, id, question, answer };
    }

    describe('streamed over AMQP', () => {
      for (const mode of ['normal', 'paced 5', 'split', 'plain']) {
        it(`come in pieces and then whole: ${mode}`, async () => {
          const { person, id } = await begin(caller);
          const question = ask(mode, 'घर 你好 👩‍👩‍👧‍👦');
          const messageId = uuid7();
          const { type, status, body, notices } = await person.send(caller, id, question, { stream: true }, { messageId });
          assert.deepEqual([type, status], ['reply', 200], JSON.stringify(body));
          const [accepted, ...deltas] = notices;
          assert.equal(accepted.type, 'accepted');
          assert.deepEqual(accepted.body, {
            turn_id: messageId, conversation_id: id, user_message: body.user_message, state: 'accepted',
          });
          assert.ok(deltas.length >= 1);
          assert.ok(deltas.every((delta) => delta.type === 'delta'));
          assert.equal(textOf(deltas, 1), body.assistant_message.content);
          assert.equal(body.assistant_message.content, answerTo(question));
          assert.deepEqual(await contentsOf(database, id), [question, answerTo(question)]);
        });
      }

      it('begin with the acceptance, long before the answer is there', async () => {
        const { person, id } = await begin(caller);
        const question = ask('held');
        const messageId = uuid7();
        const correlationId = randomUUID();
        const answer = person.send(caller, id, question, { stream: true }, { messageId, correlationId });
        await until('it is accepted', () => caller.notices(correlationId).length === 1);
        assert.deepEqual(await contentsOf(database, id), [question], 'and then it is saved');
        await isAsked(question);
        model.release(question);
        assert.equal((await answer).status, 200);
      });

      it('are 16 at once, each with its own text', async () => {
        const { person, id } = await begin(caller);
        await Promise.all(Array.from({ length: 16 }, async (_, i) => {
          const question = ask(`paced ${i % 5}`, `number ${i}`);
          const { status, body, notices } = await person.send(caller, id, question, { stream: true });
          assert.equal(status, 200);
          assert.equal(textOf(notices.slice(1), 1), answerTo(question));
          assert.equal(body.assistant_message.content, answerTo(question));
        }));
        assert.equal((await contentsOf(database, id)).length, 32);
      });

      it('have a higher epoch when they had to be begun again', async () => {
        const { person, id } = await begin(caller);
        const question = ask('flaky 1');
        const { status, body, notices } = await person.send(caller, id, question, { stream: true });
        assert.equal(status, 200, JSON.stringify(body));
        assert.equal(asked(question), 2);
        assert.equal(textOf(notices.slice(1), 2), answerTo(question));
        assert.equal(body.assistant_message.metadata.epoch, 2);
        assert.equal(await countOf(database, 'usage_tracking', id), 1);
      });

      it('come without pieces when nobody asked for them', async () => {
        const { person, id } = await begin(caller);
        const question = ask();
        const { notices } = await person.send(caller, id, question, { stream: false });
        assert.deepEqual(notices, []);
        assert.equal(model.requests.find((r) => r.question === question).body.stream, undefined);
      });
    });

    describe('streamed over HTTP', () => {
      it('tell the acceptance, the text and the whole', async () => {
        const { person, id } = await begin(caller);
        const question = ask('paced 5', 'घर 你好 🚀');
        const stream = await open(person, id, question);
        assert.equal(stream.status, 200, stream.raw);
        await stream.ended;
        assert.equal(stream.names[0], 'message.accepted');
        assert.equal(stream.names.at(-1), 'message.completed');
        assert.equal(stream.text, answerTo(question));
        const whole = stream.last.data;
        assert.equal(whole.assistant_message.content, answerTo(question));
        assert.deepEqual(whole.user_message, stream.events[0].data.user_message);
        const turn = await person.turn(caller, stream.events[0].data.turn_id);
        assert.deepEqual(turn.result, whole);
      });

      it('go on when the client leaves, whenever that is', async () => {
        await Promise.all([
          async () => {}, // as soon as the head is there
          (stream) => stream.event('message.accepted'),
          (stream) => stream.event('delta'),
          (stream) => stream.event('delta', 3),
        ].map(async (moment) => {
          const { person, id } = await begin(caller);
          const question = ask('paced 30');
          const stream = await open(person, id, question);
          await moment(stream);
          stream.leave();
          const turnId = stream.headers['x-correlation-id'];
          const { result } = await stateIs(person, turnId, 'completed');
          assert.equal(result.assistant_message.content, answerTo(question));
          assert.deepEqual(await contentsOf(database, id), [question, answerTo(question)]);
          assert.equal(await countOf(database, 'usage_tracking', id), 1);
          assert.equal(asked(question), 1);
        }));
      });

      it('end with an error that names turn and question when the model breaks off', async () => {
        const { person, id } = await begin(caller);
        const stream = await open(person, id, ask('drop'));
        await stream.ended;
        assert.equal(stream.last.event, 'error');
        const { status, turn_id: turnId, user_message_id: messageId } = stream.last.data;
        assert.equal(status, 502);
        assert.equal(messageId, stream.events[0].data.user_message.id);
        assert.equal((await person.turn(caller, turnId)).state, 'failed');
      });
    });

    describe('that are not waited for', () => {
      it('are accepted over HTTP with their address', async () => {
        const { person, id } = await begin(caller);
        const question = ask('held');
        const answer = await person.say(shim, id, question, { headers: { prefer: 'respond-async' } });
        assert.equal(answer.status, 202, answer.text);
        const { turn_id: turnId, user_message: message, ...rest } = answer.json;
        assert.deepEqual(rest, { conversation_id: id, state: 'accepted' });
        assert.equal(message.content, question);
        assert.equal(answer.headers.location, `/api/chat/turns/${turnId}`);
        assert.equal(answer.headers['preference-applied'], 'respond-async');
        const now = await person.turn(caller, turnId);
        assert.deepEqual([now.state, now.result, now.problem, now.finished_at], ['accepted', null, null, null]);
        await isAsked(question);
        model.release(question);
        const { result } = await stateIs(person, turnId, 'completed');
        assert.deepEqual(result.user_message, message);
        assert.equal(result.assistant_message.content, answerTo(question));
        const told = await person.http(shim, 'GET', answer.headers.location.replace('/api/chat', ''));
        assert.deepEqual(told.json.result, result);
      });

      it('are answered once over AMQP', async () => {
        const { person, id } = await begin(caller);
        const messageId = uuid7();
        const { type, status, body, properties, notices } =
          await person.send(caller, id, ask('normal'), { async: true }, { messageId });
        assert.deepEqual([type, status, body.turn_id, body.state, notices], ['reply', 202, messageId, 'accepted', []]);
        await stateIs(person, messageId, 'completed');
        await person.send(caller, id, 'what comes behind it');
        assert.equal(caller.replies.filter((m) => m.properties.correlationId === properties.correlationId).length, 1);
      });

      it('may be regenerated answers, too', async () => {
        const { person, id } = await begin(caller);
        const first = (await person.send(caller, id, ask())).body;
        const answer = await regenerate(person, id, first.user_message.id, { async: true });
        assert.equal(answer.status, 202, answer.text);
        assert.deepEqual(answer.json.user_message, first.user_message);
        const turn = await stateIs(person, answer.json.turn_id, 'completed');
        assert.equal(turn.kind, 'regenerate');
        assert.equal(turn.result.new_message.parent_message_id, first.user_message.id);
      });

      it('tell their failure when they are asked', async () => {
        const { person, id } = await begin(caller);
        const { body } = await person.send(caller, id, ask('status 401'), { async: true });
        const turn = await stateIs(person, body.turn_id, 'failed');
        assert.equal(turn.result, null);
        assert.equal(turn.problem.status, 502);
        assert.equal(turn.problem.turn_id, body.turn_id);
        assert.equal(turn.problem.user_message_id, body.user_message.id);
        assert.ok(Date.parse(turn.finished_at) >= Date.parse(turn.created_at));
      });
    });

    describe('with an idempotency key', () => {
      // Sends the same 20 times at once: the answers as they came, the last that of the turn itself.
      async function twentyTimes(send, question) {
        const answers = [];
        const all = Array.from({ length: 20 }, async () => { answers.push(await send()); });
        await isAsked(question);
        await until('all but one are told to wait', () => answers.length === 19);
        model.release(question);
        await Promise.all(all);
        return answers;
      }

      it('sent 20 times at once over HTTP are one turn', async () => {
        const { person, id } = await begin(caller);
        const question = ask('held');
        const send = () => person.say(shim, id, question, { key: 'one' });
        const answers = await twentyTimes(send, question);
        for (const answer of answers.slice(0, 19)) {
          assertProblem(answer, 409);
          assert.match(answer.headers['retry-after'], /^[1-9][0-9]*$/);
        }
        const done = answers[19];
        assert.equal(done.status, 200, done.text);
        assert.deepEqual(await contentsOf(database, id), [question, answerTo(question)]);
        assert.equal(await countOf(database, 'turns', id), 1);
        assert.equal(asked(question), 1);

        for (const args of [{}, { stream: false }, { content_type: undefined }]) {
          const again = await person.say(shim, id, question, { key: 'one', ...args });
          assert.equal(again.status, 200, again.text);
          assert.deepEqual(again.json, done.json);
        }
        const stream = await Stream.open(shim.port, `/api/chat/conversations/${id}/messages`, {
          body: { content: question }, headers: {
            authorization: `Bearer ${person.token}`, accept: 'text/event-stream', 'idempotency-key': 'one',
          },
        });
        await stream.ended;
        assert.deepEqual(stream.last.data, done.json);
        assert.equal(asked(question), 1);
        assert.equal(await countOf(database, 'usage_tracking', id), 1);
      });

      it('sent 20 times at once over AMQP are one turn', async () => {
        const { person, id } = await begin(caller);
        const question = ask('held');
        const send = () => person.send(caller, id, question, {}, { key: 'one' });
        const answers = await twentyTimes(send, question);
        assert.deepEqual(answers.map(({ status }) => status), [...Array(19).fill(409), 200]);
        assert.equal(await countOf(database, 'turns', id), 1);
        const again = await send();
        assert.deepEqual([again.status, again.body], [200, answers[19].body]);
        assert.equal(asked(question), 1);
      });

      it('sent 20 times to a model that answers at once have one outcome', async () => {
        const { person, id } = await begin(caller);
        const question = ask('instant');
        const answers = await Promise.all(Array.from({ length: 20 }, () => person.say(shim, id, question, { key: 'k' })));
        const good = answers.filter(({ status }) => status === 200);
        assert.ok(good.length >= 1);
        for (const answer of answers.filter(({ status }) => status !== 200)) assertProblem(answer, 409);
        for (const answer of good) assert.deepEqual(answer.json, good[0].json);
        assert.equal(await countOf(database, 'turns', id), 1);
        assert.equal((await contentsOf(database, id)).length, 2);
      });

      it('and other arguments are refused: 422', async () => {
        const { person, id } = await begin(caller);
        const { id: other } = await person.conversation(caller);
        const question = ask();
        const first = (await person.say(shim, id, question, { key: 'k' })).json;
        for (const [where, content, args] of [[id, `${question}!`], [id, question, { content_type: 'file' }],
                                              [other, question],
                                              [id, question, { parent_message_id: first.user_message.id }]]) {
          assertProblem(await person.say(shim, where, content, { key: 'k', ...args }), 422);
        }
        assertProblem(await regenerate(person, id, first.user_message.id, { key: 'k' }), 422);
        const made = await person.http(shim, 'POST', '/conversations', {}, { headers: { 'idempotency-key': 'k' } });
        assertProblem(made, 422);
        assert.deepEqual((await contentsOf(database, id)).length, 2);
        assert.deepEqual(await contentsOf(database, other), []);
        assert.equal(asked(question), 1);
      });

      it('may be tried again with the same one when they failed', async () => {
        const { person, id } = await begin(caller);
        const question = ask('flaky 1 401');
        const problem = assertProblem(await person.say(shim, id, question, { key: 'k' }), 502);
        const again = await person.say(shim, id, question, { key: 'k' });
        assert.equal(again.status, 200, again.text);
        assert.notEqual(again.headers['x-correlation-id'], problem.turn_id);
        assert.equal((await person.turn(caller, problem.turn_id)).state, 'failed');
        assert.deepEqual(await contentsOf(database, id), [question, question, answerTo(question)]);
        const once_more = await person.say(shim, id, question, { key: 'k' });
        assert.deepEqual(once_more.json, again.json);
      });

      it('answer anew once', async () => {
        const { person, id } = await begin(caller);
        const { user_message: { id: message } } = (await person.say(shim, id, ask())).json;
        const answers = [];
        for (let i = 0; i < 3; i++) answers.push(await regenerate(person, id, message, { key: 'anew' }));
        for (const answer of answers) {
          assert.equal(answer.status, 200, answer.text);
          assert.deepEqual(answer.json, answers[0].json);
        }
        assert.equal((await contentsOf(database, id)).length, 3);
      });

      it('make one conversation over HTTP, too', async () => {
        const person = new Person();
        const answers = await Promise.all(Array.from({ length: 20 }, () =>
          person.http(shim, 'POST', '/conversations', { title: 'One' }, { headers: { 'idempotency-key': 'c' } })));
        for (const answer of answers) {
          assert.equal(answer.status, 201, answer.text);
          assert.deepEqual(answer.json, answers[0].json);
        }
        assert.equal((await person.http(shim, 'GET', '/conversations')).json.total, 1);
      });
    });

    describe('whose message comes twice', () => {
      it('are saved, answered and billed once', async () => {
        const { person, id } = await begin(caller);
        const question = ask('held');
        const messageId = uuid7();
        const answers = [1, 2, 3].map(() => person.send(caller, id, question, {}, { messageId }));
        await isAsked(question, 3); // each goes its way: whether the first still lives nobody knows
        model.release(question);
        const bodies = (await Promise.all(answers)).map(({ status, body }) => {
          assert.equal(status, 200, JSON.stringify(body));
          return body;
        });
        const { body: later } = await person.send(caller, id, question, {}, { messageId });
        assert.equal(asked(question), 3, 'what is answered is not asked again');
        for (const body of [...bodies, later]) {
          assert.deepEqual([body.user_message.id, body.assistant_message.id, body.assistant_message.seq],
                           [bodies[0].user_message.id, bodies[0].assistant_message.id, 2]);
        }
        assert.deepEqual(await contentsOf(database, id), [question, answerTo(question)]);
        assert.equal(await countOf(database, 'turns', id), 1);
        // Each request was paid; one of them is the answer's.
        const paid = await database.rows('SELECT id, turn_id FROM chat.usage_tracking WHERE conversation_id = $1', [id]);
        assert.deepEqual(paid.filter((u) => u.turn_id === null).map((u) => u.id), [messageId]);
        assert.equal(paid.filter((u) => u.turn_id === messageId).length, 2);
      });

      it('are refused where the id is somebody else\'s: 409', async () => {
        const { person, id } = await begin(caller);
        const messageId = uuid7();
        await person.send(caller, id, 'mine', {}, { messageId });
        const other = await begin(caller);
        const { status, body } = await other.person.send(caller, other.id, 'theirs', {}, { messageId });
        assert.equal(status, 409, JSON.stringify(body));
        assert.ok(!JSON.stringify(body).includes('mine'));
        assert.deepEqual(await contentsOf(database, other.id), []);
      });

      it('are refused where the id is that of a turn in another conversation: 409', async () => {
        const { person, id } = await begin(caller);
        const other = await person.conversation(caller);
        const messageId = uuid7();
        await person.send(caller, other.id, 'there before');
        await person.send(caller, id, 'here', {}, { messageId });
        const { status, body } = await person.send(caller, other.id, 'there', {}, { messageId });
        assert.equal(status, 409, JSON.stringify(body));
        assert.equal((await contentsOf(database, other.id)).length, 2);
      });
    });

    describe('that fail', () => {
      for (const [mode, status, stream] of [
        ['status 401', 502], ['status 400', 502], ['status 404', 502], ['filtered', 502],
        ['status 500', 502], ['status 503', 503], ['status 429', 503], ['bad-json', 502], ['empty', 502], ['html', 502],
        ['silent', 504, true], ['mute', 504, true], ['stall', 504, true], ['drop', 502, true], ['truncate', 502, true],
        ['error-later', 502, true], ['status 500', 502, true],
      ]) {
        it(`say so and leave the history as it was${stream ? ', streaming' : ''}: ${mode}`, async () => {
          const { person, id } = await begin(caller);
          const question = ask(mode);
          let problem;
          if (stream) {
            const { type, status: given, body, notices, properties } =
              await person.send(caller, id, question, { stream: true }, { messageId: uuid7() });
            assert.equal(type, 'error', JSON.stringify(body));
            assert.equal(given, status);
            assert.equal(body.instance, properties.correlationId);
            assert.equal(notices[0].body.turn_id, body.turn_id);
            problem = body;
          } else {
            problem = assertProblem(await person.say(shim, id, question), status);
          }
          const broken = ['stall', 'drop', 'truncate', 'error-later'].includes(mode);
          const [row, ...others] = await database.rows(
            'SELECT id, content FROM chat.messages WHERE conversation_id = $1 ORDER BY seq', [id]);
          assert.equal(row.content, question, 'the question is saved');
          assert.deepEqual(others.map((m) => m.content), broken ? ['Some words'] : []);
          assert.equal(problem.user_message_id, row.id);
          assert.ok(!problem.detail.includes('any'), 'the key is not told');

          const turn = await person.turn(caller, problem.turn_id);
          assert.deepEqual([turn.state, turn.result, turn.problem.detail], ['failed', null, problem.detail]);
          assert.deepEqual((await person.http(shim, 'GET', `/turns/${problem.turn_id}`)).json, turn);
          const rows = await database.rows('SELECT turn_id FROM chat.usage_tracking WHERE conversation_id = $1', [id]);
          assert.ok(rows.every((u) => u.turn_id === problem.turn_id), 'no answer was paid');

          const next = ask();
          const answer = await person.say(shim, id, next);
          assert.equal(answer.status, 200, answer.text);
          assert.deepEqual([answer.json.user_message.seq, answer.json.assistant_message.seq], broken ? [3, 4] : [2, 3]);
          const prompt = model.requests.find((r) => r.question === next).body.messages;
          assert.deepEqual(prompt.slice(1).map((m) => m.content), [question, next]);
        });
      }
    });

    describe('that failed', () => {
      it('can have their question answered anew', async () => {
        const { person, id } = await begin(caller);
        const question = ask('flaky 1 401');
        const problem = assertProblem(await person.say(shim, id, question), 502);
        const answer = await regenerate(person, id, problem.user_message_id);
        assert.equal(answer.status, 200, answer.text);
        assert.equal(answer.json.new_message.content, answerTo(question));
        const { messages } = (await person.http(shim, 'GET', `/conversations/${id}/messages`)).json;
        assert.deepEqual(messages.map((m) => [m.content, m.superseded]),
                         [[question, undefined], [answerTo(question), undefined]]);
      });

      const dead = []; // letters of all these turns

      // A turn that failed, and how its step is replayed.
      const fail = async (person, id, question) => {
        const { turn_id: turnId } = assertProblem(await person.say(shim, id, question, { key: 'k' }), 502);
        const letter = await until('its dead letter', async () => {
          dead.push(...await caller.takeAll('inference.dlq'));
          return dead.find((m) => JSON.parse(m.content).turn.id === turnId);
        });
        return {
          turnId, replay: () => caller.call('inference.generate', letter.content, {
            ...letter.properties, replyTo: caller.replyTo, correlationId: randomUUID(),
          }),
        };
      };

      it('are completed when their dead letter is replayed', async () => {
        const { person, id } = await begin(caller);
        const question = ask('flaky 1 401');
        const { turnId, replay } = await fail(person, id, question);
        for (let i = 0; i < 2; i++) assert.equal((await replay()).status, 200);
        const { result, problem } = await stateIs(person, turnId, 'completed');
        assert.equal(problem, null);
        assert.equal(result.assistant_message.content, answerTo(question));
        await isAsked(question, 3);
        await person.send(caller, id, ask());
        assert.deepEqual((await contentsOf(database, id)).slice(0, 2), [question, answerTo(question)]);
        assert.equal(await database.value('SELECT count(*)::int FROM chat.usage_tracking WHERE id = $1', [turnId]), 1);
      });

      it('and are completed late have their idempotency key again', async () => {
        const { person, id } = await begin(caller);
        const question = ask('flaky 1 401');
        const { turnId, replay } = await fail(person, id, question);
        assert.equal((await replay()).status, 200);
        const again = await person.say(shim, id, question, { key: 'k' });
        assert.equal(again.status, 200);
        assert.equal(again.json.turn_id ?? turnId, turnId);
        assert.equal((await person.say(shim, id, 'something else', { key: 'k' })).status, 422);
        assert.deepEqual(await contentsOf(database, id), [question, answerTo(question)]);
      });

      it('stay so when their key stands for a later request', async () => {
        const { person, id } = await begin(caller);
        const question = ask('flaky 1 401');
        const { turnId, replay } = await fail(person, id, question);
        const again = await person.say(shim, id, question, { key: 'k' });
        assert.equal(again.status, 200);
        assert.equal((await replay()).status, 502);
        await stateIs(person, turnId, 'failed');
        assert.deepEqual((await person.say(shim, id, question, { key: 'k' })).json.assistant_message,
                         again.json.assistant_message);
        assert.deepEqual(await contentsOf(database, id), [question, question, answerTo(question)]);
        const paid = await database.rows('SELECT id, turn_id FROM chat.usage_tracking WHERE conversation_id = $1', [id]);
        assert.deepEqual(paid.map((u) => u.turn_id).sort(), [turnId, null], 'the replayed answer was paid, too');
      });
    });

    describe('whose conversation changes under them', () => {
      it('are completed when it is archived', async () => {
        const { person, id } = await begin(caller);
        const question = ask('held');
        const answer = person.say(shim, id, question);
        await isAsked(question);
        await person.http(shim, 'PUT', `/conversations/${id}`, { status: 'archived' });
        model.release(question);
        assert.equal((await answer).status, 200);
        assert.equal((await contentsOf(database, id)).length, 2);
      });

      it('end when it is deleted, and are not told of any more', async () => {
        const { person, id } = await begin(caller);
        const question = ask('held');
        const answer = person.say(shim, id, question);
        await isAsked(question);
        await person.http(shim, 'DELETE', `/conversations/${id}`);
        model.release(question);
        const { status, headers } = await answer;
        assert.ok([200, 404].includes(status), String(status));
        assertProblem(await person.http(shim, 'GET', `/turns/${headers['x-correlation-id']}`), 404);
        assertProblem(await person.http(shim, 'GET', `/conversations/${id}/messages`), 404);
      });

      it('end when it is deleted and the model fails', async () => {
        const { person, id } = await begin(caller);
        const question = ask('mute'); // until the worker has waited long enough
        const answer = person.send(caller, id, question, { stream: true });
        await isAsked(question);
        await person.http(shim, 'DELETE', `/conversations/${id}`);
        const { type, status } = await answer;
        assert.equal(type, 'error');
        assert.ok([404, 504].includes(status), String(status));
      });
    });

    describe('that nobody answers in time', () => {
      it('are named by the 504, and tell their outcome later', { timeout: 100000 }, async () => {
        const { person, id, question, answer } = unanswered;
        const problem = assertProblem(await answer, 504);
        assert.equal(problem.turn_id, (await answer).headers['x-correlation-id']);
        assert.ok(problem.detail.includes(problem.turn_id), problem.detail);
        const turn = await person.turn(caller, problem.turn_id);
        assert.deepEqual([turn.state, turn.result, turn.finished_at], ['accepted', null, null]);
        const early = await person.say(shim, id, question, { key: 'late' });
        assertProblem(early, 409);
        assert.match(early.headers['retry-after'], /^[1-9][0-9]*$/);

        model.release(question);
        const { result } = await stateIs(person, problem.turn_id, 'completed');
        assert.equal(result.assistant_message.content, answerTo(question));
        const again = await person.say(shim, id, question, { key: 'late' });
        assert.equal(again.status, 200, again.text);
        assert.deepEqual(again.json, result);
        assert.deepEqual(await contentsOf(database, id), [question, answerTo(question)]);
        assert.equal(asked(question), 1);
      });
    });
  });

  describe('without a model', () => {
    let house, shim, caller;

    before(async () => {
      house = await House.open('offline', { database: true });
      ({ shim, caller } = await house.fleet());
    });
    after(() => house.close());

    it('are answered by the offline provider, which says so', async () => {
      const question = 'Which career suits somebody who likes bridges?';
      const contents = [];
      for (let i = 0; i < 2; i++) {
        const { person, id } = await begin(caller);
        const answer = await person.say(shim, id, question);
        assert.equal(answer.status, 200, answer.text);
        const { assistant_message: message, usage } = answer.json;
        contents.push(message.content);
        assert.ok(message.content.includes(question), message.content);
        assert.deepEqual([message.metadata.model, message.metadata.provider, message.metadata.is_free_model],
                         ['offline', 'offline', true]);
        assert.deepEqual([usage.model, usage.cost, usage.is_free_model], ['offline', 0, true]);
        assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
        assert.ok(usage.prompt_tokens > 0 && usage.completion_tokens > 0);
        const [row] = await house.database.rows('SELECT * FROM chat.usage_tracking WHERE conversation_id = $1', [id]);
        assert.deepEqual([row.model_used, Number(row.cost_credits), row.total_tokens], ['offline', 0, usage.total_tokens]);
      }
      assert.equal(contents[0], contents[1], 'the same for the same prompt');
    });

    it('are streamed, too', async () => {
      const { person, id } = await begin(caller);
      const { body, notices } = await person.send(caller, id, 'Ceritakan tentang karir saya', { stream: true });
      assert.equal(textOf(notices.slice(1), 1), body.assistant_message.content);
    });
  });

  describe('with a model that cannot be reached', () => {
    let house, shim, caller;

    before(async () => {
      const model = await startModel();
      await model.close(); // its port is free now
      house = await House.open('unreachable', { database: true });
      ({ shim, caller } = await house.fleet({ model }));
    });
    after(() => house.close());

    it('fail after some attempts, and are never answered offline', async () => {
      const { person, id } = await begin(caller);
      const answer = await person.say(shim, id, ask());
      const problem = assertProblem(answer, 502);
      assert.equal((await person.turn(caller, problem.turn_id)).state, 'failed');
      const { messages } = (await person.http(shim, 'GET', `/conversations/${id}/messages`)).json;
      assert.deepEqual(messages.map((m) => m.id), [problem.user_message_id]);
    });
  });
});

describe('turns that cannot go on', () => {
  describe('whose history is larger than a message', () => {
    let house, shim, caller;

    before(async () => {
      house = await House.open('large', { database: true });
      ({ shim, caller } = await house.fleet({ settings: { MAX_MESSAGE_BYTES: '20000' } }));
    });
    after(() => house.close());

    it('fail, and free their idempotency key', async () => {
      const { person, id } = await begin(caller);
      await house.database.converse(person, id, 10, () => 'x'.repeat(3000));
      for (let i = 0; i < 2; i++) {
        const problem = assertProblem(await person.say(shim, id, ask(), { key: 'one' }), 500);
        assert.match(problem.detail, /context\.build/);
        assert.equal((await person.turn(caller, problem.turn_id)).state, 'failed');
      }
    });
  });

  describe('with nobody who takes their second step', () => {
    let house, caller;

    before(async () => {
      house = await House.open('alone', { database: true });
      await house.persistence();
      caller = await house.caller();
    });
    after(() => house.close()); // fails if the worker did

    it('fail, also when they were accepted already', async () => {
      const { person, id } = await begin(caller);
      const turns = Array.from({ length: 20 }, () => uuid7());
      const answers = await Promise.all(turns.map((messageId) =>
        person.send(caller, id, ask(), { async: true }, { messageId })));
      for (const { status } of answers) assert.ok([202, 501].includes(status), status); // the error may be the first
      for (const turn of turns) {
        const { problem } = await until('the turn is failed', async () => {
          const told = await person.turn(caller, turn);
          return told.state === 'failed' && told;
        });
        assert.equal(problem.status, 501);
      }
      assert.equal((await house.count('persistence.dlq')).messageCount, turns.length);
    });
  });
});
