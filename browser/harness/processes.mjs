// Processes that a run starts: each has a log, and is ended by its own id.

import { spawn, spawnSync } from 'node:child_process';
import { openSync, closeSync, readFileSync, existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { soon } from './wait.mjs';

export const ROOT = new URL('../..', import.meta.url).pathname.replace(/\/$/, '');
export const BIN_DIR = resolve(ROOT, process.env.BIN_DIR ?? 'target/debug');

// Where the system can, a child is told to stop if this process is killed without a word.
const WITH_PARENT = spawnSync('setpriv', ['--pdeathsig', 'TERM', 'true']).status === 0
  ? ['setpriv', '--pdeathsig', 'TERM', '--'] : [];

/** Ports that were free a moment ago; all were held at once, so no two are the same. */
export async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map(server => once(server, 'listening')));
  const ports = servers.map(server => server.address().port);
  await Promise.all(servers.map(server => once(server.close(), 'close')));
  return ports;
}

/** A log file from where a test began: what a failed test shows. */
export function tail(file, from = 0, lines = 40) {
  if (!existsSync(file)) return '';
  return readFileSync(file).subarray(from).toString().trimEnd().split('\n').slice(-lines).join('\n');
}

/** A child in a group of its own, so that the terminal's Ctrl-C reaches us alone and the order is ours. */
export class Process {
  constructor(name, command, { env = {}, log }) {
    Object.assign(this, { name, log });
    const out = openSync(log, 'a');
    const [program, ...args] = [...WITH_PARENT, ...command.map(String)];
    this.child = spawn(program, args, {
      cwd: ROOT, env: { ...process.env, ...env }, stdio: ['ignore', out, out], detached: true,
    });
    closeSync(out);
    this.ended = new Promise(done => {
      this.child.once('exit', (code, signal) => done(signal ?? `exit code ${code}`));
      this.child.once('error', error => done(error.message));
    });
    this.ended.then(how => { this.how = how; });
  }

  /** Throws if it has ended by itself, with the end of its log. */
  check() {
    if (this.how === undefined) return;
    throw new Error(`${this.name} ended unexpectedly (${this.how}):\n${tail(this.log)}`);
  }

  /** Asks it to end, and kills it where it does not within `within` milliseconds. */
  async stop(within = 15_000) {
    if (this.how !== undefined) return;
    this.child.kill('SIGTERM');
    try {
      await soon(`${this.name} ends`, this.ended, within);
    } catch {
      console.error(`browser: ${this.name} is killed`);
      this.child.kill('SIGKILL');
      await this.ended;
    }
  }
}
