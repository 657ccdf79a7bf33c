// The broker as the benches see it: virtual hosts of their own, and what a queue looks like.
'use strict';

const { sleep } = require('./measure.js');

const TAKE_MS = 10000;
const COUNTED_MS = 6000; // a little more than the broker's interval of statistics
const amqp = new URL(process.env.RABBITMQ_URL || 'amqp://guest:guest@127.0.0.1:5672');
const management = new URL(process.env.RABBITMQ_MANAGEMENT_URL || 'http://127.0.0.1:15672');
const user = decodeURIComponent(management.username || amqp.username || 'guest');
const password = decodeURIComponent(management.password || amqp.password || 'guest');
const authorization = 'Basic ' + Buffer.from(`${user}:${password}`).toString('base64');

async function call(method, path, body) {
  const url = new URL('/api' + path, management.origin);
  const answer = await fetch(url, {
    method,
    headers: { authorization, 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  if (!answer.ok && answer.status !== 404) {
    throw new Error(`${method} ${url.pathname}: ${answer.status} ${await answer.text()}`);
  }
  return answer.status === 204 || answer.status === 201 ? null : answer.json();
}

async function createVhost(name) {
  await call('PUT', `/vhosts/${encodeURIComponent(name)}`);
  await call('PUT', `/permissions/${encodeURIComponent(name)}/${encodeURIComponent(user)}`,
    { configure: '.*', write: '.*', read: '.*' });
}

async function deleteVhost(name) {
  await call('DELETE', `/vhosts/${encodeURIComponent(name)}`).catch(() => {});
}

function vhostUrl(name) {
  const url = new URL(amqp);
  url.pathname = '/' + encodeURIComponent(name);
  return url.href;
}

async function queueArguments(vhost, name) {
  const q = await call('GET', `/queues/${encodeURIComponent(vhost)}/${encodeURIComponent(name)}`);
  return q && q.arguments;
}

// What must be equal for a comparison to be one; the names of exchange and key may differ.
async function assertSameQueue(a, b) {
  const [x, y] = await Promise.all([queueArguments(...a), queueArguments(...b)]);
  const comparable = (args) => JSON.stringify(Object.keys(args || {}).sort().map((key) =>
    [key, /^x-dead-letter-(exchange|routing-key)$/.test(key) ? '' : args[key]]));
  if (!x || comparable(x) !== comparable(y)) {
    throw new Error(`the queues ${a[1]} and ${b[1]} differ: ${JSON.stringify([x, y])}`);
  }
}

// A queue that gets a copy of what an exchange routes by these keys.
async function tap(vhost, queue, exchange, keys) {
  const v = encodeURIComponent(vhost);
  await call('PUT', `/queues/${v}/${queue}`, { durable: false, auto_delete: false });
  for (const key of keys) {
    await call('POST', `/bindings/${v}/e/${exchange}/q/${queue}`, { routing_key: key });
  }
}

// So many messages of a queue, once they are there: {routing_key, payload_bytes, …}.
async function take(vhost, queue, count) {
  const messages = [];
  for (const end = Date.now() + TAKE_MS; messages.length < count; await sleep(50)) {
    if (Date.now() > end) throw new Error(`${queue} has ${messages.length} of ${count} messages`);
    messages.push(...await call('POST', `/queues/${encodeURIComponent(vhost)}/${queue}/get`,
      { count, ackmode: 'ack_requeue_false', encoding: 'auto' }));
  }
  return messages;
}

// The process of the first node, when it runs on this machine.
async function brokerPid() {
  for (;;) { // a busy broker leaves its figures out
    const [node] = await call('GET', '/nodes?columns=os_pid');
    if (node?.os_pid) return Number(node.os_pid);
    await sleep(500);
  }
}

// Messages that were published so far in a virtual host, once the count stands still: it lags behind by seconds.
async function published(vhost) {
  for (let last = -1, since = 0; ;) {
    const { message_stats: stats } = await call('GET', `/vhosts/${encodeURIComponent(vhost)}`);
    const count = stats?.publish ?? 0;
    if (count !== last) since = Date.now();
    else if (Date.now() - since > COUNTED_MS) return count;
    last = count;
    await sleep(500);
  }
}

module.exports = {
  createVhost, deleteVhost, vhostUrl, queueArguments, assertSameQueue, tap, take, brokerPid,
  published,
};
