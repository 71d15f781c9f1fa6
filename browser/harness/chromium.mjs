// One Chromium for the run. A test has contexts of its own in it, each like a profile of its own: storage, connections.

import { chromium } from './tools.mjs';

const FLAGS = [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-dev-shm-usage',
  '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

let once;

export function browser() {
  return once ??= chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS,
    // Signals are those of scenario.mjs, which ends everything.
    handleSIGINT: false, handleSIGTERM: false, handleSIGHUP: false,
  });
}

export async function stopBrowser() {
  if (once) await (await once).close();
}
