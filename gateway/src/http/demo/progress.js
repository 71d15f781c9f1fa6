import { watch } from './connection.js';
import { byId, call, channelOfHash, showState } from './page.js';
import * as view from './progress-view.js';

// ---- copy from here
// A job is a channel. A page that comes late, or comes again, is given
// all its events from the first one, and then what happens now.
function listen(channel) {
  const name = encodeURIComponent(channel);
  const url = `/events?channel=${name}&last_event_id=earliest`;
  const source = new EventSource(url);
  const on = (event, act) =>
    source.addEventListener(event, e => act(JSON.parse(e.data)));
  on('started', job => view.started(job));
  on('progress', ({ percent, step }) => view.progress(percent, step));
  on('done', result => view.done(result));
  on('cancelled', () => view.over('cancelled'));
  on('failed', ({ detail }) => view.over('failed', detail));
  return source; // the server ends it, with a 204
}
// ---- to here

let source;

function open() { // the channel stands in the page's address
  source?.close();
  const channel = channelOfHash();
  view.clear(channel ? 'waiting' : 'idle');
  if (!channel) return showState('idle', undefined, 'not connected');
  source = watch(listen(channel), { onstate, ongap: view.lose });
}

function onstate(state, node) {
  showState(state, node);
  if (state === 'reconnecting') view.reconnecting();
  if (state === 'ended') view.ended();
}

async function start() {
  const file = view.file();
  if (!file) return;
  source?.close();
  view.clear('sending');
  try {
    const url = `/demo/jobs?name=${encodeURIComponent(file.name)}`;
    const { channel } = await call(url, { method: 'POST', body: file });
    location.hash = channel; // hashchange opens it
  } catch (error) {
    view.over('not started', error.message);
  }
}

async function cancel() { // whoever works on the job is told, and ends it with `cancelled`
  byId('cancel').disabled = true;
  try {
    await call(`/channels/${encodeURIComponent(channelOfHash())}/cancel`, { method: 'POST' });
  } catch (error) {
    byId('cancel').disabled = false;
    view.error(`not cancelled: ${error.message}`);
  }
}

byId('start').addEventListener('click', start);
byId('cancel').addEventListener('click', cancel);
addEventListener('hashchange', open);
open();
