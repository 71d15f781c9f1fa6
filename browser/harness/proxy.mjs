// Servers of the tests' own: a proxy that sees every request and can be cut, and a page of another origin.

import { once } from 'node:events';
import { createServer, request } from 'node:http';

async function listen(server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${server.address().port}`;
}

/** Passes everything on to `target`, on its own port. */
export class Proxy {
  /** Every request that came, from its beginning: {method, path, headers}. */
  requests = [];
  /** Takes nobody now. */
  away = false;
  /** What had passed of the answer that `stopAfter` stopped. */
  passed = '';
  #stopAfter = null;
  #sockets = new Set();

  static async start(target) {
    const proxy = new Proxy();
    proxy.target = new URL(target);
    proxy.server = createServer((asked, answer) => proxy.#pass(asked, answer));
    proxy.server.on('connection', socket => {
      if (proxy.away) return socket.destroy();
      proxy.#sockets.add(socket);
      socket.on('close', () => proxy.#sockets.delete(socket));
    });
    proxy.url = await listen(proxy.server);
    return proxy;
  }

  /** Requests for event streams alone. */
  get streams() {
    return this.requests.filter(({ path }) => path.startsWith('/events') || path.startsWith('/api/sse/connect'));
  }

  /** Ends what is open, as a network does: without a word. */
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Like `cut`, and takes nobody until `back`. */
  leave() {
    this.away = true;
    this.cut();
  }

  back() {
    this.away = false;
  }

  /**
   * The next event stream goes no further than the first match of `pattern`, and the event `stopped` behind it: once that is
   * heard, the browser has read what was before it. (What it has not read when a stream breaks it throws away.)
   */
  stopAfter(pattern) {
    this.#stopAfter = pattern;
  }

  #pass(asked, answer) {
    const { method, url: path, headers } = asked;
    this.requests.push({ method, path, headers });
    const { hostname, port } = this.target;
    const passed = request({ hostname, port, method, path, headers, agent: false });
    passed.on('response', response => {
      answer.writeHead(response.statusCode, response.headers);
      answer.flushHeaders();
      const stream = response.headers['content-type'] === 'text/event-stream';
      this.#copy(response, answer, stream ? this.#stopAfter : null);
    });
    passed.on('error', () => answer.destroy());
    answer.on('close', () => passed.destroy());
    asked.pipe(passed);
  }

  #copy(response, answer, pattern) {
    let text = '';
    response.on('data', bytes => {
      if (!pattern) return answer.write(bytes);
      const before = text.length;
      text += bytes.toString('latin1');
      const match = pattern.exec(text);
      if (!match) return answer.write(bytes);
      response.removeAllListeners('data').resume();
      this.#stopAfter = null;
      const end = match.index + match[0].length;
      this.passed = text.slice(0, end);
      answer.write(bytes.subarray(0, end - before));
      answer.write('event: stopped\ndata\n\n');
    });
    response.on('end', () => answer.end());
    response.on('error', () => answer.destroy());
  }

  async close() {
    this.leave();
    await once(this.server.close(), 'close');
  }
}

/** A site of its own, with one empty page. */
export async function site() {
  const server = createServer((_, answer) => {
    answer.writeHead(200, { 'Content-Type': 'text/html' }).end('<!doctype html><title>another site</title>');
  });
  const url = await listen(server);
  return { url, close: () => { server.closeAllConnections(); return once(server.close(), 'close'); } };
}
