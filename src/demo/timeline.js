// SPDX-License-Identifier: Apache-2.0
// Bytes over time at both ends, drawn as SVG. Times are seconds since `begin`, by this device's clock.

const SERIES = { sent: 'sent', server: 'arrived at the server', here: 'received here' };
const MARGIN = { left: 62, right: 14, bottom: 26 };
const LABEL_HEIGHT = 16;
const REDRAW_MS = 100;
const POINT_MS = 40; // points closer than this are not told apart in the drawing
const GAP_MS = 700; // longer than any poll: nothing came meanwhile, which is a flat line
const MAX_POINTS = 2000;

export class Timeline {
  constructor({ svg, legend, figures, panel }) {
    Object.assign(this, { svg, legend, figures, panel });
    new ResizeObserver(() => this.#draw()).observe(svg);
    this.begin();
  }

  /** Forgets everything; now is 0. */
  begin() {
    this.zero = performance.now();
    this.series = {};
    this.marks = new Map();
    this.total = null;
    this.isRunning = false;
    this.figures.replaceChildren();
  }

  /** While it runs, the time goes on though nothing arrives. */
  run() {
    this.panel.hidden = false;
    if (this.isRunning) return;
    this.isRunning = true;
    const tick = () => {
      this.#draw();
      if (this.isRunning) setTimeout(tick, REDRAW_MS);
    };
    tick();
  }

  stop() {
    this.isRunning = false;
    this.#draw();
  }

  expect(total) {
    if (total) this.total = total;
  }

  /** `name` of SERIES has come to `bytes`. */
  add(name, bytes) {
    const points = (this.series[name] ??= []);
    const at = this.#now();
    const last = points.at(-1);
    if (last && bytes < last.bytes) return; // an answer that was overtaken
    // What is here was at the server, and was sent, even if nobody has told us yet.
    if (name === 'here') this.add('server', bytes);
    if (name === 'server' && this.series.sent) this.add('sent', bytes);
    if (last && at - last.at < POINT_MS / 1000 && points.length > 1) {
      last.bytes = bytes;
      last.at = Math.max(last.at, at);
      return;
    }
    if (last && at - last.at > GAP_MS / 1000) points.push({ at: at - POINT_MS / 1000, bytes: last.bytes });
    points.push({ at, bytes });
    if (points.length > MAX_POINTS) this.series[name] = points.filter((_, index) => index % 2 === 0 || index > points.length - 3);
  }

  /** A moment worth a line: `label` in the figures and, if given, `short` in the drawing. Only the first of a label counts. */
  mark(label, short = null) {
    if (this.marks.has(label)) return;
    const at = this.#now();
    this.marks.set(label, { at, short });
    const term = element('dt', {}, label);
    const value = element('dd', {}, `${at.toFixed(2)} s`);
    const entry = element('div', {}, term, value);
    this.figures.append(entry);
  }

  #now() {
    return (performance.now() - this.zero) / 1000;
  }

