// Every fault of a model's server that is known of: what it makes of a turn, streamed and not. Each row of the
// table is run with a second model that is well and with one that does the same, through the whole fleet, and
// tells how the turn ends, how often each model is asked, what is counted as used, and what the client saw.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { House } from './lib/house.mjs';
import { metricsOf } from './lib/http.mjs';
import { valueOf } from './lib/metrics.mjs';
import { MODEL_COST, MODEL_USAGE, answerTo, startModel } from './lib/model.mjs';
import { Person } from './lib/person.mjs';
import { Stream } from './lib/sse.mjs';
import { until } from './lib/wait.mjs';

const [FIRST, SECOND] = ['first/model', 'second/model:free'];
const ATTEMPTS = 3;
const PATIENCE_MS = 60000;
const AT_ONCE = 64; // most runs wait, for the next attempt or for a model that says nothing

// ---- what a fault may come to ----

// The first model's answer all the same.
const well = { asked: [1, 0], by: FIRST };
// `paid`: nothing says that the request was refused, so that it is counted, too. Of the second model, which is
// free, nothing is.
const UNKNOWN = { cost_known: false, cost_credits: 0 };
const TOLD = { cost_known: true, cost_credits: MODEL_COST, ...MODEL_USAGE };
// Nothing was told yet, and it may pass: the next model answers; else all are asked again, and again.
const passes = (status, detail, paid) => ({ status, detail, paid, next: [1, 1], alike: [ATTEMPTS, ATTEMPTS] });
// Nothing was told yet, and it will not pass: the next model answers; else the turn has failed.
const fails = (status, detail, paid) => ({ status, detail, paid, next: [1, 1], alike: [1, 1] });
// Something was told: no other text may follow it.
const breaks = (status, detail, told = 'Some words') => ({ status, detail, told, next: [1, 0], alike: [1, 0] });
// The account is not accepted: no other model of the provider is asked.
const locked = (status, detail) => ({ status, detail, next: [1, 0], alike: [1, 0] });

// What is kept of a turn that failed: nothing, or what was told, and what that took, estimated.
const FAILED = { state: 'failed', answers: [], used: [] };
const BROKEN = (told) => ({
  state: 'failed', answers: [told],
  used: [{ of_turn: false, status: 'broken', model_used: FIRST, is_free_model: false, ...UNKNOWN }],
});

const HUGE = 60000;
const no = (status, words) => [status, new RegExp(`${words} \\(\\d+\\)`)];

