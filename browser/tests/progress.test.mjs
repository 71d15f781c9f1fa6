// The page of a long job: uploaded, found again after a reload, with its node killed, cancelled.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { history, json } from '../harness/api.mjs';
import { address, connected, text, untilState, untilText } from '../harness/pages.mjs';
import { scenario } from '../harness/scenario.mjs';
import { cluster, gateway } from '../harness/servers.mjs';
import { eventually } from '../harness/wait.mjs';

const channelOf = page => decodeURIComponent(new URL(page.url()).hash.slice(1));

// 20,000 lines of 5 words, and a last line without an end.
const LINES = 20_000;
const CONTENT = Buffer.from('다람쥐 헌 쳇바퀴에 타고파. yes\n'.repeat(LINES) + 'end');

const choose = (page, name, buffer) => page.setInputFiles('#file', { name, mimeType: 'text/plain', buffer });
const untilPercent = (page, percent) => eventually(`${percent} % done`, async () => {
  const now = await page.locator('#bar').evaluate(bar => bar.value);
  if (now < percent) throw new Error(`${now} ${await text(page, '#step')} ${await text(page, '#error')}`);
  return now;
});

const limitOf = async base => (await json(`${base}/demo/jobs`)).max_bytes;

async function result(page) {
  const cells = {};
  for (const key of ['name', 'bytes', 'lines', 'words', 'sha256']) {
    cells[key] = await text(page, `#result [data-key=${key}]`);
  }
  return cells;
}

scenario('progress: a job goes on through a reload and a killed node, and counts right', async desk => {
  const nodes = await cluster();
  const page = await desk.open(address(nodes.url, 'progress'));
  await choose(page, '보고서 1.txt', CONTENT);
  await page.click('#start');
  await untilPercent(page, 5);
  assert.match(channelOf(page), /^job:[0-9a-f]{32}$/);
  await nodes.kill(await connected(page));
  const there = await untilPercent(page, 30);
  await page.reload();
  assert.ok(await untilPercent(page, there), 'it is found where it is');

  await untilText(page, '#step', 'done');
  await untilState(page, 'ended');
  const expected = {
    name: '보고서 1.txt', bytes: CONTENT.length.toLocaleString('en-US'),
    sha256: createHash('sha256').update(CONTENT).digest('hex'), words: (5 * LINES + 1).toLocaleString('en-US'),
  };
  const { lines, ...rest } = await result(page);
  assert.deepEqual(rest, expected);
  // Whether a last line without an end counts is the job's to say.
  assert.ok([LINES, LINES + 1].includes(Number(lines.replaceAll(',', ''))), `${lines} lines`);
  assert.equal(await page.locator('#bar').evaluate(bar => bar.value), 100);
  assert.equal(await text(page, '#error'), '');

  const steps = (await history(nodes.back, channelOf(page))).filter(({ event }) => event === 'progress');
  const percents = steps.map(({ data }) => data.percent);
  assert.deepEqual(percents, percents.toSorted((a, b) => a - b), 'never back');
  await page.reload();
  await untilText(page, '#step', 'done');
  assert.equal((await result(page)).sha256, expected.sha256);
  page.complaints.check({ killed: true });
});

scenario('progress: what is too large, or empty, is refused before anything is sent', async desk => {
  const { url } = await gateway();
  const page = await desk.open(address(url, 'progress'));
  const sent = [];
  page.on('request', request => { if (request.method() !== 'GET') sent.push(request.url()); });
  const limit = await limitOf(url);
  await untilText(page, '#limit', new RegExp(limit.toLocaleString('en-US')));

  await page.click('#start');
  await untilText(page, '#error', /Choose a file/);
  await choose(page, 'large.bin', Buffer.alloc(limit + 1, 'a'));
  await page.click('#start');
  const refused = await untilText(page, '#error', /large\.bin is too large/);
  for (const bytes of [limit, limit + 1]) assert.ok(refused.includes(bytes.toLocaleString('en-US')), refused);
  await choose(page, 'empty.txt', Buffer.alloc(0));
  await page.click('#start');
  await untilText(page, '#error', /empty\.txt is empty/);
  assert.deepEqual(sent, []);
  assert.equal(channelOf(page), '');

  // Not only the page refuses.
  const response = await fetch(`${url}/demo/jobs?name=large.bin`, { method: 'POST', body: Buffer.alloc(limit + 1) });
  assert.equal(response.status, 413);
  page.complaints.check();
});

scenario('progress: a job is cancelled, and stays so', async desk => {
  const { url } = await gateway();
  const page = await desk.open(address(url, 'progress'));
  await page.click('#sample');
  await page.click('#start');
  await untilPercent(page, 5);
  await page.click('#cancel');
  await untilText(page, '#step', 'cancelled');
  await untilState(page, 'ended');
  assert.ok(await page.isEnabled('#start'));
  const events = await history(url, channelOf(page));
  assert.equal(events.at(-1).event, 'cancelled');
  assert.ok(!events.some(({ event }) => event === 'done'));
  await page.reload();
  await untilText(page, '#step', 'cancelled');
  assert.ok(await page.isHidden('#result'));
  page.complaints.check();
});
