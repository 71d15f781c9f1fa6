// Each page in the state in which it is of use, as a person would bring it there: for pictures, and for what holds of
// all of them.

import { publish } from './api.mjs';
import { address, connected, number, text } from './pages.mjs';
import { eventually } from './wait.mjs';

const LIVELY = {
  async index(page) {
    await connected(page);
    await page.click('#publish');
    await eventually('a greeting', async () => (await page.locator('#greetings li').count()) > 0);
  },

  async notifications(page, base) {
    await connected(page);
    const channel = `user:${await page.inputValue('#user')}`;
    for (const message of ['주문하신 상품이 발송되었습니다', 'Your order is on its way', '새 댓글: "좋은 글이네요"']) {
      await publish(base, { channel, event: 'notification', data: { message } });
    }
    await eventually('three notifications', async () => (await page.locator('.notification').count()) === 3);
    await page.locator('.notification button').last().click();
  },

  async answer(page) {
    await page.locator('.pick[lang=ko]').click();
    await page.click('#ask');
    await eventually('a part of the answer', async () => (await text(page, '#answer')).length > 150);
  },

  async dashboard(page) {
    await connected(page);
    await eventually('200 events', async () => (await number(page, '#seen')) > 200);
  },

  async progress(page) {
    await page.click('#sample');
    await page.click('#start');
    await eventually('a tenth is done', () => page.locator('#bar').evaluate(bar => bar.value >= 10));
  },

  async scale(page) {
    await connected(page);
    await eventually('a node', async () => (await page.locator('.node[data-own]').count()) > 0);
  },
};

/** Opens the page and brings it there. */
export async function lively(desk, base, name) {
  const query = name === 'notifications' ? '?user=lively' : '';
  const page = await desk.open(address(base, name, query), await desk.context({ reducedMotion: 'reduce' }));
  await LIVELY[name](page, base);
  return page;
}
