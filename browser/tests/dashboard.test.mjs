// The page of a live dashboard: three channels on one connection, none lost, none twice, also across a pause.

import assert from 'node:assert/strict';
import { history } from '../harness/api.mjs';
import { address, connected, number, text, untilText } from '../harness/pages.mjs';
import { scenario } from '../harness/scenario.mjs';
import { cluster, gateway } from '../harness/servers.mjs';
import { eventually } from '../harness/wait.mjs';

const seen = page => number(page, '#seen');
const untilSeen = (page, count) => eventually(`${count} events seen`, async () => {
  const now = await seen(page);
  if (now < count) throw new Error(String(now));
  return now;
});

async function complete(page) {
  assert.equal(await text(page, '#missing'), '0', 'missing');
  assert.equal(await text(page, '#twice'), '0', 'twice');
  assert.equal(await text(page, '#gap'), '');
}

async function newest(base, channel) {
  return (await history(base, channel, { part: true })).at(-1)?.data.n ?? 0;
}

scenario('dashboard: three channels run, and a pause is caught up with', async desk => {
  const { url } = await gateway();
  const page = await desk.open(address(url, 'dashboard'));
  await connected(page);
  await untilSeen(page, (await seen(page)) + 40);
  await complete(page);
  await eventually('six prices', async () => (await page.locator('#prices tr').count()) === 6);
  const metrics = () => page.locator('.tile b').allTextContents();
  await eventually('four metrics', async () => (await metrics()).filter(value => value !== '–').length === 4);
  await eventually('orders', async () => (await page.locator('#orders li').count()) > 0);
  assert.match(await text(page, '#prices'), /[가-힣]/);

  await page.click('#pause');
  await untilText(page, '#pause', 'Resume');
  const stopped = await seen(page);
  const before = await newest(url, 'demo:prices');
  // With nobody there it ticks slowly, but it ticks.
  await eventually('prices go on', async () => (await newest(url, 'demo:prices')) >= before + 3);
  assert.equal(await seen(page), stopped, 'nothing is shown during a pause');

  await page.click('#pause');
  await connected(page);
  await eventually('it caught up with three prices at least', async () => {
    const [, caught] = (await text(page, '#caught')).match(/^caught up ([\d,]+) events$/) ?? [];
    if (!(Number(caught?.replaceAll(',', '')) >= 3)) throw new Error(await text(page, '#caught'));
    return true;
  });
  await untilSeen(page, stopped + 40);
  await complete(page);
  page.complaints.check();
});

scenario('dashboard: the node is killed, and the count goes on', async desk => {
  const nodes = await cluster();
  const page = await desk.open(address(nodes.url, 'dashboard'));
  for (let kill = 1; kill <= 2; kill += 1) {
    const now = await untilSeen(page, (await seen(page)) + 20);
    await nodes.kill(await connected(page));
    await untilSeen(page, now + 40);
    await complete(page);
  }
  page.complaints.check({ killed: true });
});
