// TLS to the broker: a small TLS proxy with certificates of a CA of our own stands before it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { after, before, describe, it } from 'node:test';
import { BROKER, brokerUrl } from './lib/environment.mjs';
import { echo, House } from './lib/house.mjs';
import { until } from './lib/wait.mjs';

describe('amqps', () => {
  let house, ca, otherCa;
  const proxies = [];

  const openssl = (...args) => execFileSync('openssl', args, { stdio: 'pipe' });
  const file = (name) => path.join(house.folder, name);

  // A CA of that name; the path of its certificate.
  function authority(name) {
    openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
            '-keyout', file(`${name}.key`), '-out', file(`${name}.pem`), '-days', '2',
            '-subj', `/CN=${name}`, '-addext', 'basicConstraints=critical,CA:TRUE');
    return file(`${name}.pem`);
  }

  // A server's certificate for these names: {key, cert}.
  function certificate(name, issuer, names, days = 2) {
    openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
            '-keyout', file(`${name}.key`), '-out', file(`${name}.csr`), '-subj', `/CN=${name}`);
    fs.writeFileSync(file(`${name}.ext`), `subjectAltName=${names}\n`);
    openssl('x509', '-req', '-in', file(`${name}.csr`), '-CA', file(`${issuer}.pem`), '-CAkey',
            file(`${issuer}.key`), '-CAcreateserial', '-days', String(days), '-out',
            file(`${name}.pem`), '-extfile', file(`${name}.ext`));
    return { key: fs.readFileSync(file(`${name}.key`)), cert: fs.readFileSync(file(`${name}.pem`)) };
  }

  async function proxy(options) {
    const server = tls.createServer(options, (outside) => {
      const inside = net.connect(BROKER.port, BROKER.host);
      outside.pipe(inside).pipe(outside);
      for (const [a, b] of [[outside, inside], [inside, outside]]) {
        a.on('error', () => b.destroy());
        a.on('close', () => b.destroy());
      }
    });
    server.on('tlsClientError', () => {});
    server.listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    proxies.push(server);
    return server.address().port;
  }

  before(async () => {
    house = await House.open('amqps');
    ca = authority('ca');
    otherCa = authority('other-ca');
  });
  after(async () => {
    await house.close();
    for (const server of proxies) server.close();
  });

  const secure = (port, host = 'localhost', caFile = ca) => ({
    RABBITMQ_URL: brokerUrl(house.vhost, { scheme: 'amqps', host, port }), RABBITMQ_CA_FILE: caFile,
  });

  it('carries the fleet, by name and by address', async () => {
    const port = await proxy(certificate('both', 'ca', 'DNS:localhost,IP:127.0.0.1'));
    const worker = await house.worker(secure(port, '127.0.0.1'));
    const shim = await house.shim(secure(port));
    await house.answers(shim);
    const text = 'x'.repeat(3000);
    const answers = await Promise.all(Array.from({ length: 100 }, () => echo(shim, { message: text })));
    for (const answer of answers) assert.equal(answer.json.message, text);
    const called = await house.run('chatfleet', ['call', 'system.health'], secure(port));
    assert.equal(called.code, 0, called.stderr);
    await shim.stop();
    await worker.stop();
  });

  async function assertRefused(env, pattern) {
    const worker = house.start('chatfleet-context-builder', env);
    const line = await until('the refusal is logged', () =>
      worker.lines.find((l) => pattern.test(l.error ?? '')));
    assert.ok(['warn', 'error'].includes(line.level));
    assert.ok(!fs.existsSync(worker.stateFile), 'it must not become ready');
    assert.equal(worker.ended, undefined, 'it tries again, the certificate may be mended');
    const called = await house.run('chatfleet', ['topology', 'apply'],
                                   { ...env, AMQP_CONNECT_TIMEOUT_MS: '1000' });
    assert.equal(called.code, 69);
    await worker.stop();
  }

  it('refuses a certificate of another authority', async () => {
    const port = await proxy(certificate('strange', 'other-ca', 'DNS:localhost'));
    await assertRefused(secure(port), /certificate/);
    // The same broker is trusted by who trusts that authority.
    assert.equal((await house.run('chatfleet', ['topology', 'apply'],
                                  secure(port, 'localhost', otherCa))).code, 0);
  });

  it('refuses our private authority when the system does not know it', async () => {
    const port = await proxy(certificate('private', 'ca', 'DNS:localhost'));
    await assertRefused({ ...secure(port), RABBITMQ_CA_FILE: undefined }, /certificate/);
  });

  it('refuses a certificate for another name', async () => {
    const port = await proxy(certificate('other-name', 'ca', 'DNS:broker.example.org'));
    await assertRefused(secure(port), /host ?name|name/i);
  });

  it('refuses a certificate for another address', async () => {
    const port = await proxy(certificate('no-address', 'ca', 'DNS:localhost,IP:127.0.0.2'));
    await assertRefused(secure(port, '127.0.0.1'), /address|name/i);
  });

  it('refuses old versions of TLS', async () => {
    const port = await proxy({
      ...certificate('old', 'ca', 'DNS:localhost'), minVersion: 'TLSv1', maxVersion: 'TLSv1.1',
      ciphers: 'DEFAULT@SECLEVEL=0',
    });
    await assertRefused(secure(port), /TLS/);
  });

  it('says what is wrong where no TLS is spoken', async () => {
    await assertRefused(secure(BROKER.port), /TLS/);
  });

  it('refuses to start with an authority file that cannot be read', async () => {
    for (const wrong of [file('not-there.pem'), file('ca.key')]) {
      const { code, stderr } = await house.run('chatfleet-context-builder', [],
                                               { ...secure(BROKER.port), RABBITMQ_CA_FILE: wrong });
      assert.equal(code, 78);
      assert.ok(stderr.includes(wrong), stderr);
    }
  });
});
