import { watch } from './connection.js';
import { byId, call, channelOfHash, showState } from './page.js';
import * as view from './answer-view.js';

// ---- copy from here
// The answer is a channel: whoever knows its name reads it, from its
// beginning, at any time. So a reload or a second tab misses nothing.
function listen(channel) {
  const name = encodeURIComponent(channel);
  const url = `/events?channel=${name}&last_event_id=earliest`;
  const source = new EventSource(url);
  const on = (event, act) =>
    source.addEventListener(event, e => act(JSON.parse(e.data)));
  on('question', ({ text }) => view.begin(text));
  on('chunk', ({ text }) => view.append(text));
  on('done', end => view.finish(end));
  on('failed', end => view.finish(end));
  return source; // the server ends it, with a 204
}
// ---- to here

let source;
let again; // whether a gap was answered by reading all of it once more

function open() { // the channel stands in the page's address
  source?.close();
  const channel = channelOfHash();
  view.clear(channel ? 'waiting' : 'idle');
  if (!channel) return showState('idle', undefined, 'not connected');
  again = false;
  source = watch(listen(channel), { onstate, ongap });
}

function ongap(gap) { // all of it may still be there, as after a restart of Redis
  if (again) return view.lose(gap);
  again = true;
  source.close();
  view.again();
  source = watch(listen(channelOfHash()), { onstate, ongap });
}

function onstate(state, node) {
  showState(state, node);
  if (state === 'ended') view.ended();
}

async function ask(event) {
  event.preventDefault();
  source?.close();
  view.clear('asking');
  try {
    const { channel } = await call('/chat', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
      body: JSON.stringify({ question: byId('question').value }),
    });
    location.hash = channel; // hashchange opens it
  } catch (error) {
    view.refuse(error.message);
  }
}

async function stop() { // whoever writes the answer is told, and ends it with `done`
  byId('stop').disabled = true;
  try {
    await call(`/channels/${encodeURIComponent(channelOfHash())}/cancel`, { method: 'POST' });
  } catch (error) {
    byId('stop').disabled = false;
    view.say(`not stopped: ${error.message}`, 'bad');
  }
}

function another() {
  history.pushState(null, '', location.pathname);
  open();
  byId('question').value = '';
  byId('question').focus();
}

byId('chat').addEventListener('submit', ask);
byId('stop').addEventListener('click', stop);
byId('new').addEventListener('click', another);
for (const pick of document.querySelectorAll('.pick')) {
  pick.addEventListener('click', () => { byId('question').value = pick.textContent; });
}
addEventListener('hashchange', open);
open();