// name, mode (of lib/model.mjs; `first` and `second` where they differ), in one piece, streamed. `text` and
// `used` say what differs of an answer. The slow ones first, so that the others go by beside them.
const TABLE = [
  ['no headers', 'mute', fails(504, /no complete answer within 10000 ms/, UNKNOWN),
   fails(504, /no word within 8 s/, UNKNOWN)],
  ['comments and never a word', 'silent', null, fails(504, /no word within 8 s/, UNKNOWN)],
  ['silence after some words', 'stall', null, breaks(504, /fell silent for 5 s/)],
  ['slow headers', 'slow 1000', well, well],
  ['slow tokens', 'paced 100', null, well],
  ['tokens too slow', 'paced 1500', null, breaks(504, /no complete answer within 10000 ms/, /^You said: /)],

  ['500', 'status 500', passes(...no(502, 'failed')), passes(...no(502, 'failed'))],
  ['502', 'status 502', passes(...no(502, 'failed')), passes(...no(502, 'failed'))],
  ['503', 'status 503', passes(...no(503, 'overloaded')), passes(...no(503, 'overloaded'))],
  ['529', 'status 529', passes(...no(503, 'overloaded')), passes(...no(503, 'overloaded'))],
  ['429 without Retry-After', 'status 429', passes(...no(503, 'no more requests for now')),
   passes(...no(503, 'no more requests for now'))],
  ['reset before the headers', 'drop-first', passes(502, /connection was lost/, UNKNOWN),
   passes(502, /connection was lost/, UNKNOWN)],
  ['reset in mid-answer', 'drop', passes(502, /connection was lost/, UNKNOWN), breaks(502, /connection was lost/)],
  ['end in mid-answer', 'truncate', passes(502, /no JSON object/, UNKNOWN), breaks(502, /broke off/)],
  ['end before the first word', 'truncate-first', null, passes(502, /broke off/, UNKNOWN)],
  ['200 with an error', 'error-200', passes(503, /no more requests.*slow down/),
   passes(503, /no more requests.*slow down/)],
  ['200 with an error in the choice', 'error-in-choice', passes(502, /the upstream broke/),
   passes(502, /the upstream broke/)],
  ['200 with finish_reason error', 'choice-error', passes(...no(502, 'failed')), passes(...no(502, 'failed'))],
  ['an error as the first event', 'error-first', null, passes(503, /overloaded.*no room/)],
  ['empty choices', 'empty-choices', passes(502, /no choices/, UNKNOWN), passes(502, /empty answer/, UNKNOWN)],
  ['an empty answer', 'empty', passes(502, /empty answer/, TOLD), passes(502, /empty answer/, TOLD)],
  ['white space only', 'blank', null, passes(502, /empty answer/, UNKNOWN)],
  ['broken JSON', 'bad-json', passes(502, /no JSON object/, UNKNOWN), passes(502, /no JSON object/, UNKNOWN)],
  ['HTML instead of JSON', 'html-200', passes(502, /no JSON object/, UNKNOWN),
   passes(502, /no JSON object/, UNKNOWN)],
  ['HTML with 502', 'html 502', passes(...no(502, 'failed')), passes(...no(502, 'failed'))],
  ['a stream called JSON', 'type application/json', null, passes(502, /no JSON object/, UNKNOWN)],
  ['JSON called a stream', 'type text/event-stream', passes(502, /broke off/, UNKNOWN), null],

  ['302', 'redirect', fails(502, /refused the request \(302\)/), fails(502, /refused the request \(302\)/)],
  ['400', 'status 400', fails(...no(502, 'refused the request')), fails(...no(502, 'refused the request'))],
  ['401', 'status 401', locked(502, /does not accept our key \(401\)$/),
   locked(502, /does not accept our key \(401\)$/)],
  ['402', 'status 402', fails(...no(502, 'no credit')), fails(...no(502, 'no credit'))],
  ['403', 'status 403', fails(502, /does not allow the request \(403\)$/),
   fails(502, /does not allow the request \(403\)$/)],
  ['404', 'status 404', fails(...no(502, 'does not know the model')), fails(...no(502, 'does not know the model'))],
  ['408', 'status 408', fails(...no(504, 'in time')), fails(...no(504, 'in time'))],
  ['413', 'status 413', fails(...no(502, 'refused the request')), fails(...no(502, 'refused the request'))],
  ['504', 'status 504', fails(...no(504, 'in time')), fails(...no(504, 'in time'))],
  ['withheld by a filter', 'filtered', fails(502, /filter/, TOLD), fails(502, /filter/, TOLD)],
  ['all tokens spent on thoughts', 'no-room', fails(502, /MAX_TOKENS/, TOLD), fails(502, /MAX_TOKENS/, TOLD)],
  ['an answer too long', 'huge 200000', fails(502, /longer than 100000 bytes/, TOLD),
   breaks(502, /longer than 100000 bytes/, /^(x{999} )+$/)],
  ['an event too large', 'one-event 700000', fails(502, /longer than|larger than/, UNKNOWN),
   fails(502, /longer than/, UNKNOWN)],
  ['a line without end', 'huge-line', null, fails(502, /longer than allowed/, UNKNOWN)],
  ['an error in mid-stream', 'error-later', null, breaks(502, /it broke/)],

  ['nothing wrong', 'normal', well, well],
  ['split in every byte', 'split', null, well],
  ['CRLF, comments and a BOM', 'crlf', null, well],
  ['CR alone', 'cr', null, well],
  ['data over several lines', 'lines', null, well],
  ['thoughts before words', 'thinks', well, well],
  ['a large event', `one-event ${HUGE}`, well, well, { text: `${'x'.repeat(999)} `.repeat(HUGE / 1000) }],
  ['one piece instead of a stream', 'plain', well, well],
  ['another content type', 'type text/plain', well, null],
  ['gzip', 'gzip', well, well],
  ['no [DONE]', 'no-done', null, well],
  ['no finish_reason', 'no-finish', null, well],
  ['no end of the connection', 'no-end', null, well],
  ['neither [DONE] nor an end', 'no-done-no-end', null, well, { used: 'estimated' }],
  ['reset behind the last word', 'drop-late', null, well, { used: 'estimated' }],
  ['no usage', 'no-usage', well, well, { used: 'estimated' }],
  ['usage with each piece, and twice', 'usage-often', null, well, { text: 'You said so.' }],
  ['invalid UTF-8', 'bad-bytes', well, well, { text: 'a\ufffd\ufffdb' }],
  ['half a surrogate pair, a NUL', 'bad-escapes', well, well, { text: 'a\ufffd b\ufffdc' }],
  ['another model answers', `other ${FIRST}-0731`, well, well, { by: `${FIRST}-0731` }],
  ['503 once', { first: 'flaky 1', second: 'status 503' }, { asked: [2, 1], by: FIRST },
   { asked: [2, 1], by: FIRST, again: true }],
  ['a free model that has ended behind one that is overloaded', { first: 'status 503', second: 'status 404' },
   { asked: [ATTEMPTS, ATTEMPTS], status: 502, detail: /does not know the model/ },
   { asked: [ATTEMPTS, ATTEMPTS], status: 502, detail: /does not know the model/ }],
];

