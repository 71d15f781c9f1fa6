// A cluster of two nodes behind nginx, of which one is killed under an open page.

import assert from 'node:assert/strict';
import { publish } from '../harness/api.mjs';
import { scenario } from '../harness/scenario.mjs';
import { cluster } from '../harness/servers.mjs';
import { Stream, nodeOf } from '../harness/stream.mjs';

scenario('nodes: a page whose node is killed goes on at another, nothing lost, nothing twice', async desk => {
  const nodes = await cluster();
  const page = await desk.open(`${nodes.url}/nothing-is-here`);
  const streams = [];
  for (const channels of ['channel=n:killed', 'channel=n:other&channel=n:killed', 'channel=n:killed&format=json']) {
    streams.push(await Stream.open(page, `/events?${channels}`));
  }
  for (const stream of streams) await stream.until('sse.open');

  // A publisher that never rests, while the node of the first stream is killed, and the next one.
  let n = 0, going = true;
  const publishing = (async () => {
    while (going) await publish(nodes.back, { channel: 'n:killed', data: String(n += 1) });
  })();
  try {
    for (let kills = 1; kills <= 3; kills += 1) {
      await nodes.kill(nodeOf(await streams[0].until('sse.open', kills)));
      await streams[0].until('sse.open', kills + 1);
    }
  } finally {
    going = false;
    await publishing;
  }

  const sent = Array.from({ length: n }, (_, i) => String(i + 1));
  for (const stream of streams) {
    await stream.untilEvents(n);
    const data = await stream.data();
    const heard = stream === streams[2] ? data.map(text => JSON.parse(text).data) : data;
    assert.deepEqual(heard, sent);
    assert.deepEqual(await stream.heard('sse.gap'), []);
  }
});

scenario('nodes: both nodes hear what the publisher publishes', async desk => {
  const nodes = await cluster();
  await nodes.ready();
  const page = await desk.open(`${nodes.url}/nothing-is-here`);
  // nginx takes them in turn.
  const streams = [];
  for (let n = 0; n < 2; n += 1) streams.push(await Stream.open(page, '/events?channel=n:both'));
  const names = [];
  for (const stream of streams) names.push(nodeOf(await stream.until('sse.open')));
  assert.deepEqual(names.sort(), ['gateway-1', 'gateway-2']);
  const { id, receivers } = await publish(nodes.back, { channel: 'n:both', data: '둘 다' });
  assert.equal(receivers, 2);
  for (const stream of streams) assert.deepEqual(await stream.untilEvents(1), [{ event: 'message', data: '둘 다', id }]);
});
