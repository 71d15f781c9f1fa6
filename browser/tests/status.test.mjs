// The status page of a node's operator port: two nodes on a Redis, streams on both, and what happens to them.

import assert from 'node:assert/strict';
import { publish, status } from '../harness/api.mjs';
import { LOOKS, readable } from '../harness/looks.mjs';
import { text } from '../harness/pages.mjs';
import { BIN_DIR, Process, freePorts } from '../harness/processes.mjs';
import { site } from '../harness/proxy.mjs';
import { scenario } from '../harness/scenario.mjs';
import { cluster, folder, gateway, logs } from '../harness/servers.mjs';
import { eventually } from '../harness/wait.mjs';

const WIDTHS = [...LOOKS, ['narrow', { width: 360, height: 740 }, 'light'], ['wide', { width: 1920, height: 1080 }, 'dark']];
// A name that would be more than a name where it were not put in as text.
const MARKUP = '<img/src=x/onerror=document.title=1>';

const admin = (nodes, name) => `http://127.0.0.1:${nodes.admin[name]}`;
const live = page => eventually(`${page.url()} is live`, async () => (await text(page, '#live')) === 'live');
/** Rows of nodes: name, state and the name of its life. */
const rows = page => page.locator('#nodes tr').evaluateAll(all => all.map(row => ({
  name: row.querySelector('.name').textContent, state: row.querySelector('.word').textContent, life: row.dataset.key,
  connections: row.querySelector('.count').textContent,
})));
const changes = page => page.locator('#log .what').evaluateAll(all => all.map(({ textContent }) => textContent));
const said = (page, what) => eventually(`the log says ${what}`, async () => {
  const texts = await changes(page);
  if (!texts.some(said => what.test(said))) throw new Error(texts.slice(0, 5).join(' | '));
  return true;
});

/** Streams of a client that is no page: `count` of them on each channel. They end with the test. */
async function listen(desk, base, channels) {
  const stop = new AbortController();
  desk.keep({ close: () => stop.abort() });
  for (const [channel, count] of Object.entries(channels)) {
    for (let n = 0; n < count; n += 1) {
      const { body } = await fetch(`${base}/events?channel=${encodeURIComponent(channel)}`, { signal: stop.signal });
      (async () => { for await (const _ of body); })().catch(() => {}); // read, or the node would find it slow
    }
  }
}

const CHANNELS = {
  'news': 14, 'stocks:kospi': 9, 'chat:7': 6, '주문:서울': 4, 'user:42': 3, 'job:5f0c8a31-6d0e-4e0b-9b64-2f8f5b1c7d11:progress': 2,
  [MARKUP]: 2, 'user:7': 1,
};

scenario('status: two nodes with streams, readable in light and dark, from a narrow phone to a wide desk', async desk => {
  const nodes = await cluster();
  await nodes.ready();
  await listen(desk, nodes.url, CHANNELS);
  const page = await desk.open(admin(nodes, 'gateway-1'), await desk.context({ reducedMotion: 'reduce' }));
  await live(page);
  await eventually('both nodes are there, this one first', async () => {
    const seen = await rows(page);
    if (seen.map(({ name }) => name).join() !== 'gateway-1,gateway-2') throw new Error(JSON.stringify(seen));
    return seen.every(({ state, connections }) => state === 'serving' && Number(connections) > 10);
  });
  assert.equal(await text(page, '#state'), 'serving');
  assert.match(await text(page, '#about'), /^version \S+, up for \d.*, on Redis at redis:\/\/127\.0\.0\.1:\d+$/);
  assert.equal(await text(page, '#broker'), 'connected');

  let going = true;
  const publishing = (async () => {
    for (let n = 0; going; n += 1) await publish(nodes.back, { channel: ['news', 'stocks:kospi', 'chat:7'][n % 3], data: `${n}` });
  })();
  try {
    await eventually('rates and latency', async () => {
      const seen = await Promise.all(['#received', '#delivered', '#latency'].map(id => text(page, id)));
      if (!seen.every(shown => /^[1-9]\d*|\.\d/.test(shown))) throw new Error(seen.join());
      return true;
    });
    await eventually('a line in the chart', () => page.locator('#events path.stroke:not(.other)').last()
      .evaluate(line => line.getAttribute('d').split('L').length > 3));
    await readable(page, 'status', WIDTHS, { fullPage: true });
  } finally {
    going = false;
    await publishing;
  }
  // What is anybody's is text, and nothing else.
  const names = await page.locator('#top .name').allTextContents();
  assert.ok(names.includes(MARKUP), names.join());
  assert.ok(names.includes('주문:서울'), names.join());
  assert.equal(await page.locator('img').count(), 0);
  assert.match(await page.locator('#connections svg[role=img]').getAttribute('aria-label'), /^Connections, the last ten minutes: here \d+ now, /);
  page.complaints.check();
});

