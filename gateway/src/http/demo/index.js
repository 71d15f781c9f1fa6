import { watch } from './connection.js';
import { byId, call, copy, element, showState, time } from './page.js';

// ---- copy from here
const source = new EventSource('/events?channel=hello');

source.addEventListener('greeting', event => {
  const { message } = JSON.parse(event.data);
  show(message);
});
source.addEventListener('sse.gap', () => {
  // Some events can no longer be had: load the state as it is now.
});
// ---- to here

watch(source, { onstate: showState });

function show(message) {
  const line = element('li', {}, element('time', {}, time()), element('span', {}, message));
  byId('greetings').prepend(line);
  while (byId('greetings').childElementCount > 3) byId('greetings').lastElementChild.remove();
}

const body = JSON.stringify({ channel: 'hello', event: 'greeting', data: { message: 'hi' } });
const curl = `curl '${location.origin}/publish' \\
  -H 'Content-Type: application/json' \\
  -d '${body}'`;
byId('curl').textContent = curl;
byId('copy').addEventListener('click', () => copy(byId('copy'), curl, byId('curl')));

byId('publish').addEventListener('click', async () => { // what the curl line does
  byId('refused').textContent = '';
  try {
    await call('/publish', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
  } catch (error) {
    byId('refused').textContent = error.message;
  }
});
