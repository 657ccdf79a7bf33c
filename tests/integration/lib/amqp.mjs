// A caller of the fleet that knows nothing but docs/PROTOCOL.md.
import { randomUUID } from 'node:crypto';
import amqp from 'amqplib';
import { brokerUrl } from './environment.mjs';
import { later, until } from './wait.mjs';

const NOTICES = ['accepted', 'delta', 'interim', 'generated'];

export class Caller {
  #waiting = new Map();

  static async open(vhost) {
    const caller = new Caller();
    caller.connection = await amqp.connect(brokerUrl(vhost));
    caller.connection.on('error', () => {});
    caller.connection.on('close', () => { caller.closed = true; });
    caller.channel = await caller.connection.createConfirmChannel();
    caller.channel.on('error', () => {});
    caller.returned = [];
    caller.channel.on('return', (message) => caller.returned.push(message));
    caller.replyTo = (await caller.channel.assertQueue('', { exclusive: true })).queue;
    caller.replies = [];
    await caller.channel.consume(caller.replyTo, (message) => caller.#arrived(message),
                                 { noAck: true });
    return caller;
  }

  #arrived(message) {
    if (!message) return;
    this.replies.push(message);
    if (NOTICES.includes(message.properties.type)) return; // the answer comes behind them
    this.#waiting.get(message.properties.correlationId)?.(message);
  }

  // Publishes a request and waits for the confirm; the properties and headers given win. Returns
  // the correlation id.
  async send(operation, body, { exchange = 'chat.rpc', key = operation, headers = {},
                                ...properties } = {}) {
    const id = randomUUID();
    const all = {
      contentType: 'application/json', type: operation, messageId: randomUUID(),
      correlationId: id, replyTo: this.replyTo, persistent: true, timestamp: Date.now() / 1000 | 0,
      mandatory: true, ...properties,
      headers: { 'x-user-id': randomUUID(), 'x-tenant-id': 'default', ...headers },
    };
    for (const name of Object.keys(all)) if (all[name] === null) delete all[name];
    const bytes = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
    await new Promise((resolve, reject) => {
      this.channel.publish(exchange, key, bytes, all, (e) => (e ? reject(e) : resolve()));
    });
    return all.correlationId;
  }

  // The reply: {type, status, body, properties, headers}, and the notices that came before it.
  async call(operation, body, options = {}) {
    const correlationId = options.correlationId ?? randomUUID();
    const { promise, resolve } = later(`a reply of ${operation}`);
    this.#waiting.set(correlationId, resolve);
    await this.send(operation, body, { ...options, correlationId });
    const message = await promise;
    this.#waiting.delete(correlationId);
    return { ...readAnswer(message), notices: this.notices(correlationId) };
  }

  // What came so far of a call that streams its answer, but the answer itself.
  notices(correlationId) {
    return this.replies.filter((m) => m.properties.correlationId === correlationId &&
                                      NOTICES.includes(m.properties.type)).map(readAnswer);
  }

  // Takes one message out of a queue, as soon as there is one. It is acked.
  take(queue) {
    return until(`a message in ${queue}`, async () => {
      const message = await this.channel.get(queue, { noAck: false });
      if (message) this.channel.ack(message);
      return message;
    });
  }

  // Takes the messages that are in a queue now.
  async takeAll(queue) {
    const list = [];
    for (let m = await this.channel.get(queue); m; m = await this.channel.get(queue)) {
      this.channel.ack(m);
      list.push(m);
    }
    return list;
  }

  async close() {
    try {
      await this.connection.close();
    } catch {
      // A connection that a test had closed.
    }
  }
}

export function readAnswer(message) {
  return {
    type: message.properties.type,
    status: message.properties.headers['x-status'],
    headers: message.properties.headers,
    properties: message.properties,
    body: JSON.parse(message.content.toString()),
  };
}
