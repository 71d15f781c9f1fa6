import { watch } from './connection.js';
import { byId, number, showState } from './page.js';
import { show } from './dashboard-view.js';

// ---- copy from here
// Three channels on one connection; with format=json every event is a
// `message` of one shape. It begins with the last 40 of each channel,
// or after a cursor: the id of the last event is all one has to keep.
let cursor = '';
function listen() {
  const url = '/events?channel=demo:prices&channel=demo:metrics'
    + '&channel=demo:orders&format=json&replay=40';
  const source = new EventSource(`${url}&last_event_id=${cursor}`);
  source.onmessage = message => {
    const { channel, data } = JSON.parse(message.data);
    cursor = message.lastEventId;
    show(channel, data);
    account(channel, data.n);
  };
  return source;
}
// ---- to here

let source, seen = 0, missing = 0, twice = 0;
let seenBefore = null; // a second ago; null in the first second, when the past comes too
let caught = null, arrived = 0; // while catching up: how many, and when the last one came
const expected = {}; // by channel: the number that has to come next

// Events of a channel are numbered: none may be left out, and none come twice.
function account(channel, n) {
  const next = expected[channel] ?? n;
  const again = n < next && n > 1; // the ticker counts from 1 when it is started anew
  if (n > next) missing += n - next;
  if (again) twice += 1;
  expected[channel] = again ? next : n + 1;
  seen += 1;
  byId('seen').textContent = number(seen);
  byId('missing').textContent = number(missing);
  byId('twice').textContent = number(twice);
  if (caught !== null) catchUp();
}

// No mark in a stream says where the past ends. It comes at once, the present 20 times a second.
function catchUp() {
  const now = performance.now();
  if (arrived && now - arrived > 30) return void (caught = null);
  arrived = now;
  caught += 1;
  byId('caught').textContent = `caught up ${number(caught)} events`;
}

function ongap({ channel, reason }) { // told, so not missing: count on from what comes next
  delete expected[channel];
  byId('gap').textContent = `${channel}: some events can no longer be had (${reason}).`;
}

function open() {
  seenBefore = null;
  source = watch(listen(), { onstate: showState, ongap });
  byId('pause').textContent = 'Pause';
}

function pause() {
  source.close();
  showState('ended', undefined, 'paused');
  byId('pause').textContent = 'Resume';
  byId('caught').textContent = 'what is missed now comes on Resume';
}

function resume() {
  [caught, arrived] = [cursor ? 0 : null, 0];
  byId('caught').textContent = byId('gap').textContent = '';
  open();
}

byId('pause').addEventListener('click', () => {
  if (source.readyState === EventSource.CLOSED) return resume();
  pause();
});
setInterval(() => {
  byId('rate').textContent = seenBefore === null ? '–' : number(seen - seenBefore);
  seenBefore = seen;
}, 1000);
open();
