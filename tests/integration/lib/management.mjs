// The broker's management HTTP API.
import http from 'node:http';
import { BROKER, MANAGEMENT } from './environment.mjs';
import { until } from './wait.mjs';

const login = `${decodeURIComponent(MANAGEMENT.username)}:${decodeURIComponent(MANAGEMENT.password)}`;

export function management(method, path, body) {
  return new Promise((resolve, reject) => {
    const request = http.request({
      host: MANAGEMENT.hostname,
      port: MANAGEMENT.port,
      method,
      path: `/api${path}`,
      agent: false,
      headers: {
        authorization: `Basic ${Buffer.from(login).toString('base64')}`,
        'content-type': 'application/json',
      },
    }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('end', () => {
        const text = Buffer.concat(parts).toString();
        if (response.statusCode >= 400) {
          const error = new Error(`${method} ${path}: ${response.statusCode} ${text}`);
          error.status = response.statusCode;
          reject(error);
        } else {
          resolve(text ? JSON.parse(text) : undefined);
        }
      });
    });
    request.on('error', reject);
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

const encode = encodeURIComponent;

export async function createVhost(name) {
  await management('PUT', `/vhosts/${encode(name)}`, {});
  await management('PUT', `/permissions/${encode(name)}/${encode(BROKER.user)}`,
                   { configure: '.*', write: '.*', read: '.*' });
}

// A broker that has just come back may not be able to, for a while.
export const deleteVhost = (name) => until(`${name} is deleted`, async () => {
  try {
    await management('DELETE', `/vhosts/${encode(name)}`);
  } catch (error) {
    if (error.status !== 404 && !(error.status >= 500)) throw error;
    return error.status === 404;
  }
  return true;
}, { every: 500, limit: 60000 });

export const queueOf = (vhost, name) => management('GET', `/queues/${encode(vhost)}/${encode(name)}`);

// Connections of one virtual host whose names contain `part`, as soon as there are `count`: the
// statistics lag behind by some seconds.
export function connections(vhost, part, count, limit) {
  return until(`${count} connections called ${part}`, async () => {
    const all = await management('GET', `/vhosts/${encode(vhost)}/connections`);
    const found = all.filter((c) => (c.client_properties?.connection_name ?? '').includes(part));
    return found.length === count && found;
  }, { every: 200, limit });
}

export const closeConnection = (name) => management('DELETE', `/connections/${encode(name)}`);
