// What the pages share and no example is about: navigation, the state badge, the panel that shows
// the source, and a few helpers.

const PAGES = [
  ['/demo/notifications.html', 'Notifications'],
  ['/demo/answer.html', 'AI answer'],
  ['/demo/dashboard.html', 'Dashboard'],
  ['/demo/progress.html', 'Progress'],
  ['/demo/scale.html', 'Scale'],
];

export const byId = id => document.getElementById(id);

/** A new element with properties (`className`) or attributes (`aria-label`), and elements or text in it. */
export function element(tag, values = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(values)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** The badge: one of the states of connection.js, or `idle` without a connection. */
export function showState(state, node, text = state) {
  byId('state').dataset.state = state;
  byId('state').textContent = text;
  if (state !== 'connecting') byId('node').textContent = node ?? '–';
}

export const parsed = text => { try { return JSON.parse(text); } catch { return null; } };
export const number = value => value.toLocaleString('en-US');
export const time = () => new Date().toLocaleTimeString('en-GB');

/** The channel that the page's address names, as in `progress.html#job:5f…`. */
export function channelOfHash() {
  try { return decodeURIComponent(location.hash.slice(1)); } catch { return ''; }
}

/** What the server answered, JSON or text. Throws an Error whose message is for people. */
export async function call(url, options = {}) {
  let response, text;
  try {
    response = await fetch(url, { signal: AbortSignal.timeout(60_000), ...options });
    text = await response.text();
  } catch (error) {
    throw new Error(error.name === 'TimeoutError' ? 'no answer within 60 s' : 'the server could not be reached');
  }
  const isJson = /json/.test(response.headers.get('Content-Type') ?? '');
  const body = isJson ? parsed(text) : null;
  if (response.ok) return body ?? text;
  const wait = response.headers.get('Retry-After');
  const why = body?.detail ?? body?.title ?? `the server answered ${response.status}`;
  throw new Error(wait ? `${why}; try again in ${wait} s` : why);
}

/** `matches`, `differs`, or `not checked`: browsers have the digest on https and localhost alone. */
export async function checkSha256(bytes, expected) {
  if (!globalThis.crypto?.subtle) return 'not checked (needs https or localhost)';
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const hex = Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join('');
  return hex === expected ? 'matches' : 'differs';
}

/** A button's answer to "copied?". Without a clipboard (plain http) `node` is selected instead. */
export async function copy(button, text, node) {
  button.dataset.label ??= button.textContent;
  button.style.minInlineSize = `${button.offsetWidth}px`; // the shorter word moves nothing
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    getSelection().selectAllChildren(node);
    button.textContent = 'Selected';
  }
  setTimeout(() => { button.textContent = button.dataset.label; }, 1500);
}

// ---- Navigation

const LOGO = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 7h9M4 12h16M4 17h6"/>'
  + '<circle cx="17" cy="7" r="2"/><circle cx="14" cy="17" r="2"/></svg>';

function navigation() {
  const home = element('a', { href: '/', className: 'home', innerHTML: LOGO });
  home.append('SSE gateway');
  const links = PAGES.map(([href, name]) => element('a', { href }, name));
  for (const link of [home, ...links]) {
    if (link.pathname === location.pathname) link.setAttribute('aria-current', 'page');
  }
  byId('top').append(home, element('nav', { 'aria-label': 'Demos' }, ...links));
}

// ---- The source panel: <aside id="panel" data-files="FILES">, by spaces

const KEYWORDS = 'import export from as const let function return if else for of while new async await try catch throw null'
  + ' true false void delete typeof';
const TOKENS = new RegExp([
  '(?<comment>(?<!:)//.*|/\\*.*?\\*/|<!--.*?-->)',
  /(?<string>'[^']*'|"[^"]*"|`[^`]*`)/.source,
  `(?<keyword>\\b(?:${KEYWORDS.replaceAll(' ', '|')})\\b(?![-=])|</?[a-z][a-z0-9]*)`,
  '(?<number>\\b\\d[\\d_.]*\\b)',
].join('|'), 'g');

function highlighted(line) {
  const parts = [];
  let at = 0;
  for (const match of line.matchAll(TOKENS)) {
    const [kind] = Object.entries(match.groups).find(([, text]) => text !== undefined);
    parts.push(line.slice(at, match.index), element('span', { className: kind }, match[0]));
    at = match.index + match[0].length;
  }
  return [...parts, line.slice(at)];
}

/** First and last line between the markers "copy from here" and "to here", or null. */
function copyRange(lines) {
  const from = lines.findIndex(line => line.includes('---- copy from here'));
  const to = lines.findIndex(line => line.includes('---- to here'));
  return from >= 0 && to > from ? [from + 1, to] : null;
}

function panel() {
  const files = byId('panel').dataset.files.split(' ');
  const code = element('code');
  const source = element('pre', { id: 'source', tabIndex: 0, role: 'tabpanel' }, code);
  const lines = element('button', { type: 'button', className: 'small strong' }, 'Copy the lines');
  const all = element('button', { type: 'button', className: 'small' }, 'Copy file');
  const tabs = files.map((file, i) => element('button', {
    type: 'button', role: 'tab', id: `tab-${i}`, 'aria-controls': 'source', onclick: () => show(i),
  }, file));
  const list = element('div', { role: 'tablist', 'aria-label': 'Files of this page' }, ...tabs);
  let current = 0, text = '', range = null;

  async function show(i) {
    current = i;
    for (const [j, tab] of tabs.entries()) {
      tab.setAttribute('aria-selected', i === j);
      tab.tabIndex = i === j ? 0 : -1;
    }
    source.setAttribute('aria-labelledby', `tab-${i}`);
    const read = await call(`/demo/${files[i]}`).catch(error => `${files[i]}: ${error.message}\n`);
    if (current !== i) return; // another tab was chosen meanwhile
    text = read;
    const rows = text.replace(/\n$/, '').split('\n');
    range = copyRange(rows);
    code.replaceChildren(...rows.map((row, j) => {
      const picked = range && j >= range[0] && j < range[1];
      return element('span', { className: picked ? 'line picked' : 'line' }, ...highlighted(row), '\n');
    }));
    source.scrollTop = 0;
    lines.disabled = !range;
    lines.textContent = lines.dataset.label = range ? `Copy the ${range[1] - range[0]} lines` : 'Copy the lines';
  }
  list.addEventListener('keydown', ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (!step) return;
    show((current + step + tabs.length) % tabs.length);
    tabs[current].focus();
  });
  lines.addEventListener('click', () => copy(lines, `${text.split('\n').slice(...range).join('\n')}\n`, source));
  all.addEventListener('click', () => copy(all, text, source));

  const tools = element('div', { className: 'tools' }, element('h2', {}, 'What runs here'), lines, all);
  byId('panel').append(tools, list, source);
  show(0);
}

navigation();
panel();
