// The page that shows the nodes: which one a page is on, and that it finds another when that one is killed.

import assert from 'node:assert/strict';
import { address, connected, text } from '../harness/pages.mjs';
import { scenario } from '../harness/scenario.mjs';
import { cluster, gateway } from '../harness/servers.mjs';
import { eventually } from '../harness/wait.mjs';

const names = page => page.locator('.node').evaluateAll(rows => rows.map(row => row.dataset.node));
const own = page => page.locator('.node[data-own]').evaluateAll(rows => rows.map(row => row.dataset.node));
const untilOwn = (page, node) => eventually(`${node} is marked as the page's own`, async () => {
  const marked = await own(page);
  if (marked.length !== 1 || marked[0] !== node) throw new Error(marked.join());
  return true;
});

scenario('scale: the own node is marked; when it is killed the page names another', async desk => {
  const nodes = await cluster();
  const context = await desk.context();
  const page = await desk.open(address(nodes.url, 'scale'), context);
  const before = await connected(page);
  await untilOwn(page, before);
  // A node without connections says nothing: a page more, on the other one. nginx takes them in turn.
  const other = await desk.open(address(nodes.url, 'scale'), context);
  await eventually('the other page is on the other node', async () => {
    if ((await connected(other)) !== before) return true;
    await other.click('#again');
    return false;
  });
  await eventually('both nodes are there', async () => (await names(page)).join() === 'gateway-1,gateway-2');

  const after = await nodes.keepDown(before, `the page is on another node than ${before}`, async () => {
    const node = await connected(page);
    return node !== before && node;
  });
  await untilOwn(page, after);
  assert.match(await text(page, '#hops li'), new RegExp(`${before} \\S+ ${after}$`));
  await eventually('the killed node is gone', async () => {
    const row = page.locator(`.node[data-node=${before}]`);
    return (await row.getAttribute('data-gone')) !== null || (await row.locator('.count').textContent()) === '0';
  });
  page.complaints.check({ killed: true });
});

scenario('scale: one gateway by itself is the one node', async desk => {
  const { url } = await gateway();
  const page = await desk.open(address(url, 'scale'));
  const node = await connected(page);
  await untilOwn(page, node);
  assert.deepEqual(await names(page), [node]);
  await page.click('#again');
  await eventually('a second line of where it was', async () => (await page.locator('#hops li').count()) === 2);
  assert.match(await text(page, '#hops li'), new RegExp(`${node} again$`));
  page.complaints.check();
});
