// JSON Web Tokens made by hand, so that wrong ones can be made, too.
import { createHmac, randomUUID } from 'node:crypto';

export const SECRET = 'integration-secret-of-thirty-two-bytes-and-more';

const encode = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value))
  .toString('base64url');

export function forge(header, claims, secret = SECRET) {
  const signed = `${encode(header)}.${encode(claims)}`;
  const hash = header.alg === 'HS512' ? 'sha512' : header.alg === 'HS384' ? 'sha384' : 'sha256';
  return `${signed}.${createHmac(hash, secret).update(signed).digest('base64url')}`;
}

export const now = () => Math.floor(Date.now() / 1000);

// A right token, with these claims besides.
export const token = (claims = {}) =>
  forge({ alg: 'HS256', typ: 'JWT' }, { sub: randomUUID(), exp: now() + 600, ...claims });

export const bearer = (claims) => ({ authorization: `Bearer ${token(claims)}` });
