// How a page looks: in light and dark, at a desk and on a phone, as pictures and to axe.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { relative } from 'node:path';
import { ROOT } from './processes.mjs';
import { PICTURES, axe } from './tools.mjs';

const DESK = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };
export const LOOKS = [
  ['light', DESK, 'light'], ['dark', DESK, 'dark'], ['phone', PHONE, 'light'], ['phone-dark', PHONE, 'dark'],
];

mkdirSync(PICTURES, { recursive: true });
process.once('exit', () => console.log(`pictures of the pages: ${relative(ROOT, PICTURES)}`));

/** Violations of WCAG 2 A and AA that axe finds, as it would say them. */
async function violations(page) {
  if (!await page.evaluate(() => 'axe' in globalThis)) await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa'], resultTypes: ['violations'], preload: false,
  }));
  const say = id => ({ target, failureSummary }) => `${id} ${target.join(' ')}: ${failureSummary}`;
  return found.violations.flatMap(({ id, nodes }) => nodes.map(say(id)));
}

/** A picture of the page in each look, in which everybody can read it and nothing is wider than the screen. */
export async function readable(page, name, looks = LOOKS, { fullPage = false } = {}) {
  for (const [look, viewport, colorScheme] of looks) {
    await page.setViewportSize(viewport);
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await page.evaluate(() => scrollTo(0, 0));
    await page.mouse.move(1, 1);
    await page.screenshot({ path: `${PICTURES}/${name}-${look}.png`, fullPage });
    assert.deepEqual(await violations(page), [], look);
    const width = await page.evaluate(() => document.scrollingElement.scrollWidth);
    assert.ok(width <= viewport.width, `${look}: ${width} px wide`);
  }
}
