// Puts what the node says on the page. Every text goes in as text: names of nodes and channels are anybody's.
import { Chart } from './chart.js';

const LATE = 7; // seconds; nodes say every three that they are there
const byId = id => document.getElementById(id);

const number = value => value.toLocaleString('en-US');
/** Short enough for an axis: 1,200 is 1.2 k. */
const short = value => value.toLocaleString('en-US', { notation: 'compact', maximumFractionDigits: 1 });
const rate = value => value.toLocaleString('en-US', { maximumFractionDigits: value < 10 ? 1 : 0 });
const millis = value => (value >= 1000 ? `${(value / 1000).toFixed(1)} s` : `${rate(value)} ms`);
const time = at => new Date(at).toLocaleTimeString('en-GB');

/** A span of seconds, as exact as anybody needs it. */
function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  const hours = Math.floor(seconds / 3600);
  return hours < 48 ? `${hours} h ${Math.round((seconds % 3600) / 60)} min` : `${Math.floor(hours / 24)} days`;
}

/** Text and tone, only where they are other: what is selected stays so. */
function set(node, text, tone) {
  if (node.textContent !== text) node.textContent = text;
  if (tone !== undefined && node.dataset.tone !== tone) node.dataset.tone = tone;
}

/** The children of `parent` are `items` in their order, by `key`; those that stay are the same elements. */
function rows(parent, template, items, key, fill) {
  const there = new Map([...parent.children].map(row => [row.dataset.key, row]));
  for (const [i, item] of items.entries()) {
    const row = there.get(key(item)) ?? byId(template).content.cloneNode(true).firstElementChild;
    row.dataset.key = key(item);
    fill(row, item);
    if (parent.children[i] !== row) parent.insertBefore(row, parent.children[i] ?? null);
  }
  while (parent.childElementCount > items.length) parent.lastElementChild.remove();
}

const charts = {
  connections: new Chart(byId('connections'), ['here', 'all nodes'], short, { level: true }),
  events: new Chart(byId('events'), ['received', 'delivered'], short),
  latencies: new Chart(byId('latencies'), ['median', '99 % below'], millis),
};

export function show(status) {
  head(status);
  tiles(status);
  const { history, rates, latency } = status;
  charts.connections.show(history, [history.own, history.all], [status.connections, status.all]);
  charts.events.show(history, [history.received, history.delivered], [rates.received, rates.delivered]);
  charts.latencies.show(history, [history.p50, history.p99], [latency.p50, latency.p99]);
  nodes(status);
  channels(status);
  log(status);
}

/** What the node is doing: a word, its tone, and what follows from it. */
function doing({ state, stopping, broker }) {
  if (stopping) {
    const left = Math.max(0, stopping.deadline - stopping.for);
    return ['stopping', 'warning', `Its streams go elsewhere. What is still open in ${Math.ceil(left)} s is cut.`];
  }
  const away = `Redis has been away for ${span(broker.for)}. Open streams stay open and get what comes meanwhile; new ones are told to come back.`;
  switch (state) {
    case 'ready': return broker.state === 'away' ? ['serving, without Redis', 'warning', away] : ['serving', 'good', ''];
    case 'starting': return ['starting', 'warning', 'It has not heard itself through its broker yet.'];
    case 'deaf': return ['deaf', 'bad', 'It does not hear what it says to itself, so it is not ready: load balancers send nobody here.'];
    case 'broker_away': return ['without Redis', 'bad', `${away} It is not ready: load balancers send nobody here.`];
    default: return [state, 'warning', ''];
  }
}

function head(status) {
  const [word, tone, means] = doing(status);
  const where = status.broker.kind === 'redis' ? `on Redis at ${status.broker.address}` : 'alone, on the embedded broker';
  set(byId('node'), status.node);
  set(byId('state'), word, tone);
  set(byId('about'), `version ${status.version}, up for ${span(status.up)}, ${where}`);
  set(byId('means'), means);
  document.title = `${status.node}: ${word} · SSE gateway`;
}

