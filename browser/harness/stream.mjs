// A native EventSource in a page, and what it heard: an array in the page, in the order of arrival.

import { eventually } from './wait.mjs';

/** The name of the node, from an `sse.open`. */
export const nodeOf = ({ data }) => JSON.parse(data).node;

let count = 0;

export class Stream {
  /** `url` as the page would write it; `names` are the events' names besides `message`, `sse.open` and `sse.gap`. */
  static async open(page, url, names = []) {
    const stream = Object.assign(new Stream(), { page, key: `s${count += 1}` });
    await page.evaluate(([key, url, names]) => {
      const source = new EventSource(url);
      const heard = [];
      for (const name of ['message', 'sse.open', 'sse.gap', ...names]) {
        source.addEventListener(name, event => heard.push({ event: name, data: event.data, id: event.lastEventId }));
      }
      const errors = [];
      source.addEventListener('error', () => errors.push(source.readyState));
      (globalThis.streams ??= {})[key] = { source, heard, errors };
    }, [stream.key, url, ['connect', ...names]]);
    return stream;
  }

  get #state() {
    return this.page.evaluate(key => {
      const { source, heard, errors } = globalThis.streams[key];
      return { ready: source.readyState, heard, errors };
    }, this.key);
  }

  /** EventSource.CONNECTING 0, OPEN 1, CLOSED 2. */
  async ready() {
    return (await this.#state).ready;
  }

  /** All events, or those of one name. */
  async heard(name) {
    const { heard } = await this.#state;
    return name ? heard.filter(({ event }) => event === name) : heard;
  }

  /** What was published: without the gateway's own. */
  async events() {
    return (await this.heard()).filter(({ event }) => !event.startsWith('sse.') && event !== 'connect');
  }

  data = async () => (await this.events()).map(({ data }) => data);

  /** Waits until `count` events named `name` have come; the last of them. */
  async until(name, count = 1) {
    return await eventually(`${count} of ${name} on ${await this.url()}`, async () => {
      const heard = await this.heard(name);
      if (heard.length < count) throw new Error(JSON.stringify((await this.#state)));
      return heard[count - 1];
    });
  }

  /** Waits until `count` published events have come; all of them. */
  async untilEvents(count) {
    return await eventually(`${count} events on ${await this.url()}`, async () => {
      const events = await this.events();
      if (events.length < count) throw new Error(JSON.stringify((await this.#state)));
      return events;
    });
  }

  untilClosed = () => eventually('the EventSource is closed', async () => (await this.ready()) === 2);

  url = () => this.page.evaluate(key => globalThis.streams[key].source.url, this.key);
  close = () => this.page.evaluate(key => globalThis.streams[key].source.close(), this.key);
}
