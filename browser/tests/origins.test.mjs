// Pages of other origins: an application's page is seldom served by the gateway.

import assert from 'node:assert/strict';
import { publish } from '../harness/api.mjs';
import { Proxy, site } from '../harness/proxy.mjs';
import { scenario } from '../harness/scenario.mjs';
import { cluster, gateway } from '../harness/servers.mjs';
import { Stream, nodeOf } from '../harness/stream.mjs';

scenario('origins: a page of another origin listens, comes back, and is asked no preflight', async desk => {
  const { url } = await gateway();
  const proxy = desk.keep(await Proxy.start(url));
  const other = desk.keep(await site());
  const page = await desk.open(other.url);
  const stream = await Stream.open(page, `${proxy.url}/events?channel=o:read`);
  await stream.until('sse.open');
  await publish(url, { channel: 'o:read', data: 'one' });
  const [{ id }] = await stream.untilEvents(1);
  proxy.leave();
  await publish(url, { channel: 'o:read', data: 'two' });
  proxy.back();
  await stream.untilEvents(2);
  assert.deepEqual(await stream.data(), ['one', 'two']);

  const [first, second] = proxy.streams;
  assert.equal(first.headers.origin, other.url);
  assert.equal(second.headers['last-event-id'], id);
  assert.deepEqual(proxy.requests.filter(({ method }) => method !== 'GET'), []);
});

scenario('origins: the end of a channel is the end there too', async desk => {
  const { url } = await gateway();
  const other = desk.keep(await site());
  const stream = await Stream.open(await desk.open(other.url), `${url}/events?channel=o:end`);
  await stream.until('sse.open');
  await publish(url, { channel: 'o:end', data: 'over', retry: 100, end: true });
  await stream.untilClosed();
  assert.deepEqual(await stream.data(), ['over']);
});

scenario('origins: a page of another origin goes on after its node was killed', async desk => {
  const nodes = await cluster();
  const { url, back } = nodes;
  const other = desk.keep(await site());
  const stream = await Stream.open(await desk.open(other.url), `${url}/events?channel=o:killed`);
  const before = nodeOf(await stream.until('sse.open'));
  await publish(back, { channel: 'o:killed', data: 'before' });
  await stream.untilEvents(1);
  await nodes.kill(before);
  await publish(back, { channel: 'o:killed', data: 'meanwhile' });
  await stream.until('sse.open', 2);
  await publish(back, { channel: 'o:killed', data: 'after' });
  await stream.untilEvents(3);
  assert.deepEqual(await stream.data(), ['before', 'meanwhile', 'after']);
});
