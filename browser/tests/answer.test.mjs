// The page of an answer that comes word by word: reloaded, in a second tab, stopped, with nodes killed.

import assert from 'node:assert/strict';
import { history } from '../harness/api.mjs';
import { address, connected, text, untilState, untilText } from '../harness/pages.mjs';
import { scenario } from '../harness/scenario.mjs';
import { cluster, gateway } from '../harness/servers.mjs';
import { eventually } from '../harness/wait.mjs';

const COMPLETE = /^complete: [\d,]+ bytes, SHA-256 matches$/;
// Several bytes a character, several characters a sign, and what HTML would take for its own.
const PARTS = ['서버가 보내는 ', 'events & <b>', '</b> 👩‍👩‍👧', ' "\\n\n', '가각힣 ', '\u{1F1F0}\u{1F1F7} ', 'one two\r\n'];

const channelOf = page => decodeURIComponent(new URL(page.url()).hash.slice(1));
const answer = page => text(page, '#answer');
const joined = events => events.filter(({ event }) => event === 'chunk').map(({ data }) => data.text).join('');

async function ask(page, question) {
  await page.fill('#question', question);
  await page.click('#ask');
  await eventually('the answer has a channel', () => /^chat:[0-9a-f]{32}$/.test(channelOf(page)));
  return channelOf(page);
}

scenario('answer: ten reloads and two killed nodes, and every byte is there, in both tabs', async desk => {
  const nodes = await cluster();
  const told = nodes.upstream.answers('ten reloads?');
  const context = await desk.context();
  const page = await desk.open(address(nodes.url, 'answer'), context);
  const channel = await ask(page, 'ten reloads?');
  const second = await desk.open(page.url(), context);
  let said = 0;
  const say = () => told.say(PARTS[(said += 1) % PARTS.length].repeat(9));
  await say();
  for (let reload = 1; reload <= 10; reload += 1) {
    await untilText(page, '#answer', told.text);
    // The first killed node is met by a reload, the second by the open stream.
    if ([3, 7].includes(reload)) await nodes.kill(await connected(page));
    await say();
    if (reload === 7) await untilText(page, '#answer', told.text);
    await page.reload();
    await say();
  }
  await untilText(page, '#verdict', 'answering …');
  told.end();

  for (const tab of [page, second]) {
    await untilText(tab, '#verdict', COMPLETE);
    await untilState(tab, 'ended');
    assert.equal(await answer(tab), told.text);
    assert.equal(await text(tab, '#asked'), 'ten reloads?');
  }
  const events = await history(nodes.back, channel);
  assert.deepEqual(events[0].data, { text: 'ten reloads?' });
  assert.equal(joined(events), told.text);
  assert.equal(events.at(-1).event, 'done');
  assert.equal(events.at(-1).data.reason, 'stop');
  assert.equal(events.at(-1).data.bytes, Buffer.byteLength(told.text));

  await page.reload();
  await untilText(page, '#verdict', COMPLETE);
  assert.equal(await answer(page), told.text);
  await untilState(page, 'ended');
  page.complaints.check({ killed: true });
  second.complaints.check({ killed: true });
});

scenario('answer: where the stream has a gap the whole is read again', async desk => {
  const nodes = await cluster();
  const told = nodes.upstream.answers('a gap?');
  const page = await desk.open(address(nodes.url, 'answer'));
  await ask(page, 'a gap?');
  await told.say('before, ');
  await untilText(page, '#answer', told.text);
  const read = page.waitForRequest(/last_event_id=earliest/);
  await nodes.newEpoch();
  await told.say('meanwhile, ');
  await read;
  await told.say('after');
  told.end();
  await untilText(page, '#verdict', COMPLETE);
  assert.equal(await answer(page), told.text);
  page.complaints.check();
});

scenario('answer: Stop ends it in every tab, and nothing comes after', async desk => {
  const nodes = await cluster();
  const told = nodes.upstream.answers('stop me?');
  const context = await desk.context();
  const page = await desk.open(address(nodes.url, 'answer'), context);
  const channel = await ask(page, 'stop me?');
  const second = await desk.open(page.url(), context);
  await told.say('There is much to say, ');
  await untilText(second, '#answer', told.text);
  // From the other tab: whoever sees it may stop it.
  await second.click('#stop');
  // Who writes the answer is told; what it says now is too late.
  await told.hungUp();
  await told.say('and it is said to nobody.');
  for (const tab of [page, second]) {
    await untilText(tab, '#verdict', /^stopped: [\d,]+ bytes, SHA-256 matches$/);
    await untilState(tab, 'ended');
    assert.equal(await answer(tab), 'There is much to say, ');
  }
  const events = await history(nodes.back, channel);
  assert.deepEqual(events.map(({ event }) => event), ['question', 'chunk', 'done']);
  assert.equal(events[2].data.reason, 'cancelled');
  await page.reload();
  await untilText(page, '#verdict', /^stopped: /);
  page.complaints.check();
  second.complaints.check();
});

scenario('answer: what goes wrong upstream is said, with what there is of the answer', async desk => {
  const nodes = await cluster();
  const page = await desk.open(address(nodes.url, 'answer'));
  await ask(page, 'a question that no test expects');
  const said = await untilText(page, '#verdict', /upstream_status/);
  assert.match(said, /no test expects that/);
  await untilState(page, 'ended');
  assert.ok(await page.isEnabled('#ask'));
  page.complaints.check();
});

scenario('answer: one gateway by itself answers too, in Korean', async desk => {
  const { url } = await gateway();
  const page = await desk.open(address(url, 'answer'));
  await page.locator('.pick[lang=ko]').click();
  await page.click('#ask');
  await untilText(page, '#answer', /[가-힣][^]{20}/);
  const channel = channelOf(page);
  await page.click('#stop');
  await untilText(page, '#verdict', /^stopped: /);
  assert.equal(await answer(page), joined(await history(url, channel)));
  page.complaints.check();
});

scenario('answer: an address without a channel asks nothing, and one of no answer says so', async desk => {
  const { url } = await gateway();
  const page = await desk.open(address(url, 'answer'));
  assert.equal(await answer(page), '');
  assert.equal(await text(page, '#verdict'), '');
  assert.ok(await page.isEnabled('#ask'));
  assert.ok(await page.isDisabled('#stop'));

  const nothing = await desk.open(address(url, 'answer', `#chat:${'0'.repeat(32)}`));
  await untilText(nothing, '#verdict', /not kept any more/);
  page.complaints.check();
  nothing.complaints.check();
});
