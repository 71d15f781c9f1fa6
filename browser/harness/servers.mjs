// What the tests run against: a gateway that is alone, and a cluster. Each is started when a test first asks for it,
// and serves all of them; the channels of a test are its own.

import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { promisify } from 'node:util';
import { status } from './api.mjs';
import { BIN_DIR, Process, ROOT, freePorts, tail } from './processes.mjs';
import { Upstream } from './upstream.mjs';
import { eventually } from './wait.mjs';

// Pages come back soon after a cut rather than after seconds, and nobody waits for the end.
const GATEWAY = { SSE_GATEWAY__RETRY: '300ms', SSE_GATEWAY__DRAIN__GRACE: '0s', SSE_GATEWAY__DRAIN__WINDOW: '0s' };
const PUBLISHER = { SSE_PUBLISHER__DRAIN__GRACE: '0s' };

// Ports of scripts/cluster: its variables are these and _PORT.
const PORTS = [
  'REDIS', 'GATEWAY_1', 'GATEWAY_1_ADMIN', 'GATEWAY_2', 'GATEWAY_2_ADMIN', 'PUBLISHER', 'PUBLISHER_ADMIN', 'NGINX',
];

// A history that is soon too short, for gaps.
const SETTINGS = '[[channels]]\nprefix = "short:"\nhistory = 2\n';

/** The folder of a run: logs, and Redis' data. It goes with the run. */
export const folder = mkdtempSync(`${tmpdir()}/sse-browser.`);

/** Where each log stands now; `logsSince` shows what came after it. */
export const logs = new Map();
export const mark = () => new Map([...logs].map(([name, file]) => [name, size(file)]));
export function logsSince(marks) {
  const parts = [...logs].map(([name, file]) => [name, tail(file, marks.get(name) ?? 0)]).filter(([, text]) => text);
  return parts.map(([name, text]) => `---- ${name}\n${text}`).join('\n');
}

function size(file) {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

/** A gateway on the embedded broker, as it is without flags but for its ports. */
class Gateway {
  static async start() {
    const [port, admin] = await freePorts(2);
    const config = `${folder}/gateway.toml`;
    writeFileSync(config, SETTINGS);
    const command = [`${BIN_DIR}/sse-gateway`, '--config', config];
    command.push('--listen', `127.0.0.1:${port}`, '--admin-listen', `127.0.0.1:${admin}`);
    const log = `${folder}/gateway.log`;
    logs.set('gateway', log);
    const gateway = Object.assign(new Gateway(), {
      port, url: `http://127.0.0.1:${port}`, admin: `http://127.0.0.1:${admin}`,
      process: new Process('the gateway', command, { env: GATEWAY, log }),
    });
    started.push(gateway.process);
    await eventually('the gateway is ready', async () => {
      gateway.process.check();
      return (await status(`${gateway.admin}/readyz`)) === 200;
    });
    return gateway;
  }
}

/** scripts/cluster: Redis, two gateways, the publisher and nginx. It starts a gateway that was killed again.
 * Answers are those of `upstream`. */
class Cluster {
  static async start() {
    const free = await freePorts(PORTS.length);
    const ports = Object.fromEntries(PORTS.map((name, i) => [name, free[i]]));
    const run = `${folder}/cluster`;
    const upstream = await Upstream.start();
    const env = { ...GATEWAY, ...PUBLISHER, BIN_DIR, RUN_DIR: run, SSE_PUBLISHER__CHAT__UPSTREAM: upstream.url, PROMETHEUS_PORT: '' };
    for (const [name, port] of Object.entries(ports)) env[`${name}_PORT`] = String(port);
    for (const name of ['redis', 'gateway-1', 'gateway-2', 'publisher', 'nginx']) logs.set(name, `${run}/${name}.log`);
    logs.set('cluster', `${folder}/cluster.log`);
    const cluster = Object.assign(new Cluster(), {
      run, upstream, redis: ports.REDIS, url: `http://127.0.0.1:${ports.NGINX}`, back: `http://127.0.0.1:${ports.PUBLISHER}`,
      admin: { 'gateway-1': ports.GATEWAY_1_ADMIN, 'gateway-2': ports.GATEWAY_2_ADMIN },
      process: new Process('scripts/cluster', [`${ROOT}/scripts/cluster`], { env, log: logs.get('cluster') }),
    });
    started.push(cluster.process, { stop: () => upstream.close() });
    await eventually('the cluster is ready', () => {
      cluster.process.check();
      return readFileSync(logs.get('cluster'), 'utf8').includes('cluster is ready');
    }, 60_000);
    return cluster;
  }

  killed = new Map();

  /** The data begins a new life, as after a restart of Redis, and all of them are still there. */
  async newEpoch() {
    await promisify(execFile)('redis-cli', ['-p', String(this.redis), 'DEL', 'sse.clock'], { timeout: 10_000 });
  }

  /**
   * SIGKILL. The other node has to be there, since nginx would tell pages to come back after 5 s. It is started again,
   * perhaps before a page is back: that a page is elsewhere then is nothing to rely on, see `keepDown`.
   */
  async kill(node) {
    await this.ready();
    this.#kill(node);
  }

  /** Kills the node, and whatever is started in its place, until `condition` gives something; that. */
  async keepDown(node, what, condition) {
    await this.ready();
    return await eventually(what, () => {
      this.#kill(node);
      return condition();
    });
  }

  #kill(node) {
    const pid = this.#pid(node);
    if (pid !== this.killed.get(node)) process.kill(pid, 'SIGKILL');
    this.killed.set(node, pid);
  }

  #pid(node) {
    const pid = Number(readFileSync(`${this.run}/${node}.pid`, 'utf8'));
    if (!Number.isInteger(pid) || pid < 2) throw new Error(`${node}.pid holds no process id`);
    return pid;
  }

  /** Every gateway serves: those that were killed have been started again. */
  async ready() {
    for (const [node, port] of Object.entries(this.admin)) {
      await eventually(`${node} is ready`, async () => {
        this.process.check();
        return this.#pid(node) !== this.killed.get(node) && (await status(`http://127.0.0.1:${port}/readyz`)) === 200;
      }, 30_000);
    }
  }
}

const started = [];
let gatewayOnce, clusterOnce;
export const gateway = () => gatewayOnce ??= Gateway.start();
export const cluster = () => clusterOnce ??= Cluster.start();

/** Ends all of it. */
export async function stopServers() {
  // At once: the cluster's own order is its own.
  await Promise.all(started.splice(0).map(process => process.stop(40_000)));
  rmSync(folder, { recursive: true, force: true });
}
