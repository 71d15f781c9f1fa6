// What a page may want to know of an EventSource besides its events. Receiving needs none of
// this: the browser reconnects by itself and sends the last id, and the gateway goes on there.
//
//   connecting     the first request is on its way
//   connected      a node has answered (sse.open) and said its name
//   reconnecting   the connection broke, or the server ended it: the browser tries again
//   ended          over for good: every channel has ended (204), or the request was refused
//
// onstate(state, node)   node is the node's name, only with connected
// ongap(gap)             {channel, reason, cursor}: events of that channel, up to the cursor,
//                        can no longer be had. Load that channel's state again.
export function watch(source, { onstate = () => {}, ongap = () => {} } = {}) {
  onstate('connecting');
  // Not onopen: a node that cannot serve now answers 200 too, and says only when to come back.
  source.addEventListener('sse.open', event => onstate('connected', JSON.parse(event.data).node));
  source.addEventListener('error', () => {
    onstate(source.readyState === EventSource.CLOSED ? 'ended' : 'reconnecting');
  });
  source.addEventListener('sse.gap', event => ongap(JSON.parse(event.data)));
  return source;
}
