// Waiting for something to become true, instead of sleeping and hoping.
import { setTimeout as pause } from 'node:timers/promises';

// Generous: sanitizers, a busy machine. A test that waits this long has failed anyway.
export const LIMIT_MS = 20000;

// Asks again and again until `ask` gives something true, which is returned.
export async function until(what, ask, { limit = LIMIT_MS, every = 25 } = {}) {
  const end = Date.now() + limit;
  let last;
  for (;;) {
    try {
      const answer = await ask();
      if (answer) return answer;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) {
      throw new Error(`waited ${limit} ms in vain: ${what}`, { cause: last });
    }
    await pause(every);
  }
}

// A promise with its ends outside, and a limit.
export function later(what, { limit = LIMIT_MS } = {}) {
  let resolve, reject;
  const promise = new Promise((yes, no) => { resolve = yes; reject = no; });
  const timer = setTimeout(() => reject(new Error(`waited ${limit} ms in vain: ${what}`)), limit);
  promise.catch(() => {}).finally(() => clearTimeout(timer));
  return { promise, resolve, reject };
}

export { pause };
