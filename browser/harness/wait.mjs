// Waiting for the thing itself. Nothing here or in the tests sleeps for a time that somebody guessed.

import { setTimeout as pause } from 'node:timers/promises';

// Long enough for a machine that does much else; a test that passes never waits for it.
const WITHIN = 20_000;
const EACH = 25;

/**
 * What `probe` gives, once it is neither false nor nothing. A probe that throws has not happened yet.
 * Fails with `what`, and the last thing that was seen: a probe that wants to show it throws it.
 */
export async function eventually(what, probe, within = WITHIN) {
  const end = Date.now() + within;
  let seen;
  for (;;) {
    try {
      const value = await probe();
      if (value !== undefined && value !== null && value !== false) return value;
      seen = value;
    } catch (error) {
      seen = error?.message ?? error;
    }
    if (Date.now() > end) throw new Error(`not within ${within / 1000} s: ${what}; last seen: ${seen}`);
    await pause(EACH);
  }
}

/** `promise`, or a failure that says what took too long. */
export async function soon(what, promise, within = WITHIN) {
  const limit = new AbortController();
  const late = pause(within, undefined, { signal: limit.signal }).then(() => {
    throw new Error(`not within ${within / 1000} s: ${what}`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    limit.abort();
  }
}
