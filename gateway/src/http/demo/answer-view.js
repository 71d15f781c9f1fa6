// How answer.html shows an answer: its text, and what is known about its being complete.
import { byId, checkSha256, number } from './page.js';

const answer = byId('answer');
let phase = 'idle'; // idle, asking, waiting (for a first event), answering, over
let heard = 0; // when the last event came, in milliseconds
let lost = ''; // says why a part can no longer be had
let stale = false; // what is shown is read again, and goes with the first event of that
let turn = 0; // counts answers, so that a late check says nothing about the next one

export function clear(next) {
  answer.textContent = byId('asked').textContent = lost = '';
  stale = false;
  turn += 1;
  enter(next, next === 'asking' ? 'asking …' : '');
  byId('tab').href = location.href;
  if (next === 'asking') byId('talk').scrollIntoView({ block: 'nearest' });
}

/** All of it comes once more, from its beginning. */
export function again() {
  stale = true;
}

function renew() {
  if (stale) answer.textContent = '';
  stale = false;
}

export function begin(question) {
  renew();
  byId('asked').textContent = question;
  enter('answering', 'answering …');
}

export function append(text) {
  renew();
  heard = Date.now();
  if (phase === 'waiting') enter('answering', 'answering …'); // where the question is lost
  answer.append(text); // a node of text, never HTML
}

export async function finish({ reason, detail, bytes, sha256 }) {
  renew();
  const shown = new TextEncoder().encode(answer.textContent), mine = turn;
  enter('over', 'checking …');
  const sum = await checkSha256(shown, sha256);
  if (mine !== turn) return;
  let how = { stop: 'complete', cancelled: 'stopped' }[reason] ?? `ended early (${reason})`;
  if (detail) how = `failed (${reason}, ${detail})`;
  if (shown.length === bytes && sum !== 'differs') {
    return say(`${how}: ${number(bytes)} bytes, SHA-256 ${sum}`, detail ? 'bad' : 'good');
  }
  if (reason === 'stop') how = 'not complete here';
  say(`${how}: ${number(shown.length)} of ${number(bytes)} bytes, SHA-256 ${sum}. ${lost}`, 'bad');
}

export function refuse(why) {
  enter('over', why, 'bad');
}

/** The stream is over for good. */
export function ended() {
  if (phase === 'waiting') refuse('this answer is not kept any more');
  if (phase === 'answering') refuse('the stream ended before the answer did');
}

export function lose({ reason }) {
  lost = `A part of this answer is lost (${reason}).`;
  if (phase !== 'over') say(lost, 'bad');
}

export function say(text, mark = '') {
  if (byId('verdict').textContent !== text) byId('verdict').textContent = text;
  byId('verdict').dataset.mark = mark;
}

function enter(next, text, mark) {
  [phase, heard] = [next, Date.now()];
  byId('talk').dataset.phase = phase;
  byId('ask').disabled = !['idle', 'over'].includes(phase);
  byId('stop').disabled = phase !== 'answering';
  say(text, mark);
}

// Silence is said, not spun away.
setInterval(() => {
  const quiet = Date.now() - heard;
  if (phase === 'waiting' && quiet >= 5_000) {
    say(lost || 'nothing is here; if there was an answer, it is not kept any more', 'bad');
  }
  if (phase !== 'answering') return;
  if (quiet >= 30_000) return say('nothing has come for 30 s; the answer is not finished', 'bad');
  say(lost || 'answering …', lost && 'bad');
}, 1000);
