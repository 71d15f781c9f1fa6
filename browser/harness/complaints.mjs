// What a page complains about: errors and warnings on its console, exceptions, requests that failed.

import assert from 'node:assert/strict';

// A stream that the page itself ended, by close() or by going away.
const OWN = complaint => complaint.stream && complaint.text === 'net::ERR_ABORTED';

// What nginx does to an open stream when the node behind it is killed, and to one that it was just opening; and what the
// system does to one of the node itself.
const KILLED = [
  'net::ERR_INCOMPLETE_CHUNKED_ENCODING', 'net::ERR_EMPTY_RESPONSE', 'net::ERR_CONNECTION_RESET', 'net::ERR_CONNECTION_REFUSED',
];
const CUT = complaint => complaint.stream && KILLED.some(error => complaint.text.endsWith(error));

export class Complaints {
  all = [];

  constructor(page) {
    page.on('console', message => {
      if (['error', 'warning'].includes(message.type())) this.#add(message.text(), message.location().url);
    });
    page.on('pageerror', error => this.#add(String(error.stack ?? error), page.url()));
    page.on('requestfailed', request => this.#add(request.failure()?.errorText ?? '?', request.url()));
  }

  #add(text, url) {
    const { pathname } = URL.canParse(url) ? new URL(url) : {};
    this.all.push({ text, url, stream: ['/events', '/api/sse/connect', '/status'].includes(pathname) });
  }

  /** Nothing but what the page did itself and, where nodes were `killed`, that its streams were cut. */
  check({ killed = false } = {}) {
    const rest = this.all.filter(complaint => !OWN(complaint) && !(killed && CUT(complaint)));
    assert.deepEqual(rest, [], 'the page complained');
  }
}
