// The stream that the page lives on, and whether it still does. Receiving needs no more than the EventSource: it comes back
// by itself when the node or the network was away, and each event is all there is to show.
import { show } from './view.js';

const CUT = 3500; // ms without an event: they come once a second
const AGAIN = 5000; // ms after the node refused the stream, at which an EventSource ends for good

const byId = id => document.getElementById(id);
let source;
let heard = null; // performance.now() of the last event
let refused = false;

function open() {
  source?.close();
  source = new EventSource('/status');
  source.addEventListener('status', event => {
    [heard, refused] = [performance.now(), false];
    show(JSON.parse(event.data));
    look();
  });
  source.addEventListener('error', () => {
    if (source.readyState !== EventSource.CLOSED || refused) return look();
    refused = true;
    setTimeout(() => { refused = false; open(); }, AGAIN);
    look();
  });
}

// Says whether what is shown is of now. A break of less than CUT is none that anybody has to know of.
function look() {
  const age = heard === null ? null : performance.now() - heard;
  const live = age === null ? (refused ? 'cut' : 'connecting') : age > CUT ? 'cut' : 'live';
  if (document.body.dataset.live !== live) {
    document.body.dataset.live = live;
    byId('live').textContent = { live: 'live', cut: 'not live', connecting: 'connecting' }[live];
    byId('live').dataset.tone = { live: 'good', cut: 'warning', connecting: 'plain' }[live];
    byId('cut').hidden = live !== 'cut';
  }
  if (live !== 'cut') return;
  const why = refused
    ? 'Not live: the node refuses the stream. As many watch as may, or the key is not good any more.'
    : 'Not live: the node is not heard. It may have ended, or the network to it is cut.';
  if (byId('cut-why').textContent !== why) byId('cut-why').textContent = why; // said aloud once, not each second
  const shown = age === null ? '' : `What is shown is ${Math.round(age / 1000)} s old. `;
  byId('cut-age').textContent = `${shown}The page tries again by itself.`;
}

setInterval(look, 500);
look();
open();
