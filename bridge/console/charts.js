// Drawings, each with a text that says the same. Sizes are those of the drawing, which is scaled to its place.

import { drawn, element } from "./dom.js";
import { FINAL, between, duration, number } from "./format.js";
import { language, named, t } from "./i18n.js";

// Return how much of a limit is used, as a bar.
export function bar(used, limit) {
  const part = limit > 0 ? Math.min(used / limit, 1) : 0;
  return drawn("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    drawn("rect", { class: "track", width: 100, height: 8, rx: 2 }),
    part > 0 && drawn("rect", { class: part < 1 ? "used" : "full", width: Math.max(part * 100, 1), height: 8, rx: 2 }));
}

// Return the runs that ended in each of the last minutes, stacked by their final state. `minutes`: times in
// milliseconds, oldest first. `counts(minute, state)`: how many.
export function ends(minutes, counts) {
  const totals = minutes.map((minute) => FINAL.reduce((sum, state) => sum + counts(minute, state), 0));
  const top = niceTop(Math.max(...totals));
  const columns = minutes.map((minute, index) => {
    let below = 0;
    const boxes = FINAL.map((state) => {
      const count = counts(minute, state);
      below += count;
      return count > 0 && drawn("rect", { class: state, x: index * 10 + 1, width: 8, y: 100 * (1 - below / top), height: (100 * count) / top });
    });
    return drawn("g", {}, drawn("title", {}, `${clock(minute)}: ${number(totals[index])}`), boxes);
  });
  const sums = FINAL.map((state) => [state, minutes.reduce((sum, minute) => sum + counts(minute, state), 0)]);
  const label = sums.map(([state, sum]) => `${named("state", state)} ${number(sum)}`).join(", ");
  const marks = [0, 15, 30, 45, 59].map((index) => element("span", {}, clock(minutes[index])));
  return [
    element("div", { class: "plot" },
      element("div", { class: "scale", "aria-hidden": "true" }, element("span", {}, number(top)), element("span", {}, "0")),
      drawn("svg", { viewBox: `0 0 ${minutes.length * 10} 100`, preserveAspectRatio: "none", role: "img", "aria-label": `${t("overview.ends")}: ${label}` }, columns),
      element("div", { class: "marks", "aria-hidden": "true" }, marks)),
    legend(sums.map(([state, sum]) => [state, `${named("state", state)} ${number(sum)}`])),
  ];
}

const clock = (minute) => new Date(minute).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit", hour12: false });

// Return the least even, round number that is not below `most`.
function niceTop(most) {
  const unit = 10 ** Math.max(Math.floor(Math.log10(most || 1)), 0);
  return [2, 4, 10, 20].map((factor) => factor * unit).find((each) => each >= most);
}

// Return the learned run times of a crew as a density: where the curve is high, many runs end. `quantiles`: seconds
// within which 0, 5, 10, … 100 % of the runs ended.
export function density(quantiles, median) {
  const to = quantiles[19] * 1.3;  // a few late runs are left out
  if (to <= 0) return null;
  const width = Math.max((quantiles[15] - quantiles[5]) / 3, to / 40);
  const at = (age) => quantiles.reduce((sum, each) => sum + Math.exp(-0.5 * ((age - each) / width) ** 2), 0);
  const points = Array.from({ length: 61 }, (_, index) => [index * 5, at((to * index) / 60)]);
  const most = Math.max(...points.map(([, value]) => value));
  const path = points.map(([x, value]) => `${x.toFixed(1)} ${(42 - (38 * value) / most).toFixed(1)}`).join("L");
  const middle = (median / to) * 300;
  return element("div", { class: "density", "aria-hidden": "true" },
    drawn("svg", { viewBox: "0 0 300 42", preserveAspectRatio: "none" },
      drawn("path", { class: "curve", d: `M0 42L${path}L300 42Z` }),
      drawn("line", { class: "mark", x1: middle, x2: middle, y1: 2, y2: 42 })),
    element("div", { class: "marks" }, element("span", {}, "0"), element("span", {}, duration(to))));
}

// Return how long a run waited, ran, and was delivered, in proportion; a part that has not ended lasts until now.
export function phases(run) {
  const now = new Date().toISOString();
  const answered = run.history?.findLast((entry) => entry.event === "answered")?.at;  // the first poll may see it much later
  const started = run.started_at && (answered ?? run.started_at);
  const delivered = run.deliveries.map((each) => each.delivered_at).filter(Boolean).sort().at(-1);
  const parts = [
    ["waited", run.accepted_at, started ?? run.finished_at ?? now],
    ["ran", started, run.finished_at ?? now],
    ["delivering", run.finished_at, delivered],
  ].filter(([, from, to]) => from && to);
  const lengths = parts.map(([, from, to]) => Math.max(new Date(to) - new Date(from), 0));
  const all = lengths.reduce((sum, each) => sum + each, 0) || 1;
  let x = 0;
  const boxes = parts.map(([name], index) => {
    const width = Math.max((lengths[index] / all) * 100, 0.5);
    x += width;
    return drawn("rect", { class: name, x: x - width, width, height: 8 });
  });
  return [
    drawn("svg", { class: "bar", viewBox: `0 0 ${x} 8`, preserveAspectRatio: "none", "aria-hidden": "true" }, boxes),
    legend(parts.map(([name, from, to]) => [name, [t(`phase.${name}`), " ", between(from, to)]])),
  ];
}

const legend = (items) => element("ul", { class: "legend" }, items.map(([name, text]) => element("li", {},
  drawn("svg", { viewBox: "0 0 8 8", "aria-hidden": "true" }, drawn("rect", { class: name, width: 8, height: 8, rx: 2 })), text)));
