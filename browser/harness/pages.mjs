// The demo pages, as a person has them: what they show, by their ids.

import { eventually } from './wait.mjs';

export const PAGES = ['index', 'notifications', 'answer', 'dashboard', 'progress', 'scale'];

/** The address of a page; `rest` is its query or hash. */
export const address = (base, name, rest = '') => `${base}/${name === 'index' ? '' : `demo/${name}.html`}${rest}`;

/** Text of the element, exactly as it stands in the document. */
export const text = (page, selector) => page.locator(selector).first().evaluate(node => node.textContent);
export const state = page => page.locator('#state').getAttribute('data-state');
/** A number as the pages write it: 1,234. */
export const number = async (page, selector) => Number((await text(page, selector)).replaceAll(',', ''));

export const untilState = (page, wanted) => eventually(`${page.url()} is ${wanted}`, async () => {
  const seen = await state(page);
  if (seen !== wanted) throw new Error(seen);
  return true;
});

/** Waits until a node has answered; its name. */
export const connected = page => eventually(`${page.url()} is connected`, async () => {
  // Both at one instant: a page that has just lost its node names none.
  const [seen, node] = await page.evaluate(() => {
    const state = document.getElementById('state').dataset.state;
    return [state, document.getElementById('node').textContent];
  });
  if (seen !== 'connected') throw new Error(seen);
  return node;
});

/** Waits until the element's text is `wanted`, or matches it. */
export const untilText = (page, selector, wanted) => eventually(`${selector} says ${wanted}`, async () => {
  const seen = await text(page, selector);
  if (wanted instanceof RegExp ? !wanted.test(seen) : seen !== wanted) throw new Error(JSON.stringify(seen));
  return seen;
});