// ---- one run of a row ----

// What is kept of an answer.
const answered = ({ by, used }) => ({
  state: 'completed',
  used: [{ of_turn: true, status: 'completed', model_used: by, is_free_model: by.includes(':free'),
           ...(used === 'estimated' ? { cost_credits: 0 }
             : { ...MODEL_USAGE, cost_credits: by.includes(':free') ? 0 : MODEL_COST }) }],
});

// Requests that came to no answer and are counted all the same.
const failedOf = ({ paid, asked, by = '' }) =>
  Array.from({ length: paid ? asked[0] - (by.startsWith(FIRST) ? 1 : 0) : 0 }, () =>
    ({ of_turn: false, status: 'failed', model_used: FIRST, is_free_model: false, ...paid }));

// Each row in all its runs.
const RUNS = TABLE.flatMap(([name, mode, plain, streamed, more = {}]) => [[plain, false], [streamed, true]]
  .filter(([outcome]) => outcome)
  .flatMap(([outcome, stream]) => {
    const run = { stream, ...outcome, ...more };
    const title = `${name}${stream ? ', streamed' : ''}`;
    if (run.asked) return [{ ...run, title, modes: mode.first ? mode : { first: mode, second: mode } }];
    return [
      { ...run, title: `${title}, and the next model is well`, modes: { first: mode, second: 'normal' },
        asked: run.next, ...(run.next[1] && { by: SECOND }) },
      { ...run, title: `${title}, of all models`, modes: { first: mode, second: mode }, asked: run.alike },
    ];
  }));

// A fleet, and what it is asked.
class Fleet {
  #asking = Promise.resolve();

  static async open(name, settings) {
    const f = new Fleet();
    f.model = await startModel({ keepAlive: false, goesAway: true });
    f.plans = new Map(); // by question
    f.model.script = ({ body, question }) => f.plans.get(question)?.[body.model === FIRST ? 'first' : 'second'];
    f.house = await House.open(name, { database: true });
    Object.assign(f, await f.house.fleet({ model: f.model, settings: {
      DEFAULT_MODEL: FIRST, FALLBACK_MODEL: SECOND, FREE_MODEL_RATE_LIMIT_PER_MINUTE: '0', INTERIM_SECONDS: '0',
      ...settings } }));
    return f;
  }

  async close() {
    try {
      await this.house.close();
    } finally {
      await this.model.close();
    }
  }

  // How often each model was asked this.
  asked(question) {
    const names = this.model.requests.filter((r) => r.question === question).map(({ body }) => body.model);
    return [FIRST, SECOND].map((name) => names.filter((n) => n === name).length);
  }

