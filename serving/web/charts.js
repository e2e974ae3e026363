// Figures of /metrics over the last minutes, as small charts with the same in words.
import { h } from "./dom.js";
import { t } from "./i18n.js";

const WIDTH = 160;
const HEIGHT = 40;
const MOST = 60;
const SVG = "http://www.w3.org/2000/svg";

/** Sums of the samples by name, those of _bucket left out. */
export function sums(text, wanted = () => true) {
  const found = {};
  for (const line of text.split("\n")) {
    const match = /^([a-z_]+)(\{.*\})? (\S+)$/.exec(line);
    if (match && !match[1].endsWith("_bucket") && wanted(match[1], match[2] ?? "")) {
      found[match[1]] = (found[match[1]] ?? 0) + Number(match[3]);
    }
  }
  return found;
}

export class Chart {
  constructor(name) {
    this.name = name;
    this.values = [];
    this.figure = h("strong", {}, "–");
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.svg.setAttribute("aria-label", name);
    this.line = document.createElementNS(SVG, "polyline");
    this.svg.append(this.line);
    this.element = h("figure.chart", {}, h("figcaption", {}, name), this.figure, this.svg);
  }

  /** Nobody answered: no figure is better than an old one. */
  unknown() {
    this.figure.textContent = "–";
  }

  add(value) {
    this.values = [...this.values, value].slice(-MOST);
    const most = Math.max(...this.values);
    const points = this.values.map((each, n) => `${(n * WIDTH) / (MOST - 1)},${HEIGHT - 2 - (each / (most || 1)) * (HEIGHT - 4)}`);
    this.line.setAttribute("points", points.join(" "));
    this.figure.textContent = rounded(value);
    const words = { name: this.name, now: rounded(value), most: rounded(most), n: this.values.length };
    this.svg.setAttribute("aria-label", t("chart", words));
  }
}

function rounded(value) {
  return value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1);
}
