// The fleet behind the shim, played by a script: it takes the messages of one queue and answers as a
// test says, rightly or wrongly.
import amqp from 'amqplib';
import { brokerUrl } from './environment.mjs';
import { until } from './wait.mjs';

export class ScriptedFleet {
  static async open(house, queue = 'persistence') {
    const fleet = new ScriptedFleet();
    fleet.calls = [];
    fleet.script = () => {}; // for each call; what it does not answer stays unanswered
    fleet.connection = await amqp.connect(brokerUrl(house.vhost));
    fleet.connection.on('error', () => {});
    fleet.channel = await fleet.connection.createChannel();
    await fleet.channel.prefetch(2000);
    await fleet.channel.consume(queue, (message) => {
      if (!message) return;
      fleet.channel.ack(message);
      const call = new Call(fleet.channel, message);
      fleet.calls.push(call);
      fleet.script(call);
    });
    return fleet;
  }

  // The next call that comes, which the script does not see.
  async next(what) {
    const before = this.script;
    let call;
    this.script = (one) => {
      call = one;
      this.script = before;
    };
    await what?.();
    return until('the shim calls', () => call, { every: 5 });
  }

  async close() {
    await this.connection.close().catch(() => {});
  }
}

// One message that came, and what can be said to it.
class Call {
  #channel;

  constructor(channel, message) {
    this.#channel = channel;
    this.properties = message.properties;
    this.headers = message.properties.headers;
    this.id = message.properties.messageId;
    this.text = message.content.toString();
    this.args = JSON.parse(this.text);
    this.question = {
      id: `${this.id}-question`, conversation_id: this.args.conversation_id, sender_type: 'user',
      content: this.args.content ?? '',
    };
  }

  say(type, body, headers = {}) {
    const bytes = Buffer.isBuffer(body) ? body
      : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
    this.#channel.publish('', this.properties.replyTo, bytes, {
      type, correlationId: this.properties.correlationId, contentType: 'application/json', headers,
    });
  }

  get notice() {
    return {
      turn_id: this.id, conversation_id: this.args.conversation_id, user_message: this.question,
      state: 'accepted',
    };
  }

  // Several notices, of other calls too, as a worker gathers them: [type, call, body, epoch, offset] each.
  gathered(notices, rest = '') {
    const lines = notices.map(([type, call, body, epoch = 0, offset = 0]) =>
      `${type} ${call.properties.correlationId} ${epoch} ${offset}\n${JSON.stringify(body)}\n`);
    this.#channel.publish('', this.properties.replyTo, Buffer.from(lines.join('') + rest), { type: 'notices' });
  }

  accept() {
    this.say('accepted', this.notice);
  }

  delta(offset, text, epoch = 1) {
    this.say('delta', { text }, { 'x-epoch': epoch, 'x-offset': offset });
  }

  // The body of an answer with this text.
  answer(content) {
    const message = {
      id: `${this.id}-answer`, conversation_id: this.args.conversation_id,
      sender_type: 'assistant', content,
    };
    const usage = { total_tokens: 3, model: 'script' };
    return this.properties.type === 'message.regenerate'
      ? { new_message: message, usage }
      : { user_message: this.question, assistant_message: message, usage };
  }

  reply(content, headers = {}) {
    this.say('reply', this.answer(content), { 'x-status': 200, ...headers });
  }

  fail(status, detail = 'so says the script', more = {}) {
    this.say('error', { type: 'about:blank', title: 'Script', status, detail, ...more },
             { 'x-status': status });
  }
}