function tiles({ connections, max_connections: most, lanes, all, nodes, more_nodes: more, census, rates, latency, broker }) {
  set(byId('here'), number(connections));
  const byLane = Object.entries(lanes).filter(([, count]) => count > 0).map(([lane, count]) => `${number(count)} ${lane}`);
  set(byId('here-of'), [`of ${number(most)}`, ...(byLane.length ? [byLane.join(', ')] : [])].join('; '));
  set(byId('all'), all === null ? 'unknown' : number(all));
  const there = nodes.length + more;
  set(byId('all-of'), all === null ? 'the nodes were not heard of lately' : `on ${number(there)} ${there === 1 ? 'node' : 'nodes'}, ${span(census.age)} ago`);
  set(byId('received'), `${rate(rates.received)}/s`);
  set(byId('delivered'), `${rate(rates.delivered)}/s`);
  set(byId('latency'), latency.p50 === null ? '–' : millis(latency.p50));
  set(byId('latency-of'), latency.p99 === null ? 'no durable event lately' : `median; 99 % are below ${millis(latency.p99)}`);
  if (broker.kind === 'embedded') {
    set(byId('broker-name'), 'Broker');
    set(byId('broker'), 'embedded');
    return set(byId('broker-of'), 'no Redis: this node is alone');
  }
  const words = { up: 'connected', away: 'away', deaf: 'deaf', starting: 'starting' };
  set(byId('broker'), words[broker.state] ?? broker.state);
  const heard = broker.heard === null ? 'not heard yet' : `heard ${span(broker.heard)} ago`;
  set(byId('broker-of'), broker.state === 'up' ? `${heard}, for ${span(broker.for)}` : `for ${span(broker.for)}`);
}

/** The bar of a row, and its number. */
function fill(row, count, most) {
  set(row.querySelector('.count'), number(count));
  row.querySelector('.fill').style.inlineSize = `${most > 0 ? (100 * count) / most : 0}%`;
}

const STATES = { serving: ['serving', 'good'], draining: ['stopping', 'warning'] };

function nodes(status) {
  const { nodes, more_nodes: more, census } = status;
  const most = Math.max(...nodes.map(node => node.connections));
  rows(byId('nodes'), 'node-row', nodes, node => (node.own ? 'own' : node.life), (row, node) => {
    const late = !node.own && node.age > LATE;
    const [word, tone] = node.own ? doing(status) : (STATES[node.state] ?? ['unknown: it is of another version', 'plain']);
    // Of another node, by two clocks, which people put on and back.
    const up = node.own ? status.up : Math.max(0, status.now - node.started) / 1000;
    set(row.querySelector('.name'), node.name);
    row.querySelector('.own').hidden = !node.own;
    set(row.querySelector('.version'), `version ${node.version}, up for ${span(up)}`);
    set(row.querySelector('.word'), late ? `${word}, when last heard` : word, late ? 'bad' : tone);
    fill(row, node.connections, most);
    set(row.querySelector('.channels'), number(node.channels));
    set(row.querySelector('.heard'), node.own ? 'now' : `${span(node.age)} ago`);
    row.querySelector('.heard').toggleAttribute('data-late', late);
  });
  byId('more').hidden = more === 0;
  set(byId('more'), `and ${number(more)} more`);
  const listed = census.age === null ? 'no list of the others yet' : `listed ${span(census.age)} ago`;
  set(byId('census'), census.error === null ? listed : `${listed}; asking again fails: ${census.error}`);
}

function channels({ channels, top }) {
  set(byId('channels'), `${number(channels)} ${channels === 1 ? 'channel' : 'channels'} here`);
  const most = Math.max(0, ...top.map(({ connections }) => connections));
  rows(byId('top'), 'top-row', top, ({ channel }) => channel, (row, { channel, connections }) => {
    set(row.querySelector('.name'), channel);
    fill(row, connections, most);
  });
  byId('no-top').hidden = top.length > 0;
  // A node with very many goes through them every 15 s.
  set(byId('no-top'), channels > 0 ? 'They are looked for within 15 s.' : 'No channel has a connection here.');
}

const ABOUT = { node: 'Node', nodes: 'Nodes', redis: 'Redis', gaps: 'Gaps', limits: 'Limits' };

function log({ log }) {
  rows(byId('log'), 'log-row', log, ({ at, about, text, until }) => `${at} ${about} ${until ? '' : text}`, (row, entry) => {
    const { at, until, about, tone, text } = entry;
    set(row.querySelector('time'), time(at));
    row.querySelector('time').dateTime = new Date(at).toISOString();
    set(row.querySelector('.subject'), ABOUT[about] ?? about);
    set(row.querySelector('.what'), until ? `${text} (until ${time(until)})` : text, tone);
  });
}
