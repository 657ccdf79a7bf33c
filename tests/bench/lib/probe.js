// One turn, looked at closely: the statements that it runs and how large its messages are. The yardsticks
// then do the same.
'use strict';

const broker = require('./broker.js');
const { createUsers, createConversations } = require('./database.js');
const { Fleet, KINDS, token } = require('./fleet.js');
const { Wire } = require('./wire.js');

const STEPS = ['message.send', 'context.build', 'inference.generate', 'message.commit'];
const TAP = 'bench.tap';

class Probe extends Fleet {
  constructor(bin, env) {
    super('probe', bin, { kinds: KINDS, env });
    this.wire = new Wire();
  }

  async start() {
    await this.wire.listen(this.database.url);
    this.env = { ...this.env, DATABASE_URL: this.wire.url };
    await super.start();
  }

  async turn(conversation, content) {
    const answer = await fetch(`${this.url}/api/chat/conversations/${conversation.id}/messages`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${token(this.secret, conversation.user)}`,
        'content-type': 'application/json',
      },
      body: JSON.stringify({ content }),
    });
    const text = await answer.text();
    if (answer.status !== 200) throw new Error(`a turn was answered ${answer.status} ${text}`);
    return { text, ...JSON.parse(text) };
  }

  async stop(keep) {
    await super.stop(keep);
    this.wire.close();
  }
}

// The values that differ from turn to turn, by what they are.
async function named(fleet, conversation, turn) {
  const question = turn.user_message.id;
  const [[id]] = await fleet.database.sql(
    `SELECT id FROM chat.turns WHERE question_id = '${question}'`);
  return new Map([[conversation.id, 'conversation'], [conversation.user, 'user'], [id, 'turn'],
    [question, 'question'], [turn.assistant_message.id, 'answer']]);
}

function template(segments, names) {
  const seen = new Set();
  const result = segments.map((segment) => segment.map(({ sql, params }) => ({
    sql,
    params: params.map((p) => {
      const is = names.get(p);
      if (!is) return p;
      seen.add(is);
      return { is };
    }),
  })));
  const missing = [...names.values()].filter((name) => !seen.has(name));
  if (missing.length > 0) throw new Error(`no statement of a turn has the ${missing} as a parameter`);
  return result;
}

// A turn in a conversation that had as many as `before`, sending this text. The answers' metadata too, as
// the conversations of the length bench are to look like this one.
async function probe(bin, env, before, content) {
  const fleet = new Probe(bin, env);
  let failed = true;
  try {
    await fleet.start();
    const users = await createUsers(fleet.database, 1);
    const [conversation] = await createConversations(fleet.database, users, 1);
    for (let i = 0; i < before; i++) await fleet.turn(conversation, content);
    await broker.tap(fleet.vhost, TAP, 'chat.rpc', STEPS);
    fleet.wire.recording = true;
    const turn = await fleet.turn(conversation, content);
    fleet.wire.recording = false;
    const names = await named(fleet, conversation, turn);
    const messages = await broker.take(fleet.vhost, TAP, STEPS.length);
    const sizes = STEPS.map((step) => messages.find((m) => m.routing_key === step).payload_bytes);
    failed = false;
    return {
      segments: template(fleet.wire.segments, names),
      sizes: [...sizes, Buffer.byteLength(turn.text)],
      answer: turn.assistant_message.content,
      metadata: JSON.stringify(turn.assistant_message.metadata),
    };
  } finally {
    await fleet.stop(failed);
  }
}

module.exports = { probe };