  // {question, status, body, text, names}: what the client saw.
  async turn({ title, modes, stream }) {
    const person = new Person();
    const question = `${title}? ${randomUUID()}`;
    this.plans.set(question, modes);
    const { json: { id } } = await person.http(this.shim, 'POST', '/conversations', {}, { limit: PATIENCE_MS });
    const path = `/conversations/${id}/messages`;
    const seen = await (stream ? this.#streamed(person, path, question) : this.#plain(person, path, question));
    return { question, id, ...seen };
  }

  async #plain(person, path, content) {
    const { status, json } = await person.http(this.shim, 'POST', path, { content }, { limit: PATIENCE_MS });
    return { status, body: json };
  }

  async #streamed(person, path, content) {
    const s = await Stream.open(this.shim.port, `/api/chat${path}`, {
      body: { content }, headers: { authorization: `Bearer ${person.token}`, accept: 'text/event-stream' },
      limit: PATIENCE_MS });
    assert.equal(s.status, 200, s.raw);
    await s.ended;
    const { event, data } = s.last;
    return { status: event === 'error' ? data.status : 200, body: data, text: s.text, names: s.names };
  }

  // One query after the other: it is one connection.
  #rows(...query) {
    this.#asking = this.#asking.then(() => this.house.database.rows(...query));
    return this.#asking;
  }

  // What the database has of it.
  async kept({ id, body }, count) {
    const rows = (sql) => this.#rows(sql, [id]);
    const [turn, ...others] = await rows('SELECT id, state FROM chat.turns WHERE conversation_id = $1');
    assert.deepEqual(others, []);
    assert.equal(turn.id, body.turn_id);
    return {
      state: turn.state,
      answers: (await rows(`SELECT content FROM chat.messages WHERE conversation_id = $1
        AND sender_type = 'assistant'`)).map(({ content }) => content),
      // What failed is told beside the answer.
      used: await until(`${count} rows of usage`, async () => {
        const used = await rows(`SELECT id = '${turn.id}' AS of_turn, status, model_used, is_free_model, prompt_tokens,
          completion_tokens, total_tokens, cost_credits::float8, cost_known FROM chat.usage_tracking
          WHERE conversation_id = $1 ORDER BY status = 'failed'`);
        return used.length >= count && used;
      }),
    };
  }

  async assertRun(run) {
    const seen = await this.turn(run);
    const kept = await this.kept(seen, failedOf(run).length + (run.by || (run.stream && run.told) ? 1 : 0));
    if (run.by) assertAnswered(run, seen, kept);
    else assertFailed(run, seen, kept);
    assert.deepEqual(this.asked(seen.question), run.asked, 'how often each model was asked');
  }
}

function assertAnswered(run, { question, status, body, text, names }, kept) {
  const wanted = run.text ?? answerTo(question);
  assert.equal(status, 200, JSON.stringify(body));
  assert.equal(body.assistant_message.content, wanted);
  assert.equal(body.usage.model, run.by);
  if (run.stream) {
    assert.equal(text, wanted, 'the deltas are the answer');
    // Another attempt is another epoch, also where the first had told nothing.
    assert.match(names.join(' '), run.again ? /^message\.accepted reset( delta)+ message\.completed$/
      : /^message\.accepted( delta)+ message\.completed$/);
  }
  assert.deepEqual(kept.answers, [wanted]);
  assertUsed(kept, answered(run), run);
  assert.equal(kept.used[0].total_tokens, body.usage.total_tokens);
}

function assertFailed(run, { status, body, text, names }, kept) {
  const told = run.stream ? run.told : undefined;
  assert.equal(status, run.status, JSON.stringify(body));
  assert.match(body.detail, run.detail);
  assert.ok(body.turn_id && body.user_message_id, 'the question stays');
  if (run.stream) {
    assert.match(names.join(' '), told ? /^message\.accepted( delta)+ error$/ : /^message\.accepted error$/);
    if (told instanceof RegExp) assert.match(text, told);
    else assert.equal(text, told ?? '');
  }
  const wanted = told ? BROKEN(text) : FAILED;
  assert.deepEqual(kept.answers, wanted.answers);
  assertUsed(kept, wanted, run);
}

