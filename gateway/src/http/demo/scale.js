import { watch } from './connection.js';
import { byId, element, number, showState, time } from './page.js';

// ---- copy from here
// Every node tells once a second how many connections it holds. Each
// (re)connect says in sse.open which node this page is on. No page has
// to know: the stream goes on wherever it lands.
function listen() {
  const source = new EventSource('/events?channel=demo:nodes');
  const on = (event, act) =>
    source.addEventListener(event, e => act(JSON.parse(e.data)));
  on('node', ({ node, connections }) => heard(node, connections));
  on('sse.open', ({ node }) => arrived(node));
  return source;
}
// ---- to here

const GONE = 5000, FORGOTTEN = 60_000, HOPS = 50; // ms of silence; ms after that; lines of the log
const nodes = new Map(); // name -> { connections, at, gone, row }; gone: since when, null while it is there
let source, own = null, since = null; // since: when this connection began, null without one

function heard(name, connections) {
  const node = nodes.get(name) ?? { row: row(name) };
  nodes.set(name, Object.assign(node, { connections, at: Date.now(), gone: null }));
  show();
}

function row(name) {
  const made = byId('node-row').content.cloneNode(true).firstElementChild;
  made.dataset.node = name;
  made.querySelector('.name').textContent = name;
  const after = [...byId('nodes').children].find(other => other.dataset.node > name);
  byId('nodes').insertBefore(made, after ?? null);
  return made;
}

function show() {
  const now = Date.now();
  for (const [name, node] of nodes) { // silence says something only to who can hear
    if (since !== null && now - Math.max(since, node.at) > GONE) node.gone ??= now;
    if (node.gone === null || now - node.gone < FORGOTTEN) continue;
    node.row.remove();
    nodes.delete(name);
  }
  const here = [...nodes.values()].filter(node => node.gone === null);
  const most = Math.max(1, ...here.map(node => node.connections));
  for (const [name, node] of nodes) {
    const gone = node.gone !== null;
    node.row.toggleAttribute('data-gone', gone);
    node.row.toggleAttribute('data-own', name === own);
    node.row.querySelector('.count').textContent = gone ? 'gone' : number(node.connections);
    node.row.querySelector('.fill').style.inlineSize = gone ? '0' : `${(100 * node.connections) / most}%`;
  }
  byId('total').textContent = number(here.reduce((sum, node) => sum + node.connections, 0));
  byId('count').textContent = here.length;
}

function arrived(node) {
  hop(own === null ? `connected to ${node}` : own === node ? `${node} again` : `${own} -> ${node}`);
  [own, since] = [node, Date.now()];
  show();
}

function hop(text) {
  byId('hops').prepend(element('li', {}, element('time', {}, time()), ` ${text}`));
  while (byId('hops').childElementCount > HOPS) byId('hops').lastElementChild.remove();
}

function onstate(state, node) {
  showState(state, node);
  if (state !== 'connected') since = null;
}

function open() {
  source?.close();
  source = watch(listen(), { onstate });
}

byId('again').addEventListener('click', open);
setInterval(show, 1000); // who falls silent sends no event about it
open();
