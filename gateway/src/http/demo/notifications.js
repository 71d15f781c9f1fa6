import { watch } from './connection.js';
import { byId, call, element, parsed, showState, time } from './page.js';

// ---- copy from here
// The cursor says how far an earlier visit came; '' is "from now on".
// After that the browser keeps the place, through every reconnect.
function listen(user, cursor) {
  const url = '/api/sse/connect?userId=' + encodeURIComponent(user);
  const source = new EventSource(`${url}&last_event_id=${cursor}`);
  source.addEventListener('connect', e => greet(e.data));
  source.addEventListener('notification', e => add(e.data));
  for (const event of ['sse.open', 'notification']) {
    source.addEventListener(event, e => keep(e.lastEventId));
  }
  return source;
}
// ---- to here

let user, source;
let kept; // { cursor, list }: what is shown, and how far that reaches, are saved together

function open() {
  const wanted = byId('user').value;
  if (!byId('connect').reportValidity()) return; // names of channels have no spaces
  if (wanted === user && source.readyState !== EventSource.CLOSED) return;
  source?.close();
  user = byId('to').value = wanted;
  history.replaceState(null, '', `?user=${encodeURIComponent(user)}`);
  byId('other').textContent = user === 'alice' ? 'bob' : 'alice';
  byId('other').href = `?user=${byId('other').textContent}`;
  byId('gap').textContent = byId('greeting').textContent = byId('sent').textContent = '';
  kept = parsed(sessionStorage.getItem(`notifications ${user}`)) ?? { cursor: '', list: [] };
  byId('list').replaceChildren(...kept.list.map(row));
  keep(kept.cursor);
  source = watch(listen(user, kept.cursor), { onstate: showState, ongap });
}

function keep(cursor) {
  kept.cursor = cursor;
  save();
  const unread = kept.list.filter(item => !item.read).length;
  byId('badge').textContent = unread;
  document.title = `${unread ? `(${unread}) ` : ''}Notifications for ${user}`;
}

// Where there is no room for all of the list, its newer half; where not for that either, nothing:
// a reload then goes on from what was saved last.
function save() {
  const newer = kept.list.slice(0, Math.ceil(kept.list.length / 2));
  for (const list of [kept.list, newer]) {
    try {
      return sessionStorage.setItem(`notifications ${user}`, JSON.stringify({ ...kept, list }));
    } catch { /* no room */ }
  }
}

function add(data) {
  const item = { text: parsed(data)?.message ?? data, at: time(), read: false };
  kept.list = [item, ...kept.list].slice(0, 100);
  byId('list').prepend(row(item));
  if (byId('list').childElementCount > 100) byId('list').lastElementChild.remove();
  byId('news').textContent = `New notification: ${item.text}`;
}

function row(item) {
  const button = element('button', { type: 'button', className: 'small' });
  const line = element('li', { className: 'notification' },
    element('p', {}, item.text), element('time', {}, item.at), button);
  const show = () => {
    line.toggleAttribute('data-read', item.read);
    button.textContent = item.read ? 'Mark as unread' : 'Mark as read';
  };
  button.addEventListener('click', () => { item.read = !item.read; show(); keep(kept.cursor); });
  show();
  return line;
}

function greet(text) {
  byId('greeting').textContent = text; // 연결되었습니다
}

function ongap({ reason }) {
  byId('gap').textContent = `Some notifications can no longer be had (${reason}). `
    + 'An application would load its list from the back end now.';
}

async function send(event) {
  event.preventDefault();
  const query = new URLSearchParams({ userId: byId('to').value, message: byId('message').value });
  let answer, failed = false;
  try {
    answer = await call(`/api/sse/notify?${query}`, { method: 'POST' }); // 알림 전송 완료
    byId('message').value = '';
  } catch (error) { // 404 is: nobody is connected as that user. It is kept until they come.
    [answer, failed] = [error.message, true];
  }
  byId('sent').textContent = answer;
  byId('sent').toggleAttribute('data-bad', failed);
}

byId('connect').addEventListener('submit', event => { event.preventDefault(); open(); });
byId('user').addEventListener('change', open);
byId('notify').addEventListener('submit', send);
byId('user').value = new URLSearchParams(location.search).get('user')?.trim() || '42';
open();
