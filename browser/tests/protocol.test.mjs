// A browser's own EventSource and the gateway: events, resuming, the end, gaps.

import assert from 'node:assert/strict';
import { publish } from '../harness/api.mjs';
import { Proxy } from '../harness/proxy.mjs';
import { scenario } from '../harness/scenario.mjs';
import { gateway } from '../harness/servers.mjs';
import { Stream } from '../harness/stream.mjs';

// No page is there, so nothing but the test opens streams; its origin is the gateway's all the same.
const blank = base => `${base}/nothing-is-here`;

scenario('protocol: events arrive as they were published', async desk => {
  const { url } = await gateway();
  const page = await desk.open(blank(url));
  const stream = await Stream.open(page, '/events?channel=p:arrive', ['notification', '알림']);
  const { data, id } = await stream.until('sse.open');
  assert.match(JSON.parse(data).node, /^node-[0-9a-f]{8}$/);
  assert.match(id, /^[0-9]+-[0-9]+_[0-9a-v]{5}$/, 'sse.open has the priming id');

  const ids = [];
  const send = async event => ids.push((await publish(url, { channel: 'p:arrive', ...event })).id);
  await send({ data: 'unnamed' });
  await send({ event: 'notification', data: { message: '안녕하세요, "42" & <b>' } });
  await send({ data: 'line 1\nline 2\r\nline 3\n' });
  await send({ event: '알림', data: '가각힣 👩‍👩‍👧 \u{1F1F0}\u{1F1F7}' });
  await send({ data: '' });
  assert.deepEqual(await stream.untilEvents(5), [
    { event: 'message', data: 'unnamed', id: ids[0] },
    { event: 'notification', data: '{"message":"안녕하세요, \\"42\\" & <b>"}', id: ids[1] },
    { event: 'message', data: 'line 1\nline 2\nline 3\n', id: ids[2] },
    { event: '알림', data: '가각힣 👩‍👩‍👧 \u{1F1F0}\u{1F1F7}', id: ids[3] },
    { event: 'message', data: '', id: ids[4] },
  ]);
});

scenario('protocol: connect greets, in Korean', async desk => {
  const { url } = await gateway();
  const stream = await Stream.open(await desk.open(blank(url)), '/api/sse/connect?userId=greeted');
  assert.equal((await stream.until('connect')).data, '연결되었습니다');
});

scenario('protocol: a page that is loaded again goes on from the cursor it kept', async desk => {
  const { url } = await gateway();
  const page = await desk.open(blank(url));
  const before = await Stream.open(page, '/events?channel=p:reload');
  await before.until('sse.open');
  await publish(url, { channel: 'p:reload', data: 'before' });
  const [{ id }] = await before.untilEvents(1);
  await page.evaluate(cursor => sessionStorage.setItem('cursor', cursor), id);

  await page.reload();
  await publish(url, { channel: 'p:reload', data: 'between' });
  const kept = await page.evaluate(() => sessionStorage.getItem('cursor'));
  const after = await Stream.open(page, `/events?channel=p:reload&last_event_id=${encodeURIComponent(kept)}`);
  await after.untilEvents(1);
  await publish(url, { channel: 'p:reload', data: 'after' });
  await after.untilEvents(2);
  assert.deepEqual(await after.data(), ['between', 'after']);
});

scenario('protocol: the priming id comes back when a stream breaks before its first event', async desk => {
  const { url } = await gateway();
  const proxy = desk.keep(await Proxy.start(url));
  const page = await desk.open(blank(proxy.url));
  // Right behind the first block: not even sse.open is heard.
  proxy.stopAfter(/\nid: [^\n]+\n\n/);
  const stream = await Stream.open(page, '/events?channel=p:priming', ['stopped']);
  const stopped = await stream.until('stopped');
  proxy.leave();
  assert.deepEqual(await stream.heard(), [stopped], 'scripts see no event of the priming block');
  const { id } = await publish(url, { channel: 'p:priming', data: 'while nobody was there' });
  proxy.back();

  assert.deepEqual(await stream.until('message'), { event: 'message', data: 'while nobody was there', id });
  const [first, second] = proxy.streams;
  assert.equal(first.headers['last-event-id'], undefined);
  assert.match(second.headers['last-event-id'], /^[0-9]+-[0-9]+_[0-9a-v]{5}$/);
  assert.equal(second.headers['last-event-id'], proxy.passed.match(/id: (.+)/)[1]);
  assert.equal(second.path, first.path, 'a browser repeats its URL');
});

