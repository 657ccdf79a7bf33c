// A user of the fleet's own for a test: the same person by HTTP and by AMQP.
import { randomUUID } from 'node:crypto';
import { request } from './http.mjs';
import { now, token } from './token.mjs';
import { uuid7 } from './uuid.mjs';

export class Person {
  constructor({ id = randomUUID(), tenant, tier } = {}) {
    this.id = id;
    this.tier = tier;
    this.tenant = tenant ?? 'default';
    this.token = token({ sub: id, exp: now() + 3600, ...(tenant && { tenant_id: tenant }), ...(tier && { tier }) });
  }

  // Over HTTP, of a process or a port: {status, headers, text, json}.
  http(shim, method, path, body, { headers = {}, ...options } = {}) {
    return request(shim.port ?? shim, `/api/chat${path}`, {
      method, body, headers: { authorization: `Bearer ${this.token}`, ...headers }, ...options,
    });
  }

  // What a message of this person bears; `key` is an idempotency key.
  envelope({ headers = {}, key, ...properties } = {}) {
    return {
      messageId: uuid7(), ...properties,
      headers: {
        'x-user-id': this.id, 'x-tenant-id': this.tenant,
        ...(this.tier && { 'x-tier': this.tier }),
        ...(key !== undefined && { 'x-idempotency-key': key }), ...headers,
      },
    };
  }

  // Over AMQP: {type, status, body, properties, headers}.
  call(caller, operation, body, options) {
    return caller.call(operation, body, this.envelope(options));
  }

  // A conversation, made over AMQP.
  async conversation(caller, args = {}) {
    const { status, body } = await this.call(caller, 'conversation.create', args);
    if (status !== 201) throw new Error(`conversation.create: ${status} ${JSON.stringify(body)}`);
    return body;
  }

  // A message, sent over HTTP, and the turn's answer; `key` is an idempotency key.
  say(shim, conversationId, content, { key, headers = {}, ...args } = {}) {
    return this.http(shim, 'POST', `/conversations/${conversationId}/messages`, { content, ...args }, {
      headers: { ...headers, ...(key !== undefined && { 'idempotency-key': key }) },
    });
  }

  // The same over AMQP.
  send(caller, conversationId, content, args = {}, options) {
    return this.call(caller, 'message.send', { conversation_id: conversationId, content, ...args }, options);
  }

  // What the fleet says of a turn now.
  async turn(caller, turnId) {
    const { status, body } = await this.call(caller, 'turn.get', { turn_id: turnId });
    if (status !== 200) throw new Error(`turn.get: ${status} ${JSON.stringify(body)}`);
    return body;
  }
}