scenario('status: the chart says what it was under the pointer', async desk => {
  const nodes = await cluster();
  const page = await desk.open(admin(nodes, 'gateway-1'));
  await live(page);
  const when = page.locator('#connections .when');
  assert.equal(await when.textContent(), 'now');
  await eventually('a point of before', () => page.locator('#connections path.stroke').last()
    .evaluate(line => line.getAttribute('d').split('L').length > 2));
  const { x, y, width, height } = await page.locator('#connections .plot').boundingBox();
  await page.mouse.move(x + width / 2, y + height / 2);
  await eventually('a time', async () => / s ago$/.test(await when.textContent()));
  await page.mouse.move(1, 1);
  await eventually('now', async () => (await when.textContent()) === 'now');
  page.complaints.check();
});

scenario('status: a node that is killed is gone within 15 s; a page of a node that is killed says so, and lives on', async desk => {
  const nodes = await cluster();
  await nodes.ready();
  const page = await desk.open(admin(nodes, 'gateway-1'));
  await live(page);
  const lifeOfTwo = async () => (await rows(page)).find(({ name }) => name === 'gateway-2')?.life;
  const before = await eventually('gateway-2 is listed', lifeOfTwo);
  await nodes.kill('gateway-2');
  await eventually('that life is gone', async () => (await rows(page)).every(({ life }) => life !== before), 15_000);
  await said(page, /^gateway-2 is gone; it did not say that it was stopping$/);
  await eventually('another life of it is there', lifeOfTwo);
  await said(page, /^gateway-2 came$/);

  // Started again at once, it would be back before anybody has to know.
  await nodes.keepDown('gateway-1', 'it is not live', async () => (await text(page, '#live')) === 'not live');
  assert.ok(await page.locator('#cut').isVisible());
  assert.match(await text(page, '#cut-why'), /^Not live: the node is not heard\./);
  assert.match(await text(page, '#cut-age'), /^What is shown is \d+ s old\./);
  await live(page);
  assert.ok(await page.locator('#cut').isHidden());
  await said(page, /^this node has started, version /);
  page.complaints.check({ killed: true });
}, 120_000);

scenario('status: one gateway by itself says that it is alone', async desk => {
  const { admin } = await gateway();
  const page = await desk.open(admin);
  await live(page);
  assert.match(await text(page, '#about'), /, alone, on the embedded broker$/);
  assert.equal(await text(page, '#broker'), 'embedded');
  assert.equal((await rows(page)).length, 1);
  page.complaints.check();
});

scenario('status: a browser that is asked for the operator key has the stream too', async desk => {
  const [port, adminPort] = await freePorts(2);
  const key = 'an operator key of the tests, long enough for one';
  const log = `${folder}/asked.log`;
  logs.set('asked', log);
  const command = [`${BIN_DIR}/sse-gateway`, '--listen', `127.0.0.1:${port}`, '--admin-listen', `0.0.0.0:${adminPort}`];
  const env = { SSE_GATEWAY__AUTH__OPERATOR_KEY: key, SSE_GATEWAY__AUTH__SECRET: `${key}, too`, SSE_GATEWAY__DRAIN__GRACE: '0s' };
  const asked = new Process('a gateway with an operator key', command, { env, log });
  desk.keep({ close: () => asked.stop() });
  const url = `http://127.0.0.1:${adminPort}`;
  await eventually('it is ready', async () => {
    asked.check();
    return (await status(`${url}/readyz`)) === 200;
  });
  assert.equal(await status(`${url}/`), 401);
  const page = await desk.open(url, await desk.context({ httpCredentials: { username: 'operator', password: key } }));
  await live(page);
  assert.equal(await text(page, '#state'), 'serving');
});

// By a name of its own for each few, a page could hold every place of those who watch.
scenario('status: a page of another site has nothing of it but a link to it', async desk => {
  const { admin } = await gateway();
  const page = await desk.open((desk.keep(await site())).url);
  const asked = `http://a.localhost:${new URL(admin).port}/status`;
  const answer = page.waitForResponse(asked);
  await page.evaluate(url => { fetch(url, { mode: 'no-cors' }).catch(() => {}); }, asked);
  assert.equal((await answer).status(), 403);
  await page.evaluate(url => { location.href = url; }, admin);
  await live(page);
  assert.match(await text(page, '#about'), /^version \S+, up for \d/);
});

scenario('status: without JavaScript it says what is missing', async desk => {
  const { admin } = await gateway();
  const page = await desk.open(admin, await desk.context({ javaScriptEnabled: false }));
  await page.locator('noscript p').waitFor({ state: 'visible' });
  assert.match(await text(page, 'noscript p'), /^This page needs JavaScript/);
  page.complaints.check();
});
