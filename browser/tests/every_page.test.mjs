// What holds of every page: it can be read by everybody, on a phone too, and complains about nothing. Pictures of them
// all are in target/browser/screenshots.

import assert from 'node:assert/strict';
import { lively } from '../harness/lively.mjs';
import { readable } from '../harness/looks.mjs';
import { PAGES, address, text } from '../harness/pages.mjs';
import { scenario } from '../harness/scenario.mjs';
import { gateway } from '../harness/servers.mjs';
import { eventually } from '../harness/wait.mjs';

for (const name of PAGES) {
  scenario(`every page: ${name} is readable in light and dark, at a desk and on a phone`, async desk => {
    const { url } = await gateway();
    const page = await lively(desk, url, name);
    await readable(page, name);
    page.complaints.check();
  });
}

scenario('every page: without JavaScript it says what is missing', async desk => {
  const { url } = await gateway();
  const context = await desk.context({ javaScriptEnabled: false });
  for (const name of PAGES) {
    const page = await desk.open(address(url, name), context);
    await page.locator('noscript p').waitFor({ state: 'visible' });
    assert.match(await text(page, 'noscript p'), /^This page needs JavaScript/);
    page.complaints.check();
  }
});

scenario('every page: its source panel shows the code that runs', async desk => {
  const { url } = await gateway();
  for (const name of PAGES) {
    const page = await desk.open(address(url, name));
    await eventually(`the source of ${name}`, async () => /new EventSource\(/.test(await text(page, '#source')));
    const file = await (await fetch(`${url}/demo/${name}.js`)).text();
    // Line by line, since the panel ends each with a line feed of its own.
    assert.equal((await text(page, '#source')).trimEnd(), file.trimEnd());
    page.complaints.check();
  }
});

scenario('every page: scripts and styles come from files alone, and nobody may frame it', async () => {
  const { url } = await gateway();
  for (const name of PAGES) {
    const { headers } = await fetch(address(url, name));
    assert.equal(headers.get('content-security-policy'),
      "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self'");
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
    assert.equal(headers.get('referrer-policy'), 'no-referrer');
    assert.equal(headers.get('cache-control'), 'no-cache');
  }
});

scenario('every page: 한글 is drawn, not boxes', async desk => {
  const { url } = await gateway();
  const page = await lively(desk, url, 'notifications');
  // In the page's own font: two syllables differ from each other, and from what stands for a character of no font.
  const drawn = await page.evaluate(() => {
    const { font } = getComputedStyle(document.querySelector('.notification p'));
    const pixels = character => {
      const canvas = Object.assign(document.createElement('canvas'), { width: 64, height: 64 });
      const context = canvas.getContext('2d');
      context.font = font.replace(/[\d.]+px(\/[\d.]+(px)?)?/, '40px');
      context.fillText(character, 4, 48);
      return [...context.getImageData(0, 0, 64, 64).data].join();
    };
    return { han: pixels('한'), geul: pixels('글'), box: pixels('\u{10FFFD}'), none: pixels(' ') };
  });
  assert.equal(new Set(Object.values(drawn)).size, 4, 'each is drawn in its own way');
});
