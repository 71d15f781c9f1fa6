// How progress.html takes a file and shows a job.
import { byId, call, number } from './page.js';

let chosen = null, limit = null; // the file; the bytes that are taken, once they are known
let phase = 'idle'; // idle, sending, waiting (for a first event), running, over
let reconnects = 0, silence;

export function clear(next) {
  clearTimeout(silence);
  byId('name').textContent = byId('error').textContent = '';
  byId('result').hidden = true;
  reconnects = 0;
  byId('reconnects').textContent = reconnects;
  bar(0);
  enter(next, { idle: 'no job yet', sending: 'sending the file', waiting: 'looking for the job' }[next]);
  if (next !== 'waiting') return;
  silence = setTimeout(() => {
    if (phase === 'waiting') error('Nothing is here. If there was a job, it is not kept any more.');
  }, 5000);
}

export function started({ name, bytes }) {
  enter('running', 'started');
  byId('name').textContent = `${name}, ${number(bytes)} bytes`;
}

export function progress(percent, step) {
  if (phase !== 'running') enter('running', step); // where its beginning is lost
  if (byId('step').textContent !== step) byId('step').textContent = step;
  bar(percent);
}

export function done(result) {
  bar(100);
  over('done');
  for (const cell of byId('result').querySelectorAll('td')) {
    const value = result[cell.dataset.key];
    cell.textContent = typeof value === 'number' ? number(value) : value;
  }
  byId('result').hidden = false;
}

export function over(step, detail = '') {
  enter('over', step);
  error(detail);
}

export function reconnecting() {
  if (phase === 'running') reconnects += 1; // after its end it only comes for the 204
  byId('reconnects').textContent = reconnects;
}

/** The stream is over for good. */
export function ended() {
  if (phase === 'waiting') over('gone', 'This job is not kept any more.');
  if (phase === 'running') over('unknown', 'The stream ended before the job did.');
}

export function lose({ reason }) {
  error(`Some of this job's events are lost (${reason}).`);
}

export function error(text) {
  byId('error').textContent = text;
}

/** The file to send, or null; then the page says why it will not do. Nothing is sent to find out. */
export function file() {
  const size = chosen?.size;
  if (!chosen) error('Choose a file first, or use the sample.');
  else if (size === 0) error(`${chosen.name} is empty: 0 bytes, at least 1 is needed.`);
  else if (size > limit) error(`${chosen.name} is too large: ${number(size)} bytes, at most ${number(limit)} are taken.`);
  else return chosen;
  return null;
}

function enter(next, step) {
  phase = next;
  byId('step').textContent = step;
  byId('start').disabled = !['idle', 'over'].includes(phase) || limit === null;
  byId('cancel').disabled = phase !== 'running';
}

function bar(percent) {
  byId('bar').value = percent;
  byId('percent').textContent = `${Math.floor(percent)} %`;
}

function choose() { // what the input holds, however it came there
  [chosen = null] = byId('file').files;
  byId('chosen').textContent = chosen ? `${number(chosen.size)} bytes` : '';
  error('');
  if (chosen && limit !== null) file();
}

function sample() {
  const line = 'The quick brown fox jumps over the lazy dog. 다람쥐 헌 쳇바퀴에 타고파.\n';
  const transfer = new DataTransfer();
  transfer.items.add(new File([line.repeat(5000)], 'sample.txt', { type: 'text/plain' }));
  byId('file').files = transfer.files;
  choose();
}

function drop(event) {
  event.preventDefault();
  byId('drop').toggleAttribute('data-over', event.type === 'dragover');
  if (event.type !== 'drop' || !event.dataTransfer.files.length) return;
  byId('file').files = event.dataTransfer.files;
  choose();
}

byId('file').addEventListener('change', choose);
byId('sample').addEventListener('click', sample);
for (const type of ['dragover', 'dragleave', 'drop']) byId('drop').addEventListener(type, drop);
call('/demo/jobs').then(({ max_bytes: most }) => {
  limit = most;
  byId('limit').textContent = `Any text, up to ${number(limit / 1_048_576)} MiB (${number(limit)} bytes).`;
  byId('start').disabled = !['idle', 'over'].includes(phase);
  if (chosen) file();
}, failure => {
  byId('limit').textContent = `How large it may be is not known: ${failure.message}.`;
});