scenario('protocol: a stream that is cut again and again has every event once, in order', async desk => {
  const { url } = await gateway();
  const proxy = desk.keep(await Proxy.start(url));
  const stream = await Stream.open(await desk.open(blank(proxy.url)), '/events?channel=p:cut');
  await stream.until('sse.open');
  const sent = [];
  for (let round = 1; round <= 5; round += 1) {
    for (let n = 0; n < 20; n += 1) {
      sent.push(`${round}.${n}`);
      await publish(url, { channel: 'p:cut', data: sent.at(-1) });
      if (n === 7) proxy.cut();
    }
    await stream.until('sse.open', round + 1);
  }
  await stream.untilEvents(sent.length);
  assert.deepEqual(await stream.data(), sent);
});

scenario('protocol: after the end of its channel an EventSource stops for good', async desk => {
  const { url } = await gateway();
  const proxy = desk.keep(await Proxy.start(url));
  const page = await desk.open(blank(proxy.url));
  const stream = await Stream.open(page, '/events?channel=p:end');
  // Another one beside it, which shows that time passes: both are told to come back after 100 ms.
  const clock = await Stream.open(page, '/events?channel=p:clock');
  await stream.until('sse.open');
  await clock.until('sse.open');
  await publish(url, { channel: 'p:clock', data: 'tick', retry: 100 });
  await clock.untilEvents(1);
  const asked = () => proxy.streams.filter(({ path }) => path.includes('p:end'));

  const { id } = await publish(url, { channel: 'p:end', data: 'the last', retry: 100, end: true });
  await stream.untilClosed();
  assert.deepEqual(await stream.events(), [{ event: 'message', data: 'the last', id }]);
  assert.equal(asked().length, 2, 'the stream, and the request that got 204');
  assert.equal(asked()[1].headers['last-event-id'], id);
  for (let times = 2; times <= 5; times += 1) {
    await publish(url, { channel: 'p:clock', data: 'tick', retry: 100 });
    await clock.untilEvents(times);
    proxy.cut();
    await clock.until('sse.open', times);
  }
  assert.equal(await stream.ready(), 2);
  assert.equal(asked().length, 2, 'it was not asked for again');
});

scenario('protocol: gaps are told: a cursor of another life, no cursor, a history that is too short', async desk => {
  const { url } = await gateway();
  const page = await desk.open(blank(url));
  const gapOf = async (channel, cursor) => {
    const stream = await Stream.open(page, `/events?channel=${channel}&last_event_id=${encodeURIComponent(cursor)}`);
    const gap = await stream.until('sse.gap');
    const { data } = await stream.until('sse.open');
    assert.ok(JSON.parse(data).node);
    const { channel: told, reason } = JSON.parse(gap.data);
    assert.equal(told, channel);
    return [reason, stream];
  };

  const [lost, stream] = await gapOf('p:gap', '1-0_00000');
  assert.equal(lost, 'data_lost');
  // After it the stream is as any other.
  await publish(url, { channel: 'p:gap', data: 'on it goes' });
  await stream.untilEvents(1);
  assert.equal((await gapOf('p:gap', 'no cursor at all'))[0], 'unknown_cursor');

  const receipts = [];
  for (const data of ['1', '2', '3', '4', '5']) receipts.push(await publish(url, { channel: 'short:1', data }));
  const [trimmed, short] = await gapOf('short:1', receipts[0].id);
  assert.equal(trimmed, 'trimmed');
  await publish(url, { channel: 'short:1', data: '6' });
  await short.untilEvents(1);
  assert.deepEqual(await short.data(), ['6'], 'a gap reaches up to its cursor, what is still there included');

  const [beginning, all] = await gapOf('short:1', 'earliest');
  assert.equal(beginning, 'trimmed');
  await all.untilEvents(2);
  assert.deepEqual(await all.data(), ['5', '6'], 'but not when all that is there was asked for');
});

scenario('protocol: format=json has every event in one shape', async desk => {
  const { url } = await gateway();
  const page = await desk.open(blank(url));
  const stream = await Stream.open(page, '/events?channel=p:json:a&channel=p:json:b&format=json', ['named']);
  await stream.until('sse.open');
  const a = await publish(url, { channel: 'p:json:a', event: 'named', data: { n: 1 } });
  await publish(url, { channel: 'p:json:b', data: 'text', ephemeral: true });
  const heard = (await stream.untilEvents(2)).map(({ event, data }) => [event, JSON.parse(data)]);
  assert.deepEqual(heard, [
    ['message', { channel: 'p:json:a', event: 'named', id: a.id, data: { n: 1 } }],
    ['message', { channel: 'p:json:b', event: null, id: null, data: 'text' }],
  ]);
});
