// Many tabs of one origin. Over HTTP/1.1 a browser opens six connections to a host, for all its tabs together; that is
// why a page has one stream of all its channels.

import assert from 'node:assert/strict';
import { metric, publish } from '../harness/api.mjs';
import { Proxy } from '../harness/proxy.mjs';
import { scenario } from '../harness/scenario.mjs';
import { gateway } from '../harness/servers.mjs';
import { Stream } from '../harness/stream.mjs';
import { eventually } from '../harness/wait.mjs';

const LIMIT = 6;

scenario('tabs: six hold a stream each and all hear; the seventh gets its own when one closes', async desk => {
  const { url, admin } = await gateway();
  const context = await desk.context();
  // Before any stream is open: a page too takes a connection to come.
  const pages = [];
  for (let n = 0; n <= LIMIT; n += 1) pages.push(await desk.open(`${url}/nothing-is-here`, context));
  const open = async page => await Stream.open(page, '/events?channel=tabs');
  const six = await Promise.all(pages.slice(0, LIMIT).map(open));
  await Promise.all(six.map(stream => stream.until('sse.open')));

  const seventh = await open(pages[LIMIT]);
  await publish(url, { channel: 'tabs', data: 'to six' });
  for (const stream of six) await stream.untilEvents(1);
  assert.equal(await seventh.ready(), 0, 'the seventh waits, without an error');
  assert.deepEqual(await seventh.heard(), []);
  assert.equal(await metric(admin, 'sse_gateway_connections'), LIMIT);

  await pages[0].close();
  await seventh.until('sse.open');
  await publish(url, { channel: 'tabs', data: 'to the seventh too' });
  for (const stream of [...six.slice(1), seventh]) {
    await eventually('everybody hears', async () => (await stream.data()).at(-1) === 'to the seventh too');
  }
  assert.deepEqual(await seventh.data(), ['to the seventh too']);
});

scenario('tabs: one stream of many channels serves a tab, and leaves connections for more', async desk => {
  const { url, admin } = await gateway();
  const context = await desk.context();
  const channels = Array.from({ length: 64 }, (_, n) => `many:${n}`);
  const query = channels.map(channel => `channel=${channel}`).join('&');
  const tabs = [];
  for (let n = 1; n < LIMIT; n += 1) {
    const page = await desk.open(`${url}/nothing-is-here`, context);
    tabs.push(await Stream.open(page, `/events?${query}&format=json`));
    await tabs.at(-1).until('sse.open');
  }
  // Those of the test before go when its pages have gone.
  await eventually('a connection a tab', async () => (await metric(admin, 'sse_gateway_connections')) === tabs.length);

  for (const channel of channels) await publish(url, { channel, data: channel });
  for (const tab of tabs) {
    const events = await tab.untilEvents(channels.length);
    assert.deepEqual(events.map(({ data }) => JSON.parse(data).channel), channels);
  }
});

scenario('tabs: a page that closes its stream gives the connection back', async desk => {
  const { url } = await gateway();
  const proxy = desk.keep(await Proxy.start(url));
  const page = await desk.open(`${proxy.url}/nothing-is-here`);
  // More than six, one after the other, in one page.
  for (let n = 1; n <= 2 * LIMIT; n += 1) {
    const stream = await Stream.open(page, `/events?channel=closing:${n}`);
    await stream.until('sse.open');
    await stream.close();
  }
  assert.equal(proxy.streams.length, 2 * LIMIT);
});
