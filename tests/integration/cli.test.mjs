// The binaries' options, and the operator's command line.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { brokerUrl } from './lib/environment.mjs';
import { House, INTERNAL_KEY } from './lib/house.mjs';
import { request } from './lib/http.mjs';
import { SECRET, now } from './lib/token.mjs';
import { until } from './lib/wait.mjs';

const SERVERS = ['chatfleet-gateway', 'chatfleet-context-builder', 'chatfleet-inference'];
const NOBODY = 'amqp://guest:guest@127.0.0.1:1/';

describe('command line', () => {
  let house;

  before(async () => {
    house = await House.open('cli');
  });
  after(() => house.close());

  const run = (...args) => house.run(...args);
  const oneLine = (text, pattern) => {
    assert.match(text, pattern);
    assert.equal(text.trim().split('\n').length, 1, text);
  };

  const assertNarrow = (text) => text.split('\n').forEach((line) => assert.ok(line.length <= 140, line));

  // The rest of it wants a database (schema.test.mjs).
  it('chatfleet-persistence --help is as narrow as that of the others', async () => {
    assertNarrow((await run('chatfleet-persistence', ['--help'])).stdout);
  });

  for (const name of [...SERVERS, 'chatfleet']) {
    describe(name, () => {
      it('--help tells every setting, its default and its exit', async () => {
        const { code, stdout, stderr } = await run(name, ['--help']);
        assert.equal(code, 0);
        assert.equal(stderr, '');
        assert.match(stdout, new RegExp(`^${name}: `));
        assert.match(stdout, /RABBITMQ_URL/);
        assert.match(stdout, /--check-config/);
        assertNarrow(stdout);
      });

      it('--version', async () => {
        const { code, stdout } = await run(name, ['--version']);
        assert.equal(code, 0);
        assert.match(stdout, new RegExp(`^${name} [0-9]+\\.[0-9]+\\.[0-9]+\\n$`));
      });

      it('--check-config prints what is in force, without secrets', async () => {
        const { code, stdout, stderr } = await run(name, ['--check-config'], {
          MAX_MESSAGE_BYTES: '4096',
        });
        assert.equal(code, 0, stderr);
        assert.match(stdout, /^MAX_MESSAGE_BYTES=4096$/m);
        assert.match(stdout, /^RABBITMQ_URL=amqp:\/\/\w+:\*+@127\.0\.0\.1:/m);
        for (const secret of [SECRET, INTERNAL_KEY, new URL(brokerUrl(house.vhost)).password]) {
          assert.ok(!stdout.includes(secret));
        }
        if (name === 'chatfleet-gateway') assert.match(stdout, /^JWT_SECRET=\*+$/m);
      });

      for (const [key, value] of [['MAX_MESSAGE_BYTES', 'many'], ['MAX_MESSAGE_BYTES', '1'],
                                  ['MAX_MESSAGE_BYTES', '99999999999999999999'],
                                  ['MAX_MESSAGE_BYTES', '4096 '],
                                  ['AMQP_HEARTBEAT_SECONDS', '0'], ['AMQP_HEARTBEAT_SECONDS', '-1'],
                                  ['EXCHANGE_PREFIX', 'x'.repeat(65)]]) {
        it(`refuses ${key}=${value.slice(0, 30)}`, async () => {
          const { code, stderr } = await run(name, ['--check-config'], { [key]: value });
          assert.equal(code, 78);
          oneLine(stderr, new RegExp(`^${name}: ${key}`));
        });
      }

      it('takes a secret from a file', async () => {
        const file = path.join(house.folder, `${name}.url`);
        fs.writeFileSync(file, `${brokerUrl(house.vhost)}\n`);
        const good = await run(name, ['--check-config'], {
          RABBITMQ_URL: undefined, RABBITMQ_URL_FILE: file,
        });
        assert.equal(good.code, 0, good.stderr);
        const missing = await run(name, ['--check-config'], {
          RABBITMQ_URL: undefined, RABBITMQ_URL_FILE: `${file}.not-there`,
        });
        assert.equal(missing.code, 78);
        oneLine(missing.stderr, /not-there/);
      });

      it('refuses what it does not know', async () => {
        const { code, stderr } = await run(name, ['--nonsense']);
        assert.equal(code, 64);
        assert.match(stderr, /--help/);
      });
    });
  }

  for (const name of SERVERS) {
    it(`${name} refuses two words`, async () => {
      assert.equal((await run(name, ['--help', '--version'])).code, 64);
    });

    it(`${name} refuses a wrong broker address at its start`, async () => {
      for (const url of ['http://127.0.0.1/', 'nonsense', 'amqp://h:99999/']) {
        const { code, stderr } = await run(name, [], { RABBITMQ_URL: url });
        assert.equal(code, 78, `${url}: ${stderr.slice(0, 1000)}`);
        assert.match(stderr, /"level":"error"/);
      }
    });

    it(`${name} refuses an admin port that is taken`, async () => {
      const server = net.createServer().listen(0, '127.0.0.1');
      await new Promise((resolve) => server.once('listening', resolve));
      const { code, stderr } = await run(name, [], { ADMIN_PORT: String(server.address().port) });
      server.close();
      assert.equal(code, 78);
      assert.match(stderr, /ADMIN_PORT/);
    });

    it(`${name} waits for a broker that is not there, and says so`, async () => {
      const p = house.start(name, { RABBITMQ_URL: NOBODY });
      await until('it has tried', () => p.lines.some((line) => /127\.0\.0\.1/.test(line.error ?? '')
        || /connect|refused/i.test(line.error ?? '')));
      assert.equal(fs.existsSync(p.stateFile), false);
      if (name === 'chatfleet-gateway') {
        const port = await p.listening();
        assert.equal((await request(port, '/health/live')).status, 200);
        assert.equal((await request(port, '/health')).status, 503);
      }
      await p.stop();
    });
  }

  describe('the shim', () => {
    const refused = (what, env, pattern) => it(`refuses ${what}`, async () => {
      const { code, stderr } = await run('chatfleet-gateway', [], env);
      assert.equal(code, 78, stderr);
      oneLine(stderr, pattern);
      assert.ok(!stderr.includes('tooshort'), 'the secret is not told');
    });

    refused('a missing JWT_SECRET', { JWT_SECRET: undefined }, /JWT_SECRET is not set/);
    refused('an empty JWT_SECRET', { JWT_SECRET: '' }, /JWT_SECRET/);
    refused('a short JWT_SECRET', { JWT_SECRET: 'tooshort' }, /JWT_SECRET/);
    refused('two secrets that differ', { JWT_SECRET_KEY: 'another-secret-of-some-length-here' },
            /JWT_SECRET/);
    refused('an origin that is none', { CORS_ORIGINS: 'app.example.org' }, /CORS_ORIGINS/);
    refused('origins that are broken JSON', { CORS_ORIGINS: '["https://a' }, /CORS_ORIGINS/);
    refused('a port that is none', { PORT: '70000' }, /PORT/);
    refused('an address that is none', { BIND_ADDRESS: 'somewhere' }, /somewhere/);
    refused('a log level that is none', { LOG_LEVEL: 'loud' }, /LOG_LEVEL/);

    it('takes its secret by its other name', async () => {
      const { code, stdout } = await run('chatfleet-gateway', ['--check-config'], {
        JWT_SECRET: undefined, JWT_SECRET_KEY: SECRET, LOG_LEVEL: 'WARN',
      });
      assert.equal(code, 0);
      assert.match(stdout, /^JWT_SECRET=\*+$/m);
      assert.match(stdout, /^LOG_LEVEL=warn$/m);
    });

    it('refuses a port that is taken', async () => {
      const server = net.createServer().listen(0, '127.0.0.1');
      await new Promise((resolve) => server.once('listening', resolve));
      const { code, stderr } = await run('chatfleet-gateway', [], { PORT: String(server.address().port) });
      server.close();
      assert.equal(code, 78);
      assert.match(stderr, new RegExp(`port ${server.address()?.port ?? ''}`));
    });
  });

  describe('chatfleet token', () => {
    const read = (text) => text.trim().split('.').slice(0, 2).map((part) =>
      JSON.parse(Buffer.from(part, 'base64url')));

    it('makes a token that the secret signs', async () => {
      const { code, stdout } = await run('chatfleet', ['token', '--user', 'ann', '--tenant', 'acme',
                                                       '--role', 'admin,user', '--expires', '60']);
      assert.equal(code, 0);
      const [header, claims] = read(stdout);
      assert.equal(header.alg, 'HS256');
      assert.equal(claims.sub, 'ann');
      assert.equal(claims.tenant_id, 'acme');
      assert.deepEqual(claims.roles, ['admin', 'user']);
      assert.ok(Math.abs(claims.exp - now() - 60) <= 5);
      const [signed, signature] = stdout.trim().split(/\.(?=[^.]*$)/);
      assert.equal(createHmac('sha256', SECRET).update(signed).digest('base64url'), signature);
    });

    it('names a tier', async () => {
      const { stdout } = await run('chatfleet', ['token', '--user', 'ann', '--tier', 'premium']);
      assert.equal(read(stdout)[1].tier, 'premium');
    });

    it('makes one for a new user without options', async () => {
      const subjects = [];
      for (let i = 0; i < 2; i++) subjects.push(read((await run('chatfleet', ['token'])).stdout)[1].sub);
      assert.match(subjects[0], /^[0-9a-f-]{36}$/);
      assert.notEqual(subjects[0], subjects[1]);
    });

    it('has exit codes', async () => {
      for (const args of [['--expires', 'soon'], ['--expires', '0'], ['--user'], ['--what', 'x'], ['more']]) {
        const { code, stdout, stderr } = await run('chatfleet', ['token', ...args]);
        assert.equal(code, 64, args.join(' '));
        assert.equal(stdout, '');
        assert.ok(stderr.length > 0);
      }
      const unset = await run('chatfleet', ['token'], { JWT_SECRET: undefined });
      assert.equal(unset.code, 78);
      oneLine(unset.stderr, /JWT_SECRET/);
    });
  });

  describe('chatfleet call', () => {
    it('without any worker ever says so', async () => {
      const { code, stderr } = await run('chatfleet', ['call', 'system.echo', '{}']);
      assert.equal(code, 69, stderr);
      assert.match(stderr, /^chatfleet: /);
    });

    it('prints the answer', async () => {
      const worker = await house.worker({ LOG_LEVEL: 'debug' });
      const { code, stdout, stderr } = await run('chatfleet',
        ['call', 'system.echo', '--user', 'ann', '--tenant', 'acme', '{"message":"grüße"}']);
      assert.equal(code, 0, stderr);
      assert.deepEqual(JSON.parse(stdout), { message: 'grüße' });
      assert.equal(stderr, '');
      // A user who is no UUID becomes one, always the same.
      const done = await until('the job is in the log', () => {
        const lines = worker.lines.filter((line) => line.event === 'job done');
        return lines.length > 0 && lines;
      });
      assert.equal(done[0].tenant_id, 'acme');
      assert.match(done[0].user_id, /^[0-9a-f]{8}-[0-9a-f]{4}-5/);

      const health = await run('chatfleet', ['call', 'system.health']);
      assert.equal(health.code, 0);
      assert.equal(JSON.parse(health.stdout).status, 'healthy');

      const refused = await run('chatfleet', ['call', 'system.echo', '{"message":1}']);
      assert.equal(refused.code, 1);
      assert.equal(JSON.parse(refused.stdout).errors[0].field, 'message');

      const unknown = await run('chatfleet', ['call', 'system.nonsense']);
      assert.equal(unknown.code, 69);
      assert.match(unknown.stderr, /system\.nonsense/);

      await worker.stop();
      const late = await run('chatfleet', ['call', 'system.echo', '{}']);
      assert.equal(late.code, 75);
      assert.match(late.stderr, /no answer/);
    });

    it('refuses wrong usage', async () => {
      for (const args of [[], ['a', '{}', 'more'], ['system.echo', '{'], ['system.echo', '[]'],
                          ['system.echo', '--user'], ['system.echo', '--nonsense']]) {
        const { code, stderr } = await run('chatfleet', ['call', ...args]);
        assert.equal(code, 64, args.join(' '));
        assert.ok(stderr.length > 0);
      }
    });
  });

  it('chatfleet refuses commands that it does not have', async () => {
    const { code, stderr } = await run('chatfleet', ['dance']);
    assert.equal(code, 64);
    oneLine(stderr, /dance/);
    for (const args of [['topology'], ['topology', 'draw'], ['topology', 'show', 'more'],
                        ['topology', 'apply', '--json']]) {
      assert.equal((await run('chatfleet', args)).code, 64, args.join(' '));
    }
  });

  it('chatfleet says when the broker is away', async () => {
    for (const args of [['topology', 'apply'], ['call', 'system.echo']]) {
      const { code, stderr } = await run('chatfleet', args, {
        RABBITMQ_URL: NOBODY, AMQP_CONNECT_TIMEOUT_MS: '500',
      });
      assert.equal(code, 69, stderr);
      assert.match(stderr, /^chatfleet: .*broker/m);
    }
    // What needs no broker works without one.
    assert.equal((await run('chatfleet', ['topology', 'show'], { RABBITMQ_URL: NOBODY })).code, 0);
  });

  it('chatfleet says when the broker refuses the login', async () => {
    const { code, stderr } = await run('chatfleet', ['topology', 'apply'], {
      RABBITMQ_URL: brokerUrl(house.vhost).replace(/\/\/[^@]*@/, '//nobody:wrong@'),
      AMQP_CONNECT_TIMEOUT_MS: '2000',
    });
    assert.equal(code, 69, stderr);
    assert.ok(!stderr.includes('wrong'), 'no password in messages');
  });
});
