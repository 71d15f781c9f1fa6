// How dashboard.html shows an event: a row of prices, a tile, a line of orders.
import { byId, element, number } from './page.js';

const POINTS = 40; // of a chart
const charts = {}; // by symbol or metric: its last values

export function show(channel, data) {
  ({ 'demo:prices': price, 'demo:metrics': metric, 'demo:orders': order })[channel]?.(data);
}

function price({ symbol, name, price, change }) {
  const row = document.querySelector(`#prices [data-symbol="${CSS.escape(symbol)}"]`) ?? newRow(symbol, name);
  row.querySelector('.price').textContent = money(price);
  row.querySelector('.change').textContent = `${change < 0 ? '−' : '+'}${Math.abs(change).toFixed(2)} %`;
  row.querySelector('.change').dataset.sign = Math.sign(change);
  draw(symbol, row.querySelector('polyline'), price);
}

function newRow(symbol, name) {
  const row = byId('price').content.cloneNode(true).firstElementChild;
  row.dataset.symbol = symbol;
  row.querySelector('.name').textContent = name;
  row.querySelector('.symbol').textContent = symbol;
  const after = [...byId('prices').children].find(other => other.dataset.symbol > symbol);
  byId('prices').insertBefore(row, after ?? null);
  return row;
}

const money = value => value.toLocaleString('en-US', { minimumFractionDigits: value < 1000 ? 2 : 0 });

function metric({ name, value, unit }) {
  const tile = document.querySelector(`.tile[data-name="${CSS.escape(name)}"]`);
  if (!tile) return;
  tile.querySelector('b').textContent = value.toLocaleString('en-US', { maximumFractionDigits: 1 });
  tile.querySelector('.unit').textContent = unit;
  draw(name, tile.querySelector('polyline'), value);
}

function order({ id, side, symbol, quantity, price }) {
  const orders = byId('orders');
  const what = `${number(quantity)} × ${symbol} at ${money(price)}`;
  orders.prepend(element('li', {}, element('span', { className: `side ${side}` }, side),
    element('span', { className: 'what' }, what), element('span', { className: 'dim' }, id)));
  while (orders.childElementCount > 6) orders.lastElementChild.remove();
}

// A line in a viewBox of 100 x 30. No axes: it shows the shape, the number beside it says how much.
function draw(name, polyline, value) {
  const values = charts[name] ??= [];
  values.push(value);
  if (values.length > POINTS) values.shift();
  const low = Math.min(...values), span = Math.max(...values) - low;
  const y = value => (span ? 27 - (24 * (value - low)) / span : 15);
  const points = values.map((value, i) => `${((100 * i) / (POINTS - 1)).toFixed(1)},${y(value).toFixed(1)}`);
  polyline.setAttribute('points', points.join(' '));
}
