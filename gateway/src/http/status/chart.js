// A chart of the last ten minutes: one or two lines, drawn anew with each event. Lines differ in colour and in dashes; the
// legend says what each is at the moment under the pointer, or now.

const NS = 'http://www.w3.org/2000/svg';
const SPAN = 600; // seconds
const [TOP, RIGHT, BOTTOM, LEFT] = [8, 6, 20, 46]; // px around the plot
const STEPS = [2, 4, 6, 8, 10]; // of an axis, so that half of it is a plain number

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Where an axis from 0 ends that has room for `most`. */
export function axisEnd(most) {
  if (!(most > 0)) return STEPS[0];
  const unit = 10 ** Math.floor(Math.log10(most));
  return unit * STEPS.find(step => step * unit >= most);
}

/** "3 min 20 s", for the legend. */
function ago(seconds) {
  const [minutes, rest] = [Math.floor(seconds / 60), Math.round(seconds % 60)];
  return `${minutes ? `${minutes} min ` : ''}${rest} s ago`;
}

export class Chart {
  #lines; #values; #when; #plot; #cross; #format; #level; #label;
  #at = null; // seconds ago, under the pointer
  #last = null;

  /** In `figure`; `names` of one line or two. `format` writes a value; lines that are `level` go on to now. */
  constructor(figure, names, format, { level = false } = {}) {
    [this.#format, this.#level, this.#label] = [format, level, figure.querySelector('h2').textContent];
    this.#lines = names.map((name, i) => ({ name, className: `stroke${i ? ' other' : ''}` }));
    this.#values = names.map(() => document.createElement('b'));
    this.#when = Object.assign(document.createElement('span'), { className: 'when', textContent: 'now' });
    const legend = Object.assign(document.createElement('p'), { className: 'legend' });
    for (const [i, { name, className }] of this.#lines.entries()) {
      const swatch = svg('svg', { viewBox: '0 0 22 8', 'aria-hidden': 'true' }, svg('path', { class: className, d: 'M1 4H21' }));
      const key = document.createElement('span');
      key.append(swatch, `${name} `, this.#values[i]);
      legend.append(key);
    }
    legend.append(this.#when);
    figure.querySelector('figcaption').append(legend);
    this.#plot = svg('svg', { class: 'plot', role: 'img' });
    figure.append(this.#plot);
    this.#plot.addEventListener('pointermove', event => this.#point(event));
    this.#plot.addEventListener('pointerleave', () => { this.#at = null; this.#draw(); });
    new ResizeObserver(() => this.#draw()).observe(this.#plot);
  }

  /** `columns`: the values of each line, the oldest first, `step` seconds apart, the last `age` seconds old; `now`: those of now,
   *  which jump about where a line is a mean over each step, and so are not part of it. */
  show({ step, age }, columns, now) {
    const points = columns.map((values, i) => [
      ...values.map((value, j) => [age + (values.length - 1 - j) * step, value]).filter(([time]) => time <= SPAN),
      ...(this.#level ? [[0, now[i]]] : []),
    ]);
    this.#last = { points, now };
    this.#draw();
  }

  #point(event) {
    const { left, width } = this.#plot.getBoundingClientRect();
    const share = (event.clientX - left - LEFT) / (width - LEFT - RIGHT);
    this.#at = SPAN * (1 - Math.min(1, Math.max(0, share)));
    this.#draw();
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#plot;
    if (!this.#last || !width || !height) return;
    const { points, now } = this.#last;
    const values = points.flat().map(([, value]) => value ?? 0);
    const end = axisEnd(Math.max(0, ...values));
    const x = time => LEFT + (width - LEFT - RIGHT) * (1 - time / SPAN);
    const y = value => TOP + (height - TOP - BOTTOM) * (1 - value / end);
    this.#plot.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.#plot.replaceChildren(...this.#axes(x, y, end), ...this.#curves(points, x, y), ...this.#readout(points, x, y));
    this.#plot.setAttribute('aria-label', this.#summary(points, now));
  }

  #axes(x, y, end) {
    const level = value => [
      svg('path', { class: 'grid', d: `M${x(SPAN)} ${y(value)}H${x(0)}` }),
      svg('text', { x: LEFT - 8, y: y(value) + 4, 'text-anchor': 'end' }, this.#format(value)),
    ];
    const moment = ([time, text, anchor]) => svg('text', { x: x(time), y: y(0) + 15, 'text-anchor': anchor }, text);
    const moments = [[SPAN, '10 min ago', 'start'], [SPAN / 2, '5 min ago', 'middle'], [0, 'now', 'end']];
    return [...[0, end / 2, end].flatMap(level), ...moments.map(moment)];
  }

  /** What nobody knows is a hole in the line. */
  #curves(points, x, y) {
    const drawn = [];
    for (const [i, line] of points.entries()) {
      let [path, area, run] = ['', '', []];
      const close = () => {
        if (!run.length) return;
        const corners = run.map(([time, value]) => `${x(time).toFixed(1)} ${y(value).toFixed(1)}`);
        path += `M${corners.join('L')}${run.length === 1 ? 'h.1' : ''}`;
        area += `M${x(run[0][0]).toFixed(1)} ${y(0)}L${corners.join('L')}L${x(run.at(-1)[0]).toFixed(1)} ${y(0)}Z`;
        run = [];
      };
      for (const point of line) {
        if (point[1] === null || point[1] === undefined) close();
        else run.push(point);
      }
      close();
      if (i === 0) drawn.unshift(svg('path', { class: 'area', d: area }));
      drawn.push(svg('path', { class: this.#lines[i].className, d: path }));
    }
    return drawn;
  }

  #readout(points, x, y) {
    const nearest = line => line.reduce((best, point) =>
      (Math.abs(point[0] - this.#at) < Math.abs(best[0] - this.#at) ? point : best));
    const before = this.#at !== null && points[0].length > 0;
    const read = before ? points.map(nearest) : this.#last.now.map(value => [0, value]);
    for (const [i, [, value]] of read.entries()) {
      this.#values[i].textContent = value === null || value === undefined ? '–' : this.#format(value);
    }
    this.#when.textContent = read[0][0] < 1 ? 'now' : ago(read[0][0]);
    if (!before) return [];
    return [svg('path', { class: 'cross', d: `M${x(read[0][0]).toFixed(1)} ${TOP}V${y(0)}` })];
  }

  #summary(points, now) {
    const said = points.map((line, i) => {
      const known = line.map(([, value]) => value).filter(value => value !== null && value !== undefined);
      const is = now[i] === null || now[i] === undefined ? 'unknown' : this.#format(now[i]);
      return `${this.#lines[i].name} ${is} now, ${known.length ? this.#format(Math.max(...known)) : 'unknown'} at most`;
    });
    return `${this.#label}, the last ten minutes: ${said.join('; ')}`;
  }
}
