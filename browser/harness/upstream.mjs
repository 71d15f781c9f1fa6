// An endpoint in the manner of OpenAI's, which answers what a test tells it to, when it is told: so a test knows what
// an answer is before it has come.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { eventually, soon } from './wait.mjs';

export class Upstream {
  #answers = new Map();

  static async start() {
    const upstream = new Upstream();
    upstream.server = createServer((asked, response) => upstream.#take(asked, response));
    upstream.server.listen(0, '127.0.0.1');
    await once(upstream.server, 'listening');
    upstream.url = `http://127.0.0.1:${upstream.server.address().port}/v1/chat/completions`;
    return upstream;
  }

  /** The answer to `question`, which is asked later. */
  answers(question) {
    const answer = new Answer();
    this.#answers.set(question, answer);
    return answer;
  }

  async #take(asked, response) {
    let body = '';
    for await (const part of asked) body += part;
    const question = JSON.parse(body).messages.at(-1).content;
    const answer = this.#answers.get(question);
    if (!answer) return response.writeHead(404).end(JSON.stringify({ error: { message: 'no test expects that' } }));
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    answer.asked(response);
  }

  close() {
    this.server.closeAllConnections();
    return once(this.server.close(), 'close');
  }
}

class Answer {
  /** What was said so far. */
  text = '';
  #response = null;

  asked(response) {
    this.#response = response.on('error', () => {}); // what is said too late
    this.gone = once(response, 'close');
  }

  /** Says some more of it, once it is asked. */
  async say(text) {
    await eventually('the upstream is asked', () => this.#response);
    this.text += text;
    this.#send({ delta: { content: text }, finish_reason: null });
  }

  /** The end of it: that was all. */
  end() {
    this.#send({ delta: {}, finish_reason: 'stop' });
    this.#response.end('data: [DONE]\n\n');
  }

  /** Waits until whoever asked has hung up. */
  hungUp = () => soon('whoever asked the upstream hangs up', this.gone);

  #send(choice) {
    this.#response.write(`data: ${JSON.stringify({ choices: [{ index: 0, ...choice }] })}\n\n`);
  }
}
