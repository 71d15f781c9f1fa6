// A test of the browser: `scenario(name, async desk => ...)`. The desk opens pages, listens to what they complain
// about, and clears up. A failed test shows its pages' complaints, pictures of them, and what the servers logged.

import { mkdirSync, rmSync } from 'node:fs';
import { after, test } from 'node:test';
import { browser, stopBrowser } from './chromium.mjs';
import { Complaints } from './complaints.mjs';
import { logsSince, mark, stopServers } from './servers.mjs';
import { FAILURES } from './tools.mjs';
import { soon } from './wait.mjs';

// With the start of a cluster, where it is the first to need one.
const TIMEOUT = 90_000;

export function scenario(name, run, timeout = TIMEOUT) {
  test(name, async () => {
    const desk = new Desk();
    const marks = mark();
    try {
      await soon(`the end of "${name}"`, run(desk), timeout);
    } catch (error) {
      await desk.report(name, marks);
      throw error;
    } finally {
      await desk.clear();
    }
  });
}

// Of this run alone.
rmSync(FAILURES, { recursive: true, force: true });

class Desk {
  #contexts = [];
  #closing = [];

  /** A context: a profile of its own. `options` are Playwright's; 1280x800 in light. */
  async context(options = {}) {
    const context = await (await browser()).newContext({
      viewport: { width: 1280, height: 800 }, colorScheme: 'light', locale: 'en-US', ...options,
    });
    context.setDefaultTimeout(10_000);
    this.#contexts.push(context);
    return context;
  }

  /** A page at `url`, in `context` or one of its own. What it complains about is in `page.complaints`. */
  async open(url, context) {
    const page = await (context ?? await this.context()).newPage();
    page.complaints = new Complaints(page);
    await page.goto(url);
    return page;
  }

  /** Something with a `close`, which goes with the test. */
  keep(thing) {
    this.#closing.push(thing);
    return thing;
  }

  async report(name, marks) {
    console.error(`\n==== ${name}`);
    mkdirSync(FAILURES, { recursive: true });
    const pages = this.#contexts.flatMap(context => context.pages());
    for (const [i, page] of pages.entries()) {
      const file = `${FAILURES}/${name.replace(/[^A-Za-z0-9]+/g, '-').slice(0, 60)}-${i}.png`;
      const taken = await page.screenshot({ path: file, timeout: 5_000 }).then(() => file, () => 'no picture');
      console.error(`---- page ${page.url()} (${taken})`);
      for (const { text, url } of page.complaints?.all ?? []) console.error(`  ${text} ${url}`);
    }
    console.error(logsSince(marks));
  }

  async clear() {
    await Promise.allSettled(this.#contexts.map(context => context.close()));
    await Promise.allSettled(this.#closing.map(thing => thing.close()));
  }
}

async function stop() {
  // Pages first: gateways wait for their streams.
  await stopBrowser().catch(error => console.error(`browser: ${error.message}`));
  await stopServers();
}

after(stop);
for (const [signal, code] of [['SIGINT', 130], ['SIGTERM', 143], ['SIGHUP', 129]]) {
  process.once(signal, () => stop().finally(() => process.exit(code)));
}
