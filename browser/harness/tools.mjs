// What npm installed, below target/ and not beside these files: scripts/browser says where.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { ROOT } from './processes.mjs';

const folder = resolve(ROOT, process.env.BROWSER_TOOLS ?? 'target/tools/browser');
const require = createRequire(`${folder}/package.json`);

export const { chromium } = require('playwright-core');

/** The text of axe, to be run in a page. */
export const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

/** Pictures: of every page, and of a page whose test failed. */
export const PICTURES = `${ROOT}/target/browser/screenshots`;
export const FAILURES = `${ROOT}/target/browser/failed`;
