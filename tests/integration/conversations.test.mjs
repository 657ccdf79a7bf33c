// Conversations by HTTP and by AMQP: every route, what each refuses, and who sees what.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { under } from './lib/database.mjs';
import { House } from './lib/house.mjs';
import { metricsOf, request } from './lib/http.mjs';
import { valueOf } from './lib/metrics.mjs';
import { Person } from './lib/person.mjs';
import { assertProblem, assertSecured } from './lib/problem.mjs';
import { bearer } from './lib/token.mjs';
import { SCRIPTS, characters } from './lib/texts.mjs';
import { uuid5, uuid7 } from './lib/uuid.mjs';
import { until } from './lib/wait.mjs';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const DAY = 24 * 60 * 60 * 1000;
const FIELDS = ['id', 'title', 'context_type', 'context_data', 'status', 'metadata', 'created_at', 'updated_at'];
const TABLES = ['conversations', 'messages', 'turns', 'usage_tracking', 'idempotency_keys', 'identities'];

describe('conversations', () => {
  let house, database, shim, worker, caller;

  before(async () => {
    house = await House.open('conversations', { database: true });
    database = house.database;
    [shim, worker, caller] = await Promise.all([house.shim(), house.persistence(), house.caller()]);
    // The shim asks the broker once a second who serves what.
    await until('conversations are served', async () =>
      (await new Person().http(shim, 'GET', '/conversations')).status === 200 &&
      (await new Person().http(shim, 'POST', '/conversations', {})).status === 201);
  });
  after(() => house.close());

  // All that there is, so that "nothing written" can be said.
  const content = async () => Object.values((await database.rows(`SELECT ${TABLES.map((table) =>
    `(SELECT md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) FROM chat.${table} t)`)}`))[0]);

  async function unchanged(work) {
    const earlier = await content();
    const result = await work();
    assert.deepEqual(await content(), earlier, 'nothing is written');
    return result;
  }

  function assertConversation(given, expected) {
    assert.deepEqual(Object.keys(given).sort(), [...FIELDS].sort());
    for (const name of ['created_at', 'updated_at']) {
      assert.match(given[name], ISO);
      assert.ok(Math.abs(Date.parse(given[name]) - Date.now()) < 60000, given[name]);
    }
    for (const [name, value] of Object.entries(expected)) assert.deepEqual(given[name], value, name);
  }

  const DEFAULTS = {
    title: 'New Conversation', context_type: 'general', context_data: null, status: 'active', metadata: null,
  };

  // Many at once, but not all.
  async function manyOf(count, work, atOnce = 25) {
    const results = [];
    let next = 0;
    await Promise.all(Array.from({ length: atOnce }, async () => {
      while (next < count) {
        const i = next++;
        results[i] = await work(i);
      }
    }));
    return results;
  }

  describe('create', () => {
    it('answers 201 with what was made', async () => {
      const person = new Person();
      const given = {
        title: 'Career', context_type: 'career_guidance', context_data: { riasec: { I: 92, R: 85.5 }, list: [1, null] },
        metadata: { source: 'web', nested: { yes: true } },
      };
      const answer = await person.http(shim, 'POST', '/conversations', given);
      assert.equal(answer.status, 201, answer.text);
      assert.match(answer.headers['content-type'], /^application\/json/);
      assertSecured(answer);
      assert.match(answer.json.id, UUID);
      assertConversation(answer.json, { ...given, status: 'active' });
      const [row] = await database.rows('SELECT * FROM chat.conversations WHERE id = $1', [answer.json.id]);
      assert.equal(row.user_id, person.id);
      assert.equal(row.tenant_id, 'default');
      assert.equal(row.title, 'Career');
      assert.deepEqual(row.context_data, given.context_data);
      assert.equal(row.deleted_at, null);
      assert.equal(row.next_seq, '1');
    });

    for (const [name, body] of [['no body', undefined], ['an empty body', ''], ['an empty object', {}],
                                ['nulls', { title: null, context_type: null, context_data: null, metadata: null }]]) {
      it(`takes ${name} for the defaults`, async () => {
        const answer = await new Person().http(shim, 'POST', '/conversations', body);
        assert.equal(answer.status, 201, answer.text);
        assertConversation(answer.json, DEFAULTS);
      });
    }

    for (const type of ['general', 'assessment', 'career_guidance']) {
      it(`knows the context type ${type}`, async () => {
        const conversation = await new Person().conversation(caller, { context_type: type });
        assert.equal(conversation.context_type, type);
      });
    }

    it('is there without the prefix, too, for a gateway that strips it', async () => {
      const headers = bearer();
      const made = await request(shim.port, '/conversations', { headers, body: {} });
      assert.equal(made.status, 201, made.text);
      assert.equal((await request(shim.port, `/conversations/${made.json.id}`, { headers })).status, 200);
    });

    it('keeps titles and data in every script', async () => {
      const person = new Person();
      await manyOf(Object.keys(SCRIPTS).length, async (i) => {
        const [script, sample] = Object.entries(SCRIPTS)[i];
        for (const length of [1, 255]) {
          const text = characters(sample, length);
          const data = { [text]: [text], script };
          const made = await person.http(shim, 'POST', '/conversations',
                                         { title: text, context_data: data, metadata: data });
          assert.equal(made.status, 201, `${script}: ${made.text}`);
          const { conversation } = (await person.http(shim, 'GET', `/conversations/${made.json.id}`)).json;
          assertConversation(conversation, { title: text, context_data: data, metadata: data });
          assert.equal(await database.value('SELECT title FROM chat.conversations WHERE id = $1', [made.json.id]), text);
        }
      }, 8);
    });

    it('keeps numbers, as far as they are numbers', async () => {
      const person = new Person();
      const numbers = {
        zero: 0, minus: -1, fraction: 0.1, tiny: 1e-21, exact: 2 ** 53 - 1, large: 1e21, larger: -1e21,
      };
      const made = await person.conversation(caller, { context_data: numbers, metadata: { numbers } });
      assertConversation(made, { context_data: numbers, metadata: { numbers } });
      const { body } = await person.call(caller, 'conversation.get', { conversation_id: made.id });
      assert.deepEqual(body.conversation.context_data, numbers);
    });

    for (const number of [1.1e21, -1e300, 5e-324, 9e-22]) {
      it(`refuses ${number}, which a database writes out in full`, () => unchanged(async () => {
        const answer = await new Person().http(shim, 'POST', '/conversations', { context_data: { list: [1, { number }] } });
        assert.deepEqual(assertProblem(answer, 400).errors.map((e) => e.field), ['context_data']);
      }));
    }

    it('keeps 64 levels of data', async () => {
      const levels = (n) => (n ? { deeper: levels(n - 1) } : {});
      const person = new Person();
      const data = levels(62); // and the body itself
      const made = await person.http(shim, 'POST', '/conversations', { context_data: data });
      assert.equal(made.status, 201, made.text);
      const { conversation } = (await person.http(shim, 'GET', `/conversations/${made.json.id}`)).json;
      assert.deepEqual(conversation.context_data, data);
    });

    it('knows the user of a token whose subject is no UUID', async () => {
      const claims = { sub: `auth0|${randomUUID()}`, tenant_id: 'acme' };
      const made = await request(shim.port, '/api/chat/conversations', { headers: bearer(claims), body: {} });
      assert.equal(made.status, 201, made.text);
      const [row] = await database.rows(
        `SELECT c.tenant_id, c.user_id, i.subject FROM chat.conversations c
         JOIN chat.identities i USING (tenant_id, user_id) WHERE c.id = $1`, [made.json.id]);
      assert.equal(row.tenant_id, 'acme');
      assert.equal(row.subject, claims.sub);
      assert.match(row.user_id, /^[0-9a-f]{8}-[0-9a-f]{4}-5/);
      const list = await request(shim.port, '/api/chat/conversations', { headers: bearer(claims) });
      assert.deepEqual(list.json.conversations.map((c) => c.id), [made.json.id]);
    });
  });

  describe('one conversation', () => {
    it('is read, with its messages', async () => {
      const person = new Person();
      const { id } = await person.conversation(caller, { title: 'Empty' });
      const answer = await person.http(shim, 'GET', `/conversations/${id}`);
      assert.equal(answer.status, 200, answer.text);
      assertSecured(answer);
      assertConversation(answer.json.conversation, { ...DEFAULTS, id, title: 'Empty' });
      assert.deepEqual(answer.json.messages, []);
      assert.deepEqual(answer.json.pagination, { limit: 50, has_more: false, before_id: null, after_id: null });
      const messages = await person.http(shim, 'GET', `/conversations/${id}/messages`);
      assert.equal(messages.status, 200, messages.text);
      assert.deepEqual(messages.json,
                       { messages: [], pagination: { limit: 50, has_more: false, before_id: null, after_id: null } });
    });

    it('is found by its id in capitals', async () => {
      const person = new Person();
      const { id } = await person.conversation(caller);
      const answer = await person.http(shim, 'GET', `/conversations/${id.toUpperCase()}`);
      assert.equal(answer.status, 200, answer.text);
      assert.equal(answer.json.conversation.id, id);
    });

    it('is changed field by field', async () => {
      const person = new Person();
      const made = await person.conversation(caller, { title: 'Old', metadata: { a: 1 }, context_data: { kept: true } });
      const put = async (body) => {
        const answer = await person.http(shim, 'PUT', `/conversations/${made.id}`, body);
        assert.equal(answer.status, 200, answer.text);
        assertConversation(answer.json, { id: made.id, context_data: { kept: true }, created_at: made.created_at });
        assert.deepEqual((await person.http(shim, 'GET', `/conversations/${made.id}`)).json.conversation, answer.json);
        return answer.json;
      };
      let now = await put({ title: 'नया' });
      assert.deepEqual([now.title, now.status, now.metadata], ['नया', 'active', { a: 1 }]);
      assert.ok(now.updated_at >= made.updated_at);
      now = await put({ metadata: { b: [2] } });
      assert.deepEqual([now.title, now.status, now.metadata], ['नया', 'active', { b: [2] }]);
      now = await put({ metadata: {} });
      assert.deepEqual(now.metadata, {});
      now = await put({ status: 'archived', title: null });
      assert.deepEqual([now.title, now.status], ['नया', 'archived']);
      now = await put({ status: 'active', title: 'x'.repeat(255), metadata: { c: null } });
      assert.deepEqual([now.title, now.status, now.metadata], ['x'.repeat(255), 'active', { c: null }]);
    });

    it('is named by the path alone', async () => {
      const person = new Person();
      const [one, other] = [await person.conversation(caller), await person.conversation(caller)];
      await person.http(shim, 'PUT', `/conversations/${one.id}`, { title: 'Mine', conversation_id: other.id });
      const titleOf = async ({ id }) => (await person.http(shim, 'GET', `/conversations/${id}`)).json.conversation.title;
      assert.equal(await titleOf(other), 'New Conversation');
    });

    it('is not done again when its message is delivered again, after a later change', async () => {
      const person = new Person();
      const { id } = await person.conversation(caller);
      const update = (args, messageId) => person.call(caller, 'conversation.update', { conversation_id: id, ...args },
                                                      { messageId });
      const [earlier, last] = [uuid7(), uuid7()];
      assert.equal((await update({ title: 'Earlier' }, earlier)).body.title, 'Earlier');
      const later = (await update({ title: 'Later', metadata: { x: 1 } }, uuid7())).body;
      const { status, body } = await update({ title: 'Earlier' }, earlier);
      assert.equal(status, 200);
      assert.deepEqual(body, later, 'as it is now');
      // The one that deletes is answered as it was, any other finds nothing.
      assert.equal((await update({ status: 'deleted' }, last)).body.status, 'deleted');
      assert.equal((await update({ status: 'deleted' }, last)).body.status, 'deleted');
      assert.equal((await update({ status: 'deleted' }, uuid7())).status, 404);
    });

    for (const [how, method, body] of [['DELETE', 'DELETE'], ['PUT status=deleted', 'PUT', { status: 'deleted' }]]) {
      it(`is gone after ${how}, but for its rows`, async () => {
        const person = new Person();
        const { id } = await person.conversation(caller, { title: 'To go' });
        const stays = await person.conversation(caller);
        const answer = await person.http(shim, method, `/conversations/${id}`, body);
        assert.equal(answer.status, method === 'DELETE' ? 204 : 200, answer.text);
        assertSecured(answer);
        if (method === 'DELETE') assert.equal(answer.text, '');
        else assert.equal(answer.json.status, 'deleted');
        const [row] = await database.rows('SELECT status, title, deleted_at FROM chat.conversations WHERE id = $1', [id]);
        assert.deepEqual([row.status, row.title], ['deleted', 'To go']);
        assert.ok(Math.abs(row.deleted_at - Date.now()) < 60000);

        await unchanged(async () => {
          assertProblem(await person.http(shim, 'GET', `/conversations/${id}`), 404);
          assertProblem(await person.http(shim, 'GET', `/conversations/${id}/messages`), 404);
          assertProblem(await person.http(shim, 'POST', `/conversations/${id}/messages`, { content: 'still there?' }), 404);
          assertProblem(await person.http(shim, 'POST', `/conversations/${id}/messages/${randomUUID()}/regenerate`), 404);
          for (const change of [{ title: 'Back' }, { status: 'active' }, { metadata: {} }]) {
            assertProblem(await person.http(shim, 'PUT', `/conversations/${id}`, change), 404);
          }
        });
        for (const status of ['', '?status=active', '?status=archived', '?status=deleted']) {
          const list = await person.http(shim, 'GET', `/conversations${status}`);
          assert.ok(!list.json.conversations.some((c) => c.id === id), status);
        }
        // Asked again it is still so, and its time does not change.
        const again = await person.http(shim, method, `/conversations/${id}`, body);
        assert.equal(again.status, method === 'DELETE' ? 204 : 404, again.text);
        assert.deepEqual(await database.value('SELECT deleted_at FROM chat.conversations WHERE id = $1', [id]),
                         row.deleted_at);
        assert.equal((await person.http(shim, 'GET', `/conversations/${stays.id}`)).status, 200);
      });
    }

    it('takes no messages while it is archived, and can be read', async () => {
      const person = new Person();
      const { id } = await person.conversation(caller);
      await person.http(shim, 'PUT', `/conversations/${id}`, { status: 'archived' });
      await unchanged(async () => {
        assertProblem(await person.http(shim, 'POST', `/conversations/${id}/messages`, { content: 'hello?' }), 409);
        assert.equal((await person.call(caller, 'message.send', { conversation_id: id, content: 'hello?' })).status, 409);
      });
      assert.equal((await person.http(shim, 'GET', `/conversations/${id}`)).json.conversation.status, 'archived');
      assert.equal((await person.http(shim, 'GET', `/conversations/${id}/messages`)).status, 200);
    });
  });

  describe('lists', () => {
    const person = new Person();
    const COUNT = 250;
    let all; // the ids as they must come, the latest first

    before(async () => {
      await manyOf(COUNT, (i) => person.conversation(caller, { title: `Number ${i}` }), 50);
      all = (await database.rows(
        'SELECT id FROM chat.conversations WHERE user_id = $1 ORDER BY updated_at DESC, id DESC', [person.id])).map((r) => r.id);
      assert.equal(all.length, COUNT);
    });

    const list = async (query) => {
      const answer = await person.http(shim, 'GET', `/conversations${query}`);
      assert.equal(answer.status, 200, answer.text);
      assert.deepEqual(Object.keys(answer.json).sort(), ['conversations', 'pagination', 'total']);
      assert.equal(answer.json.total, answer.json.pagination.total);
      return { ...answer.json, ids: answer.json.conversations.map((c) => c.id) };
    };

    it('give the latest 20', async () => {
      const { conversations, total, pagination, ids } = await list('');
      assert.deepEqual(ids, all.slice(0, 20));
      assert.equal(total, COUNT);
      assert.equal(pagination.limit, 20);
      assert.equal(pagination.offset, 0);
      assert.equal(pagination.has_more, true);
      assert.ok(pagination.next_cursor);
      for (const conversation of conversations) { // the context, which may be large, is not in lists
        assert.equal('context_data' in conversation, false);
        assertConversation({ ...conversation, context_data: null }, { status: 'active' });
      }
    });

    it('are cut where they would be larger than a message, and go on from there', async () => {
      const owner = new Person(), metadata = { text: '\u0001'.repeat(15000) };
      const wanted = [];
      for (let i = 0; i < 9; i++) wanted.unshift((await owner.conversation(caller, { metadata })).id);
      const found = [];
      for (let cursor = ''; cursor !== null;) {
        const page = await owner.http(shim, 'GET', `/conversations?limit=100${cursor}`);
        assert.equal(page.status, 200, page.text.slice(0, 300));
        found.push(...page.json.conversations.map((c) => c.id));
        cursor = page.json.pagination.next_cursor && `&cursor=${page.json.pagination.next_cursor}`;
      }
      assert.deepEqual(found, wanted);
    });

    for (const limit of [1, 25, 99, 100]) {
      it(`page by offset in steps of ${limit}`, async () => {
        const found = [];
        const count = limit === 1 ? 3 : COUNT;
        for (let offset = 0; offset < count; offset += limit) {
          const { ids, total, pagination } = await list(`?limit=${limit}&offset=${offset}`);
          assert.deepEqual([total, pagination.limit, pagination.offset], [COUNT, limit, offset]);
          assert.equal(pagination.has_more, offset + limit < COUNT);
          assert.equal(ids.length, Math.min(limit, COUNT - offset));
          found.push(...ids);
        }
        assert.deepEqual(found, all.slice(0, count));
      });

      it(`page by cursor in steps of ${limit}`, async () => {
        const found = [];
        const count = limit === 1 ? 3 : COUNT;
        for (let cursor = ''; found.length < count;) {
          const { ids, total, pagination } = await list(`?limit=${limit}${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
          assert.ok(ids.length > 0);
          assert.equal(total, COUNT);
          found.push(...ids);
          assert.equal(pagination.has_more, found.length < COUNT);
          cursor = pagination.next_cursor;
          if (found.length === COUNT) assert.equal(cursor, null);
        }
        assert.deepEqual(found, all.slice(0, count));
      });
    }

    it('are empty beyond the end', async () => {
      for (const offset of [COUNT, 1000000]) {
        const { ids, total, pagination } = await list(`?offset=${offset}`);
        assert.deepEqual([ids, total, pagination.has_more, pagination.next_cursor], [[], COUNT, false, null]);
      }
    });

    it('by cursor neither repeat nor leave out when another comes in between', async () => {
      const other = new Person();
      const made = [];
      for (let i = 0; i < 6; i++) made.unshift((await other.conversation(caller)).id);
      const first = await other.http(shim, 'GET', '/conversations?limit=3');
      const newest = await other.conversation(caller);
      const rest = await other.http(shim, 'GET',
                                    `/conversations?limit=3&cursor=${first.json.pagination.next_cursor}`);
      assert.deepEqual([...first.json.conversations, ...rest.json.conversations].map((c) => c.id), made);
      assert.equal(rest.json.pagination.has_more, false);
      assert.equal((await other.http(shim, 'GET', '/conversations?limit=1')).json.conversations[0].id, newest.id);
    });

    it('go by status', async () => {
      const other = new Person();
      const [active, archived, gone] = await manyOf(3, () => other.conversation(caller));
      await other.http(shim, 'PUT', `/conversations/${archived.id}`, { status: 'archived' });
      await other.http(shim, 'DELETE', `/conversations/${gone.id}`);
      for (const [query, ids] of [['', [active.id]], ['?status=active', [active.id]],
                                  ['?status=archived', [archived.id]], ['?status=deleted', []]]) {
        const { json } = await other.http(shim, 'GET', `/conversations${query}`);
        assert.deepEqual(json.conversations.map((c) => c.id), ids, query);
        assert.equal(json.total, ids.length);
        assert.equal(json.pagination.has_more, false);
      }
    });

    it('have what was changed last in front', async () => {
      const other = new Person();
      const made = [];
      for (let i = 0; i < 3; i++) made.push((await other.conversation(caller)).id);
      await other.http(shim, 'PUT', `/conversations/${made[0]}`, { title: 'To the front' });
      const { json } = await other.http(shim, 'GET', '/conversations');
      assert.deepEqual(json.conversations.map((c) => c.id), [made[0], made[2], made[1]]);
    });

    it('of somebody new are empty', async () => {
      const { json } = await new Person().http(shim, 'GET', '/conversations');
      assert.deepEqual(json, {
        conversations: [], total: 0,
        pagination: { limit: 20, offset: 0, total: 0, has_more: false, next_cursor: null },
      });
    });

    it('are the same over AMQP, where numbers are numbers', async () => {
      const { body } = await person.call(caller, 'conversation.list', { limit: 3, offset: 1, status: 'active' });
      assert.deepEqual(body.conversations.map((c) => c.id), all.slice(1, 4));
      const wrong = await person.call(caller, 'conversation.list', { limit: '3' });
      assert.equal(wrong.status, 400);
    });
  });

  describe('wrong arguments', () => {
    const person = new Person();
    let id, id_of_others;

    before(async () => {
      ({ id } = await person.conversation(caller, { title: 'Stays as it is' }));
      ({ id: id_of_others } = await new Person().conversation(caller));
    });

    // Refused by the shim, and by the worker if it comes by another way: 400, and the fields named.
    const refused = (name, operation, [method, path], args, fields) => {
      it(`${name}: 400`, () => unchanged(async () => {
        const at = path.replace('{id}', id);
        const answer = assertProblem(await person.http(shim, method, at, method === 'GET' ? undefined : args), 400);
        assert.deepEqual(answer.errors?.map((e) => e.field), fields);
        for (const { message } of answer.errors ?? []) assert.ok(message.length > 5);
        if (method === 'GET') return;
        const byAmqp = await person.call(caller, operation, {
          ...(at === '/conversations' ? {} : { conversation_id: id }), ...args,
        });
        assert.equal(byAmqp.status, 400, JSON.stringify(byAmqp.body));
        assert.equal(byAmqp.type, 'error');
        assert.deepEqual(byAmqp.body.errors?.map((e) => e.field), fields);
      }));
    };

    const CREATE = ['conversation.create', ['POST', '/conversations']];
    const UPDATE = ['conversation.update', ['PUT', '/conversations/{id}']];
    for (const [operation, route] of [CREATE, UPDATE]) {
      const word = operation.split('.')[1];
      refused(`${word} with an empty title`, operation, route, { title: '' }, ['title']);
      refused(`${word} with 256 characters`, operation, route, { title: 'x'.repeat(256) }, ['title']);
      refused(`${word} with 256 characters of four bytes`, operation, route, { title: '𠀀'.repeat(256) }, ['title']);
      for (const title of [42, true, [], {}]) {
        refused(`${word} with ${JSON.stringify(title)} for a title`, operation, route, { title }, ['title']);
      }
      for (const metadata of ['text', 1, false, []]) {
        refused(`${word} with ${JSON.stringify(metadata)} for metadata`, operation, route, { metadata }, ['metadata']);
      }
      refused(`${word} with an unknown field`, operation, route, { title: 'x', tittle: 'x' }, ['tittle']);
      for (const name of ['id', 'user_id', 'tenant_id', 'created_at', 'next_seq', '__proto__', 'constructor', '']) {
        refused(`${word} with the field "${name}"`, operation, route, JSON.parse(`{"title": "x", "${name}": "x"}`), [name]);
      }
      refused(`${word} with several mistakes`, operation, route, { title: '', metadata: [], nonsense: 1 },
              ['title', 'metadata', 'nonsense']);
    }
    for (const type of ['', 'General', 'general ', 'general assessment', 'other', 1, null]) {
      if (type === null) continue; // the same as none
      refused(`create with the context type ${JSON.stringify(type)}`, ...CREATE, { context_type: type }, ['context_type']);
    }
    for (const data of ['text', 1, [], true]) {
      refused(`create with ${JSON.stringify(data)} for context_data`, ...CREATE, { context_data: data }, ['context_data']);
    }
    refused('create with a status', ...CREATE, { status: 'archived' }, ['status']);
    for (const status of ['', 'Active', 'gone', 'active archived', 0, ['active']]) {
      refused(`update with the status ${JSON.stringify(status)}`, ...UPDATE, { status }, ['status']);
    }
    refused('update with a context type', ...UPDATE, { context_type: 'general' }, ['context_type']);
    refused('update with context data', ...UPDATE, { context_data: {} }, ['context_data']);
    refused('update with nothing', ...UPDATE, {}, undefined);
    refused('update with nulls', ...UPDATE, { title: null, status: null, metadata: null }, undefined);

    const LIST = (query) => ['conversation.list', ['GET', `/conversations?${query}`], undefined];
    for (const limit of ['0', '-1', '101', '1.5', '1e1', 'ten', '', '%20', '+5', '5%20', '0x10', '99999999999999999999',
                         '-99999999999999999999', '%00', '%ff', 'null', '[]']) {
      refused(`list with limit=${limit}`, ...LIST(`limit=${limit}`), ['limit']);
    }
    for (const offset of ['-1', '1000001', '2.0', 'x', '', '9223372036854775808']) {
      refused(`list with offset=${offset}`, ...LIST(`offset=${offset}`), ['offset']);
    }
    for (const status of ['', 'gone', 'ACTIVE', 'active%20archived', '%ff']) {
      refused(`list with status=${status}`, ...LIST(`status=${status}`), ['status']);
    }
    for (const cursor of ['x', '_', '1', '1_', '_x', `1_${'x'.repeat(36)}`, `-1_${uuid7()}`, `1e3_${uuid7()}`,
                          `999999999999999999_${uuid7()}`, `1_${uuid7()}x`, `1_${uuid7()}'`, 'a%27%20OR%201=1--']) {
      refused(`list with cursor=${cursor.slice(0, 24)}`, ...LIST(`cursor=${cursor}`), undefined);
    }
    refused('list with an empty cursor', ...LIST('cursor='), ['cursor']);
    refused('list with a long cursor', ...LIST(`cursor=${'1'.repeat(101)}`), ['cursor']);
    refused('list with cursor and offset', ...LIST(`cursor=1_${uuid7()}&offset=1`), undefined);
    refused('list with several mistakes', ...LIST('limit=0&offset=-1&status=x'), ['status', 'limit', 'offset']);

    const MALFORMED = ['1', 'abc', 'null', '00000000-0000-0000-0000-00000000000', '{00000000-0000-7000-8000-000000000000}',
                       '0000000000000000000000000000000000000', '00000000-0000-7000-8000-00000000000g',
                       '00000000-0000-7000-8000-000000000000%20', '%ff', '%c3%28', '1%27%20OR%201=1', '*'];
    for (const malformed of MALFORMED) {
      it(`the id ${malformed}: 400`, () => unchanged(async () => {
        for (const [method, path, body] of [['GET', ''], ['PUT', '', { title: 'x' }], ['DELETE', ''], ['GET', '/messages'],
                                            ['POST', '/messages', { content: 'x' }],
                                            ['POST', `/messages/${uuid7()}/regenerate`]]) {
          const answer = await person.http(shim, method, `/conversations/${malformed}${path}`, body);
          assert.deepEqual(assertProblem(answer, 400).errors.map((e) => e.field), ['conversation_id'], `${method} ${path}`);
        }
        const turn = await person.http(shim, 'GET', `/turns/${malformed}`);
        assert.deepEqual(assertProblem(turn, 400).errors.map((e) => e.field), ['turn_id']);
        const message = await person.http(shim, 'POST', `/conversations/${id}/messages/${malformed}/regenerate`);
        assert.deepEqual(assertProblem(message, 400).errors.map((e) => e.field), ['message_id']);
      }));
    }

    it('an id with a NUL, or none: 4xx', () => unchanged(async () => {
      assertProblem(await person.http(shim, 'GET', '/conversations/%00'), 400);
      assertProblem(await person.http(shim, 'GET', `/conversations/${id}%00`), 400);
      for (const path of ['/conversations/', '/conversations//', '/conversations//messages', '/turns/', '/turns',
                          `/conversations/${id}/`, `/conversations/${id}/messages/`, `/conversations/${id}/nothing`]) {
        assertProblem(await person.http(shim, 'GET', path), 404);
      }
    }));

    it('an id that nobody has: 404', () => unchanged(async () => {
      for (const unknown of [uuid7(), randomUUID(), '00000000-0000-0000-0000-000000000000',
                             'ffffffff-ffff-ffff-ffff-ffffffffffff']) {
        for (const [method, path, body] of [['GET', ''], ['PUT', '', { title: 'x' }], ['DELETE', ''], ['GET', '/messages'],
                                            ['POST', '/messages', { content: 'x' }],
                                            ['POST', `/messages/${uuid7()}/regenerate`]]) {
          assertProblem(await person.http(shim, method, `/conversations/${unknown}${path}`, body), 404);
        }
        assertProblem(await person.http(shim, 'GET', `/turns/${unknown}`), 404);
      }
    }));

    it('of types that no JSON body has over HTTP: 400 over AMQP', () => unchanged(async () => {
      for (const [operation, args, field] of [
        ['conversation.get', {}, 'conversation_id'], ['conversation.get', { conversation_id: null }, 'conversation_id'],
        ['conversation.get', { conversation_id: 7 }, 'conversation_id'],
        ['conversation.get', { conversation_id: id, limit: 3 }, 'limit'],
        ['conversation.list', { limit: 2.5 }, 'limit'], ['conversation.list', { limit: true }, 'limit'],
        ['conversation.list', { offset: '0' }, 'offset'], ['conversation.list', { cursor: 1 }, 'cursor'],
        ['conversation.delete', { conversation_id: [id] }, 'conversation_id'],
        ['conversation.update', { conversation_id: {}, title: 'x' }, 'conversation_id'],
        ['turn.get', { turn_id: 1 }, 'turn_id'], ['turn.get', {}, 'turn_id'],
      ]) {
        const { status, body } = await person.call(caller, operation, args);
        assert.equal(status, 400, operation);
        assert.deepEqual(body.errors.map((e) => e.field), [field]);
      }
    }));

    const BODIES = {
      'no JSON': '{"title": ',
      'a list': '["title"]',
      'a text': '"title"',
      'a number': '42',
      'nothing but null': 'null',
      'two objects': '{} {}',
      'a key twice': '{"title": "a", "title": "b"}',
      'invalid UTF-8': Buffer.concat([Buffer.from('{"title": "'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')]),
      'an overlong encoding': Buffer.concat([Buffer.from('{"title": "'), Buffer.from([0xc0, 0xaf]), Buffer.from('"}')]),
      'half of a surrogate pair in UTF-8': Buffer.concat([Buffer.from('{"title": "'), Buffer.from([0xed, 0xa0, 0x80]),
                                                          Buffer.from('"}')]),
      'half of a surrogate pair, escaped': '{"title": "\\ud83d"}',
      'the other half, escaped': '{"title": "\\ude80"}',
      'a NUL, escaped': '{"title": "a\\u0000b"}',
      'a NUL in the data': '{"context_data": {"text": "a\\u0000b"}}',
      'a NUL in a key of the data': '{"context_data": {"a\\u0000b": 1}}',
      'a NUL as it is': '{"title": "a\0b"}',
      'a NUL behind it': '{"title": "a"}\0',
      '10,000 objects in another': `{"context_data": ${'{"a":'.repeat(10000)}1${'}'.repeat(10000)}}`,
      '10,000 lists in another': `{"context_data": {"a": ${'['.repeat(10000)}${']'.repeat(10000)}}}`,
      '10,000 that never close': `{"metadata": ${'['.repeat(10000)}`,
      '65 levels': `{"metadata": ${'{"a":'.repeat(64)}1${'}'.repeat(64)}}`,
      'an integer out of range': '{"context_data": {"n": 9223372036854775808}}',
      'a negative integer out of range': '{"metadata": {"n": -9223372036854775809}}',
      'a number out of range': '{"context_data": {"n": 1e400}}',
      'a negative number out of range': '{"metadata": {"n": -1e999}}',
      'no number': '{"metadata": {"n": NaN}}',
      'infinity': '{"metadata": {"n": Infinity}}',
      'a number with a leading zero': '{"metadata": {"n": 007}}',
      'a comment': '{"title": "x"} // so',
      'a byte order mark': '\ufeff{"title": "x"}',
    };
    for (const [name, body] of Object.entries(BODIES)) {
      it(`a body that is ${name}: 400`, () => unchanged(async () => {
        for (const [method, path] of [['POST', '/conversations'], ['PUT', `/conversations/${id}`]]) {
          const answer = await person.http(shim, method, path, body, { headers: { 'content-type': 'application/json' } });
          assertProblem(answer, 400);
        }
        const { type, status } = await person.call(caller, 'conversation.create', Buffer.from(body));
        assert.deepEqual([type, status], ['error', 400]);
      }));
    }

    it('dead letters are made of those bodies alone that cannot be read', async () => {
      const letters = [];
      await until('all have come', async () => {
        letters.push(...await caller.takeAll('persistence.dlq'));
        return letters.length >= Object.keys(BODIES).length;
      });
      assert.equal(letters.length, Object.keys(BODIES).length);
      for (const { properties: { headers, type } } of letters) {
        assert.equal(type, 'conversation.create');
        assert.equal(headers['x-error-kind'], 'fatal');
        assert.match(headers['x-error'], /JSON/);
      }
      assert.equal((await house.count('persistence.read.dlq')).messageCount, 0);
    });

    it('arguments that nobody waits for: a dead letter names the first of their errors', async () => {
      const envelope = person.envelope({ replyTo: null });
      await caller.send('conversation.create', { title: 42, colour: 'red', size: 1 }, envelope);
      const { properties: { headers } } = await caller.take('persistence.dlq');
      assert.equal(headers['x-error-kind'], 'reject');
      assert.match(headers['x-error'], /: title must be a string \(and 2 more\)$/);
    });

    it('a body of another type or size: 415, 413', () => unchanged(async () => {
      const post = (body, headers) => person.http(shim, 'POST', '/conversations', body, { headers });
      assertProblem(await post('title=x', { 'content-type': 'application/x-www-form-urlencoded' }), 415);
      assertProblem(await post('{"title": "x"}', { 'content-type': 'application/json; charset=latin1' }), 415);
      assertProblem(await post('{"title": "x"}', { 'content-type': 'application/json', 'content-encoding': 'gzip' }), 415);
      const large = await post({ context_data: { a: 'x'.repeat(300000) } }).catch((error) => error);
      if (large instanceof Error) assert.match(large.code, /EPIPE|ECONNRESET/); // it was closed while we wrote
      else assertProblem(large, 413, { instance: false });
    }));

    it('a method that a path does not have: 405', () => unchanged(async () => {
      for (const [method, path, allowed] of [
        ['PATCH', '/conversations', 'GET, OPTIONS, POST'], ['PUT', '/conversations', 'GET, OPTIONS, POST'],
        ['DELETE', '/conversations', 'GET, OPTIONS, POST'],
        ['POST', `/conversations/${id}`, 'DELETE, GET, OPTIONS, PUT'],
        ['PATCH', `/conversations/${id}`, 'DELETE, GET, OPTIONS, PUT'],
        ['PUT', `/conversations/${id}/messages`, 'GET, OPTIONS, POST'],
        ['DELETE', `/conversations/${id}/messages`, 'GET, OPTIONS, POST'],
        ['GET', `/conversations/${id}/messages/${uuid7()}/regenerate`, 'OPTIONS, POST'],
        ['POST', `/turns/${uuid7()}`, 'GET, OPTIONS'],
      ]) {
        const answer = await person.http(shim, method, path);
        assertProblem(answer, 405);
        assert.equal(answer.headers.allow.split(', ').sort().join(', '), allowed, `${method} ${path}`);
      }
    }));

    it('nobody without a good token: 401', () => unchanged(async () => {
      for (const [method, path] of [['POST', '/conversations'], ['GET', '/conversations'], ['GET', `/conversations/${id}`],
                                    ['PUT', `/conversations/${id}`], ['DELETE', `/conversations/${id}`],
                                    ['GET', `/conversations/${id}/messages`], ['POST', `/conversations/${id}/messages`],
                                    ['POST', `/conversations/${id}/messages/${uuid7()}/regenerate`],
                                    ['GET', `/turns/${uuid7()}`]]) {
        for (const headers of [{}, { authorization: 'Bearer nonsense' }, bearer({ sub: person.id, exp: 1 })]) {
          assertProblem(await request(shim.port, `/api/chat${path}`, { method, headers }), 401);
        }
      }
      const elsewhere = await person.http(shim, 'GET', '/conversations', undefined, { headers: { 'x-tenant-id': 'acme' } });
      assertProblem(elsewhere, 403);
    }));

    describe('of other people', () => {
      const EVERY = [['GET', ''], ['PUT', '', { title: 'Taken' }], ['PUT', '', { status: 'deleted' }], ['DELETE', ''],
                     ['GET', '/messages'], ['POST', '/messages', { content: 'mine now' }],
                     ['POST', `/messages/${uuid7()}/regenerate`]];

      it('are not there: 404', () => unchanged(async () => {
        for (const [method, path, body] of EVERY) {
          assertProblem(await person.http(shim, method, `/conversations/${id_of_others}${path}`, body), 404);
        }
      }));

      it('are not there for the same user in another tenant: 404', () => unchanged(async () => {
        const elsewhere = new Person({ id: person.id, tenant: 'acme' });
        for (const [method, path, body] of EVERY) {
          assertProblem(await elsewhere.http(shim, method, `/conversations/${id}${path}`, body), 404);
        }
        assert.equal((await elsewhere.http(shim, 'GET', '/conversations')).json.total, 0);
      }));

      it('are no different from those that nobody has', async () => {
        const without = ({ instance, ...problem }) => problem;
        for (const [method, path, body] of EVERY) {
          const [theirs, nobodys] = await Promise.all([id_of_others, uuid7()].map((one) =>
            person.http(shim, method, `/conversations/${one}${path}`, body)));
          assert.deepEqual(without(theirs.json), without(nobodys.json));
        }
      });

      it('can be told apart by tenant', async () => {
        const here = await person.conversation(caller, { title: 'here' });
        const elsewhere = new Person({ id: person.id, tenant: 'acme' });
        const there = await elsewhere.conversation(caller, { title: 'there' });
        assert.notEqual(here.id, there.id);
        const { json } = await elsewhere.http(shim, 'GET', '/conversations');
        assert.deepEqual(json.conversations.map((c) => c.title), ['there']);
      });
    });
  });

  describe('an idempotency key', () => {
    const rowsOf = (person) => database.value('SELECT count(*)::int FROM chat.conversations WHERE user_id = $1', [person.id]);

    it('sent 20 times at once makes one conversation', async () => {
      const person = new Person();
      const args = { title: 'Only one', context_data: { a: 1, b: 2 } };
      const answers = await Promise.all(Array.from({ length: 20 }, () =>
        person.call(caller, 'conversation.create', args, { key: 'the key' })));
      for (const { status, body } of answers) {
        assert.equal(status, 201, JSON.stringify(body));
        assert.equal(body.id, answers[0].body.id);
      }
      assert.equal(await rowsOf(person), 1);
      // Later, too, and whatever the order of the fields.
      const again = await person.call(caller, 'conversation.create', { context_data: { b: 2, a: 1 }, title: 'Only one' },
                                      { key: 'the key' });
      assert.deepEqual([again.status, again.body.id], [201, answers[0].body.id]);
      assert.equal(await rowsOf(person), 1);
    });

    it('with another payload or for another operation is refused: 422', async () => {
      const person = new Person();
      const { body: { id } } = await person.call(caller, 'conversation.create', { title: 'A' }, { key: 'k' });
      await unchanged(async () => {
        for (const args of [{ title: 'B' }, {}, { title: 'A', metadata: {} }]) {
          const { status, type } = await person.call(caller, 'conversation.create', args, { key: 'k' });
          assert.deepEqual([type, status], ['error', 422]);
        }
        const { status } = await person.call(caller, 'message.send', { conversation_id: id, content: 'A' }, { key: 'k' });
        assert.equal(status, 422);
      });
    });

    it('is each person\'s own', async () => {
      const people = [new Person(), new Person(), new Person({ tenant: 'acme' })];
      people.push(new Person({ id: people[0].id, tenant: 'acme' }));
      const ids = await Promise.all(people.map(async (person, i) =>
        (await person.call(caller, 'conversation.create', { title: `Of ${i}` }, { key: 'a common key' })).body.id));
      assert.equal(new Set(ids).size, 4);
    });

    it('has 1 to 255 printable ASCII characters', async () => {
      const person = new Person();
      await unchanged(async () => {
        for (const key of ['x'.repeat(256), 'ключ', 'a\tb', 'a\nb', '🚀']) {
          const { status } = await person.call(caller, 'conversation.create', {}, { key });
          assert.equal(status, 400, JSON.stringify(key));
        }
      });
      for (const key of ['x', ' ', '~'.repeat(255), '\'; DROP TABLE chat.conversations; --']) {
        assert.equal((await person.call(caller, 'conversation.create', {}, { key })).status, 201, key);
      }
      assert.equal(await rowsOf(person), 4);
    });

    it('is not used up by a request that was refused', async () => {
      const person = new Person();
      const wrong = await person.call(caller, 'conversation.create', { title: '' }, { key: 'once more' });
      assert.equal(wrong.status, 400);
      assert.equal((await person.call(caller, 'conversation.create', { title: 'x' }, { key: 'once more' })).status, 201);
    });
  });

  describe('over AMQP', () => {
    it('the message_id becomes the id', async () => {
      const messageId = uuid7();
      const { status, body, type } = await new Person().call(caller, 'conversation.create', { title: 'x' }, { messageId });
      assert.deepEqual([type, status, body.id], ['reply', 201, messageId]);
      assertConversation(body, { ...DEFAULTS, title: 'x' });
    });

    it('a message that comes again makes no second row', async () => {
      const person = new Person();
      const messageId = uuid7();
      const answers = await Promise.all(Array.from({ length: 10 }, (_, i) =>
        person.call(caller, 'conversation.create', { title: `Attempt ${i}` }, { messageId })));
      answers.push(await person.call(caller, 'conversation.create', { title: 'Later' }, { messageId }));
      for (const { status, body } of answers) {
        assert.equal(status, 201);
        assert.deepEqual(body, answers[0].body, 'all are told what is there');
      }
      assert.equal(await database.value('SELECT count(*)::int FROM chat.conversations WHERE user_id = $1', [person.id]), 1);
    });

    it('an id that is somebody else\'s is a conflict, never a success: 409', async () => {
      const owner = new Person();
      const { id } = await owner.conversation(caller, { title: 'Theirs' });
      await unchanged(async () => {
        for (const person of [new Person(), new Person({ id: owner.id, tenant: 'acme' })]) {
          const { status, body } = await person.call(caller, 'conversation.create', { title: 'Mine' }, { messageId: id });
          assert.equal(status, 409);
          assert.ok(!JSON.stringify(body).includes('Theirs'));
        }
      });
    });

    it('a write needs a message_id of version 7 and of our time: 400', async () => {
      const person = new Person();
      const { id } = await person.conversation(caller);
      const now = Date.now();
      const wrong = [null, '', 'x', randomUUID(), '00000000-0000-0000-0000-000000000000', uuid7(now + 6 * 60 * 1000),
                     uuid7(now - 366 * DAY), uuid7(0), uuid7(2 ** 48 - 1), `${uuid7()}0`];
      const writes = [['conversation.create', {}], ['conversation.update', { conversation_id: id, title: 'x' }],
                      ['conversation.delete', { conversation_id: id }],
                      ['message.send', { conversation_id: id, content: 'x' }],
                      ['message.regenerate', { conversation_id: id, message_id: uuid7() }]];
      await unchanged(async () => {
        for (const messageId of wrong) {
          for (const [operation, args] of writes) {
            const { status, body } = await person.call(caller, operation, args, { messageId });
            assert.equal(status, 400, `${operation} ${messageId}`);
            assert.match(body.detail, /message_id/);
          }
        }
      });
      for (const messageId of [uuid7(now + 4 * 60 * 1000), uuid7(now - 364 * DAY), uuid7().toUpperCase()]) {
        const { status, body } = await person.call(caller, 'conversation.create', {}, { messageId });
        assert.equal(status, 201, messageId);
        assert.equal(body.id, messageId.toLowerCase());
      }
      // A read needs none.
      const read = await person.call(caller, 'conversation.get', { conversation_id: id }, { messageId: null });
      assert.equal(read.status, 200);
    });

    it('every operation needs a user: 401', () => unchanged(async () => {
      const person = new Person();
      for (const user of [undefined, '', 'alice', '42', `${person.id}x`, 'null', { nested: true }]) {
        for (const [operation, args] of [['conversation.create', {}], ['conversation.list', {}],
                                         ['conversation.get', { conversation_id: uuid7() }],
                                         ['conversation.update', { conversation_id: uuid7(), title: 'x' }],
                                         ['conversation.delete', { conversation_id: uuid7() }],
                                         ['message.list', { conversation_id: uuid7() }],
                                         ['message.send', { conversation_id: uuid7(), content: 'x' }],
                                         ['message.regenerate', { conversation_id: uuid7(), message_id: uuid7() }],
                                         ['turn.get', { turn_id: uuid7() }]]) {
          const { status } = await person.call(caller, operation, args, { headers: { 'x-user-id': user } });
          assert.equal(status, 401, `${operation} ${user}`);
        }
      }
    }));

    it('a tenant has at most 64 bytes of text, and is "default" when none is named', async () => {
      const person = new Person();
      for (const tenant of ['x'.repeat(65), 'é'.repeat(33)]) {
        const { status } = await person.call(caller, 'conversation.create', {}, { headers: { 'x-tenant-id': tenant } });
        assert.equal(status, 400);
      }
      const tenants = ['x'.repeat(64), 'テナント', '\'"; --'];
      for (const tenant of [...tenants, undefined]) {
        const { status } = await person.call(caller, 'conversation.create', {}, { headers: { 'x-tenant-id': tenant } });
        assert.equal(status, 201);
      }
      assert.deepEqual((await database.rows('SELECT tenant_id FROM chat.conversations WHERE user_id = $1', [person.id]))
        .map((row) => row.tenant_id).sort(), [...tenants, 'default'].sort());
    });

    it('a read whose deadline has passed is not answered, a write is carried out', async () => {
      const person = new Person();
      const { id } = await person.conversation(caller);
      const late = { headers: { 'x-deadline': Date.now() - 1000 } };
      const before_ = valueOf(await metricsOf(worker.adminPort), 'worker_job_duration_seconds_count', { outcome: 'late' });
      await caller.send('conversation.get', { conversation_id: id }, person.envelope(late));
      await until('it was dropped', async () => valueOf(
        await metricsOf(worker.adminPort), 'worker_job_duration_seconds_count', { outcome: 'late' }) === before_ + 1);
      const put = await person.call(caller, 'conversation.update', { conversation_id: id, title: 'After all' }, late);
      assert.equal(put.status, 200);
    });

    it('a conversation that is made is an event', async () => {
      const queue = (await caller.channel.assertQueue('', { exclusive: true })).queue;
      await caller.channel.bindQueue(queue, 'chat.events', 'chat.thread.#');
      const person = new Person({ tenant: 'acme' });
      const { id } = await person.conversation(caller, { title: 'Told to nobody', context_type: 'assessment' });
      const event = await caller.take(queue);
      assert.equal(event.fields.routingKey, 'chat.thread.created');
      assert.equal(event.properties.deliveryMode, 2);
      const { headers } = event.properties;
      assert.equal(headers['cloudEvents:specversion'], '1.0');
      assert.equal(headers['cloudEvents:type'], 'chat.thread.created');
      assert.equal(headers['cloudEvents:subject'], id);
      assert.equal(headers['cloudEvents:id'], uuid5(id, 'chat.thread.created'), 'the same when it is told twice');
      assert.deepEqual([headers['x-user-id'], headers['x-tenant-id']], [person.id, 'acme']);
      assert.deepEqual(JSON.parse(event.content), { conversation_id: id, context_type: 'assessment' });
      await caller.channel.deleteQueue(queue);
    });
  });

  describe('in the database', () => {
    it('rows are seen by their owner alone, under the workers\' role', async () => {
      const [owner, other] = [new Person({ tenant: 'acme' }), new Person({ tenant: 'acme' })];
      const { id } = (await owner.call(caller, 'conversation.create', {}, { key: 'mine' })).body;
      await other.conversation(caller);
      const client = await database.client(database.workerUrl);
      const seen = async (who) => {
        const rows = await under(client, who, () => client.query(
          'SELECT (SELECT count(*)::int FROM chat.conversations WHERE id = $1) AS conversations, ' +
          '(SELECT count(*)::int FROM chat.idempotency_keys WHERE message_id = $1) AS keys', [id]));
        return Object.values(rows.rows[0]);
      };
      assert.deepEqual(await seen({}), [0, 0]);
      assert.deepEqual(await seen({ scope: 'user' }), [0, 0]);
      assert.deepEqual(await seen({ scope: 'user', tenant: 'acme' }), [0, 0]);
      assert.deepEqual(await seen({ scope: 'user', tenant: 'acme', user: other.id }), [0, 0]);
      assert.deepEqual(await seen({ scope: 'user', tenant: 'default', user: owner.id }), [0, 0]);
      assert.deepEqual(await seen({ tenant: 'acme', user: owner.id }), [0, 0]);
      assert.deepEqual(await seen({ scope: 'user', tenant: 'acme', user: owner.id }), [1, 1]);
      // The next transaction of the same connection starts without an identity again.
      assert.deepEqual(await seen({}), [0, 0]);
      for (const sql of ['UPDATE chat.conversations SET title = $2 WHERE id = $1',
                         'DELETE FROM chat.conversations WHERE id = $1 AND $2 <> \'\'']) {
        const { rowCount } = await under(client, { scope: 'user', tenant: 'acme', user: other.id },
                                         () => client.query(sql, [id, 'Taken']));
        assert.equal(rowCount, 0);
      }
      assert.equal(await database.value('SELECT title FROM chat.conversations WHERE id = $1', [id]), 'New Conversation');
    });
  });

  it('end without dead letters', async () => {
    for (const queue of ['persistence', 'persistence.read', 'persistence.commit']) {
      assert.equal((await house.count(`${queue}.dlq`)).messageCount, 0, queue);
    }
  });
});

describe('a fleet whose users another service knows', () => {
  let house, caller;

  before(async () => {
    house = await House.open('users', { database: true });
    [, caller] = await Promise.all([house.persistence({ AUTH_AUTO_PROVISION: 'false' }), house.caller()]);
  });
  after(() => house.close());

  it('refuses the others: 403', async () => {
    const person = new Person();
    const { status } = await person.call(caller, 'conversation.create', {}, { key: 'k' });
    assert.equal(status, 403);
    assert.equal(await house.database.value('SELECT count(*)::int FROM chat.idempotency_keys'), 0);
    await house.database.rows('INSERT INTO auth.users (id) VALUES ($1)', [person.id]);
    assert.equal((await person.call(caller, 'conversation.create', {}, { key: 'k' })).status, 201);
  });
});