// The rows of usage are as many as wanted, and have what is wanted in them.
function assertUsed({ state, used }, wanted, run) {
  const all = [...wanted.used, ...failedOf(run)];
  assert.equal(state, wanted.state);
  assert.equal(used.length, all.length, JSON.stringify(used));
  used.forEach((row, i) => {
    assert.deepEqual({ ...row, ...all[i] }, row);
    assert.ok(row.prompt_tokens > 0, 'estimated, where it is not told');
    if (row.status !== 'failed') assert.ok(row.completion_tokens > 0);
    assert.equal(row.total_tokens, row.prompt_tokens + row.completion_tokens);
  });
}

// Two fleets side by side; in each, one part after the other.
describe('faults', { concurrency: 2 }, () => {
  describe('a fault of the model\'s server', { concurrency: 1 }, () => {
    let fleet;
    before(async () => {
      fleet = await Fleet.open('model_faults', {
        MODEL_TIMEOUT_SECONDS: '10', MODEL_FIRST_TOKEN_TIMEOUT_SECONDS: '8', MODEL_IDLE_TIMEOUT_SECONDS: '5',
        MAX_ANSWER_BYTES: '100000',
      });
    });
    after(() => fleet.close());

    describe('comes to what the table says:', { concurrency: AT_ONCE }, () => {
      for (const run of RUNS) it(run.title, () => fleet.assertRun(run));
    });

    it('leaves one dead letter for each turn that failed, and no row of usage that nobody asked for', async () => {
      const ended = RUNS.filter(({ by }) => by === undefined).length;
      const broken = RUNS.filter(({ stream, told }) => stream && told).length;
      const failed = RUNS.flatMap(failedOf).length;
      await until('all are there', async () => (await fleet.house.count('inference.dlq')).messageCount >= ended);
      assert.equal((await fleet.house.count('inference.dlq')).messageCount, ended);
      const { database } = fleet.house;
      assert.equal(await database.value('SELECT count(*)::int FROM chat.turns'), RUNS.length);
      assert.equal(await database.value('SELECT count(*)::int FROM chat.usage_tracking'),
                   RUNS.length - ended + broken + failed);
    });
  });

  describe('a model\'s server that asks for patience, or is not there', { concurrency: 1 }, () => {
    let fleet;
    before(async () => {
      fleet = await Fleet.open('model_away', {
        FALLBACK_MODEL: 'none', BREAKER_OPEN_SECONDS: '1', BREAKER_LEAST_REQUESTS: '20',
      });
    });
    after(() => fleet.close());

    const refused = async () => valueOf(await metricsOf(fleet.inference.adminPort), 'openrouter_requests_total',
                                        { model: FIRST, status: 'unreachable' });

    for (const stream of [false, true]) {
      for (const status of [429, 503]) {
        it(`${status} with Retry-After${stream ? ', streamed' : ''}: is asked again, and not sooner`, async () => {
          const times = [];
          const run = { title: `${status} with Retry-After`, stream, asked: [2, 0], by: FIRST, again: true };
          run.modes = { get first() { return times.push(Date.now()) === 1 ? `status ${status} 2` : 'normal'; } };
          await fleet.assertRun(run);
          assert.ok(times[1] - times[0] >= 1990, `after ${times[1] - times[0]} ms`);
        });
      }
    }

    it('refuses connections: is tried again, and told of', async () => {
      const earlier = await refused();
      const away = { title: 'nobody there', modes: {}, asked: [0, 0], status: 502, detail: /connection is refused/ };
      await fleet.model.close();
      try {
        await Promise.all([false, true].map((stream) => fleet.assertRun({ ...away, stream })));
      } finally {
        await fleet.model.listen(fleet.model.port);
      }
      assert.equal(await refused(), earlier + 2 * ATTEMPTS);
    });

    it('refuses connections for a moment: answers then', async () => {
      const earlier = await refused();
      await fleet.model.close();
      const answer = fleet.assertRun({ title: 'nobody there yet', modes: { first: 'normal' }, stream: true,
                                       asked: [1, 0], by: FIRST, again: true });
      await until('it was refused', async () => await refused() > earlier);
      await fleet.model.listen(fleet.model.port);
      await answer;
    });
  });
});
