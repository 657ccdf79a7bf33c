// What the runner hands over.
import path from 'node:path';

export function wanted(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; ./fleet test sets it`);
  return value;
}

const broker = new URL(wanted('RABBITMQ_URL'));

export const BIN = path.resolve(wanted('CHATFLEET_BIN'));
export const MANAGEMENT = new URL(wanted('RABBITMQ_MANAGEMENT_URL'));
export const BROKER = {
  host: broker.hostname,
  port: Number(broker.port || 5672),
  user: decodeURIComponent(broker.username || 'guest'),
  password: decodeURIComponent(broker.password || 'guest'),
};

// The broker's URL with another virtual host.
export function brokerUrl(vhost, { host = BROKER.host, port = BROKER.port, scheme = 'amqp' } = {}) {
  const login = `${encodeURIComponent(BROKER.user)}:${encodeURIComponent(BROKER.password)}`;
  return `${scheme}://${login}@${host}:${port}/${encodeURIComponent(vhost)}`;
}

export const binary = (name) => path.join(BIN, name);