  #draw() {
    const width = this.svg.clientWidth;
    const height = this.svg.clientHeight;
    if (!width || !height) return;
    const all = Object.values(this.series).flat();
    const lastAt = Math.max(0, ...all.map((point) => point.at), ...[...this.marks.values()].map((mark) => mark.at));
    const maxTime = Math.max(1, this.isRunning ? this.#now() : lastAt);
    const maxBytes = Math.max(4, this.total ?? 0, ...all.map((point) => point.bytes));
    const x = (at) => MARGIN.left + (at / maxTime) * (width - MARGIN.left - MARGIN.right);
    const labels = this.#placeLabels(x, width);
    const top = 10 + LABEL_HEIGHT * (1 + Math.max(-1, ...labels.map((label) => label.row)));
    const y = (bytes) => height - MARGIN.bottom - (bytes / maxBytes) * (height - MARGIN.bottom - top);

    const parts = [];
    for (const at of ticks(maxTime, Math.max(3, width / 90))) {
      parts.push(svg('line', { class: 'grid', x1: x(at), x2: x(at), y1: top, y2: height - MARGIN.bottom }));
      parts.push(svg('text', { x: x(at), y: height - 8, 'text-anchor': 'middle' }, `${+at.toFixed(2)} s`));
    }
    const unit = 1024 ** unitOf(maxBytes);
    for (const bytes of [0, ...ticks(maxBytes / unit, all.length > 0 ? 4 : 1).map((amount) => amount * unit)]) {
      parts.push(svg('line', { class: 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: y(bytes), y2: y(bytes) }));
      parts.push(svg('text', { x: MARGIN.left - 8, y: y(bytes) + 4, 'text-anchor': 'end' }, describeBytes(bytes)));
    }
    for (const name of ['here', 'server', 'sent']) {
      const points = this.series[name];
      if (!points) continue;
      const shape = points.map((point) => `${x(point.at).toFixed(1)},${y(point.bytes).toFixed(1)}`).join(' ');
      if (name === 'here') {
        const ground = y(0).toFixed(1);
        const area = `${x(points[0].at).toFixed(1)},${ground} ${shape} ${x(points.at(-1).at).toFixed(1)},${ground}`;
        parts.push(svg('polygon', { class: name, points: area }));
      }
      parts.push(svg('polyline', { class: name, points: shape }));
    }
    for (const { at, text, row, anchor } of labels) {
      const baseline = 10 + LABEL_HEIGHT * row + 4;
      parts.push(svg('line', { class: 'mark', x1: x(at), x2: x(at), y1: baseline + 4, y2: height - MARGIN.bottom }));
      const shift = { start: -1, middle: 0, end: 1 }[anchor];
      parts.push(svg('text', { class: 'mark-label', x: x(at) + shift, y: baseline, 'text-anchor': anchor }, text));
    }
    this.svg.replaceChildren(...parts);
    this.svg.setAttribute('aria-label', this.#inWords());
    this.#drawLegend();
  }

  // Labels that would cover each other go into rows of their own.
  #placeLabels(x, width) {
    const rows = [];
    const marks = [...this.marks.values()].filter((mark) => mark.short).sort((a, b) => a.at - b.at);
    return marks.map(({ at, short }) => {
      const text = `${short} ${at.toFixed(2)} s`;
      const length = text.length * 6.6 + 8;
      const anchor = x(at) + length > width ? 'end' : 'start';
      const left = anchor === 'end' ? x(at) - length : x(at);
      let row = rows.findIndex((end) => end <= left);
      if (row < 0) row = rows.length;
      rows[row] = left + length;
      return { at, text, row, anchor };
    });
  }

  #drawLegend() {
    const entries = Object.entries(SERIES).filter(([name]) => this.series[name]);
    this.legend.replaceChildren(...entries.map(([name, label]) => {
      const sample = svg('svg', { viewBox: '0 0 28 10', 'aria-hidden': 'true' },
        svg('polyline', { class: name, points: '0,5 28,5' }));
      const amount = element('b', {}, describeBytes(this.series[name].at(-1).bytes));
      return element('li', {}, sample, ` ${label} `, amount);
    }));
  }

  #inWords() {
    const amounts = Object.entries(SERIES).filter(([name]) => this.series[name])
      .map(([name, label]) => `${label}: ${describeBytes(this.series[name].at(-1).bytes)}`);
    const moments = [...this.marks].map(([label, { at }]) => `${label} after ${at.toFixed(2)} seconds`);
    return `Bytes over time. ${[...amounts, ...moments].join('; ')}`;
  }
}

export function describeBytes(bytes) {
  const unit = unitOf(bytes);
  const amount = bytes / 1024 ** unit;
  return `${unit === 0 || amount >= 100 ? Math.round(amount) : +amount.toPrecision(3)} ${UNITS[unit]}`;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
const unitOf = (bytes) => Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));

// Round numbers above 0, about `count` of them.
function ticks(max, count) {
  const rough = max / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => power * factor >= rough * 0.999);
  const found = [];
  for (let value = step; value <= max * 1.0001; value += step) found.push(value);
  return found;
}

export function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
