// What is true of every problem on HTTP.
import assert from 'node:assert/strict';

export function assertProblem(answer, status, { instance = true } = {}) {
  assert.equal(answer.status, status, answer.text);
  assert.match(answer.headers['content-type'] ?? '', /^application\/problem\+json/);
  const problem = answer.json;
  assert.equal(problem.type, 'about:blank');
  assert.equal(problem.status, status);
  assert.ok(problem.title.length > 0);
  assert.ok(problem.detail.length > 0);
  assert.equal(problem.error, problem.title);
  if (instance) assert.equal(problem.instance, answer.headers['x-correlation-id']);
  if (status === 503) assert.match(answer.headers['retry-after'], /^[1-9][0-9]*$/);
  return problem;
}

const SECURITY = {
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'content-security-policy': /default-src 'none'/,
  'cache-control': 'no-store',
  'x-correlation-id': /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
};

export function assertSecured(answer) {
  for (const [name, value] of Object.entries(SECURITY)) {
    const given = answer.headers[name] ?? '(none)';
    if (typeof value === 'string') assert.equal(given, value, name);
    else assert.match(given, value, name);
  }
}
