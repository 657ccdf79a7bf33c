// Requests: well-behaved ones by node:http, the others byte by byte.
import http from 'node:http';
import net from 'node:net';
import { parseMetrics } from './metrics.mjs';
import { LIMIT_MS } from './wait.mjs';

// {status, headers, text, json}. A body that is neither text nor Buffer is sent as JSON.
export function request(port, path, { method, headers = {}, body, agent = false,
                                      limit = LIMIT_MS } = {}) {
  const all = { ...headers };
  let payload = body;
  if (body !== undefined && typeof body !== 'string' && !Buffer.isBuffer(body)) {
    payload = JSON.stringify(body);
  }
  if (payload !== undefined && !Object.keys(all).some((h) => h.toLowerCase() === 'content-type')) {
    all['content-type'] = 'application/json';
  }
  if (payload !== undefined) all['content-length'] = Buffer.byteLength(payload);
  for (const name of Object.keys(all)) if (all[name] === undefined) delete all[name];
  return new Promise((resolve, reject) => {
    const r = http.request({
      host: '127.0.0.1', port, path, agent, headers: all,
      method: method ?? (payload === undefined ? 'GET' : 'POST'),
    }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => resolve(answer(response.statusCode, response.headers,
                                              Buffer.concat(parts).toString())));
    });
    r.setTimeout(limit, () => r.destroy(new Error(`no answer to ${path} within ${limit} ms`)));
    r.on('error', reject);
    r.end(payload);
  });
}

function answer(status, headers, text) {
  return {
    status, headers, text,
    get json() { return JSON.parse(text); },
  };
}

export async function metricsOf(port) {
  return parseMetrics((await request(port, '/metrics')).text);
}

// Sends bytes, and gives what came back until the server closed the connection, or until `enough`
// (of the text so far) is true, or the limit is over: {text, closed, answers}.
export function raw(port, bytes, { enough = () => false, limit = 5000, end = false } = {}) {
  return new Promise((resolve) => {
    const socket = net.connect({ host: '127.0.0.1', port, allowHalfOpen: !end });
    let text = '', timer;
    const finish = (closed) => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ text, closed, answers: answersIn(text) });
    };
    timer = setTimeout(() => finish(false), limit);
    socket.setEncoding('latin1');
    socket.on('data', (part) => {
      text += part;
      if (enough(text)) finish(false);
    });
    socket.on('error', () => finish(true));
    socket.on('end', () => finish(true));
    socket.on('close', () => finish(true));
    socket.on('connect', () => (end ? socket.end(bytes, 'latin1') : socket.write(bytes, 'latin1')));
  });
}

// The complete answers at the beginning of what came over a connection; those to HEAD are not for
// this.
export function answersIn(text) {
  const list = [];
  for (;;) {
    const end = text.indexOf('\r\n\r\n');
    const status = /^HTTP\/1\.[01] ([0-9]{3})[^\r\n]*\r\n/.exec(text);
    if (end < 0 || !status) return list;
    const headers = {};
    for (const line of text.slice(status[0].length, end).split('\r\n')) {
      const colon = line.indexOf(':');
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    const code = Number(status[1]);
    const none = code === 204 || code < 200;
    const length = none ? 0 : Number(headers['content-length'] ?? text.length - end - 4);
    const body = text.slice(end + 4, end + 4 + length);
    if (body.length < length) return list;
    list.push(answer(code, headers, Buffer.from(body, 'latin1').toString()));
    text = text.slice(end + 4 + length);
  }
}
