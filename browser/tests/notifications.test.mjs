// The page of notifications: one call from a back end, every tab of a user, nothing missed over a reload.

import assert from 'node:assert/strict';
import { publish } from '../harness/api.mjs';
import { address, connected, number, text, untilText } from '../harness/pages.mjs';
import { scenario } from '../harness/scenario.mjs';
import { cluster, gateway } from '../harness/servers.mjs';
import { eventually } from '../harness/wait.mjs';

// Needs escaping in a URL, in JSON and in HTML, and is not ASCII.
const MESSAGE = '안녕 "42" & <b>1 + 1</b> = 100%? #a';

const shown = page => page.locator('.notification p').allTextContents();
const untilShown = (page, wanted) => eventually(`the list is ${JSON.stringify(wanted)}`, async () => {
  const seen = await shown(page);
  if (JSON.stringify(seen) !== JSON.stringify(wanted)) throw new Error(JSON.stringify(seen));
  return true;
});

async function send(page, message) {
  await page.fill('#message', message);
  await page.click('#send');
}

scenario('notifications: what is sent is shown in every tab of the user, and to nobody else', async desk => {
  const { url } = await gateway();
  const tabs = [];
  for (const user of ['hong', 'hong', 'kim']) {
    tabs.push(await desk.open(address(url, 'notifications', `?user=${user}`)));
    await connected(tabs.at(-1));
    assert.equal(await tabs.at(-1).inputValue('#user'), user);
  }
  await send(tabs[0], MESSAGE);
  await untilShown(tabs[0], [MESSAGE]);
  await untilShown(tabs[1], [MESSAGE]);
  await untilText(tabs[0], '#sent', '알림 전송 완료');
  await send(tabs[1], 'second');
  await untilShown(tabs[0], ['second', MESSAGE]);
  assert.deepEqual(await shown(tabs[2]), []);
  assert.equal(await tabs[0].locator('.notification b').count(), 0, 'text stays text');

  assert.equal(await number(tabs[0], '#badge'), 2);
  await tabs[0].locator('.notification button').first().click();
  assert.equal(await number(tabs[0], '#badge'), 1);
  for (const tab of tabs) tab.complaints.check();
});

scenario('notifications: a reload keeps the list, and gets what came meanwhile', async desk => {
  const { url } = await gateway();
  const page = await desk.open(address(url, 'notifications', '?user=back'));
  await connected(page);
  await send(page, 'before');
  await untilShown(page, ['before']);
  await page.locator('.notification button').first().click();

  await page.goto('about:blank');
  const event = message => ({ channel: 'user:back', event: 'notification', data: { message } });
  await publish(url, event('meanwhile'));
  await page.goBack();
  await untilShown(page, ['meanwhile', 'before']);
  await connected(page);
  await page.reload();
  await connected(page);
  await publish(url, event('after'));
  await untilShown(page, ['after', 'meanwhile', 'before']);
  assert.equal(await number(page, '#badge'), 2, 'what was read stays read');
  page.complaints.check();
});

scenario('notifications: another user is another list', async desk => {
  const { url } = await gateway();
  const page = await desk.open(address(url, 'notifications', '?user=first'));
  await connected(page);
  await send(page, 'for the first');
  await untilShown(page, ['for the first']);
  const become = async user => {
    await page.fill('#user', user);
    await page.press('#user', 'Enter');
  };
  await become('둘째&2');
  await untilShown(page, []);
  await connected(page);
  await publish(url, { channel: 'user:first', event: 'notification', data: { message: 'also for the first' } });
  await publish(url, { channel: 'user:둘째&2', event: 'notification', data: { message: 'for the second' } });
  await untilShown(page, ['for the second']);
  await become('first');
  await untilShown(page, ['also for the first', 'for the first']);
  page.complaints.check();
});

scenario('notifications: the node is killed, and nothing is missed or shown twice', async desk => {
  const nodes = await cluster();
  const page = await desk.open(address(nodes.url, 'notifications', '?user=killed'));
  const node = await connected(page);
  const event = message => ({ channel: 'user:killed', event: 'notification', data: { message } });
  await publish(nodes.back, event('1'));
  await untilShown(page, ['1']);
  await nodes.kill(node);
  await publish(nodes.back, event('2'));
  await untilShown(page, ['2', '1']);
  await connected(page);
  await send(page, '3');
  await untilShown(page, ['3', '2', '1']);
  assert.equal(await text(page, '#gap'), '');
  page.complaints.check({ killed: true });
});
