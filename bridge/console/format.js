// How values are shown: ids, times, states, JSON, errors.

import { Problem } from "./api.js";
import { element, link } from "./dom.js";
import { language, named, t } from "./i18n.js";

const RELATIVE = new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "short" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const SHORT_ID = 18;  // characters: the time in milliseconds, and 12 random bits
const LONGEST = 20000, MOST_NODES = 500;  // characters and members of one value; more would make the page slow

export const FINAL = ["succeeded", "failed", "timed_out", "cancelled"];
export const STATES = ["accepted", "starting", "running", "in_doubt", "waiting_for_human", ...FINAL];

// Return the beginning of a run's id, which the API and the command line also accept.
export const shortId = (id) => id.slice(0, SHORT_ID);

export const runPath = (id) => `runs/${encodeURIComponent(id)}`;

export const runLink = (id) => element("span", { class: "id", title: id }, link(shortId(id), runPath(id)));

export function state(value, kind = "state") {
  return element("span", { class: `state ${/^[a-z_]+$/.test(value) ? value : ""}` }, named(kind, value));
}

// Return a relative time, with the exact one on hover.
export function time(text) {
  if (!text) return null;
  return element("time", { datetime: text, title: new Date(text).toLocaleString(language) + " · " + text }, relative(text));
}

// Bring the relative times on the page up to date.
export function refreshTimes() {
  document.querySelectorAll("main time").forEach((each) => {
    const shown = relative(each.dateTime);
    if (each.textContent !== shown) each.textContent = shown;
  });
}

function relative(text) {
  const seconds = (new Date(text) - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, each]) => Math.abs(seconds) >= each) ?? UNITS.at(-1);
  return RELATIVE.format(Math.round(seconds / size), unit);
}

// Return the time between two times, for instance "40 ms", "1.5 sec", or "3 min".
export const between = (from, to) => duration((new Date(to) - new Date(from)) / 1000);

// Return some seconds in the unit that suits them.
export function duration(seconds) {
  const [unit, size] = UNITS.find(([name, each]) => seconds >= (name === "second" ? each : 2 * each)) ?? ["millisecond", 0.001];
  const digits = { maximumFractionDigits: seconds / size < 10 ? 1 : 0 };
  return new Intl.NumberFormat(language, { ...digits, style: "unit", unit, unitDisplay: "short" }).format(seconds / size);
}

export const number = (value) => new Intl.NumberFormat(language).format(value);

// Return a number of bytes in the unit that suits it.
export function bytes(value) {
  const [unit, size] = [["megabyte", 2 ** 20], ["kilobyte", 2 ** 10], ["byte", 1]].find(([, each]) => value >= each) ?? ["byte", 1];
  const unitDisplay = unit === "byte" ? "long" : "short";
  return new Intl.NumberFormat(language, { maximumFractionDigits: 1, style: "unit", unit, unitDisplay }).format(value / size);
}

// Return why a run waits, unless its state says so.
export function waiting(run) {
  if (!run.waiting || ["human", "in_doubt"].includes(run.waiting.reason)) return null;
  return element("span", { title: run.waiting.detail }, named("waiting", run.waiting.reason));
}

// Return an error of the API: its code, its sentence, and the field it names. Any other error is a bug, thrown again.
export function explain(error) {
  if (!(error instanceof Problem)) throw error;
  const sentence = error.code === "unreachable" ? t("unreachable") : error.message;
  return element("p", { class: "error" }, element("code", {}, error.code), " ", sentence,
    error.field ? [" (", element("code", {}, error.field), ")"] : null);
}

// Return folded text or JSON; nothing for an empty value. Large JSON is shown as text.
export function folded(title, value, { open = false } = {}) {
  if (value === null || value === undefined || value === "" || (typeof value === "object" && !Object.keys(value).length)) return null;
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  const small = typeof value !== "string" && text.length <= LONGEST && size(value) <= MOST_NODES;
  const content = small ? element("div", { class: "json" }, json(value)) : element("pre", { tabindex: "0" }, cut(text));
  return element("details", { open, "data-name": title }, element("summary", {}, title), content,
    text.length > LONGEST ? element("p", { class: "muted" }, t("cut", { shown: number(LONGEST), all: number(text.length) }), " ",
      element("button", { class: "plain", click: () => save(text, typeof value === "string" ? "txt" : "json") }, t("save"))) : null);
}

// Save a text as a file, which the page has as a whole even where it shows only the beginning.
function save(text, kind) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  element("a", { href: url, download: `kickoff-bridge.${kind}` }).click();
  URL.revokeObjectURL(url);
}

export const cut = (text) => (text !== null && text.length > LONGEST ? text.slice(0, LONGEST) + "…" : text);

function size(value) {
  if (typeof value !== "object" || value === null) return 1;
  return Object.values(value).reduce((sum, each) => sum + (sum > MOST_NODES ? 0 : size(each)), 1);
}

// Return JSON as a tree whose objects and lists can be folded.
function json(value) {
  if (typeof value !== "object" || value === null) return element("span", {}, JSON.stringify(value));
  return Object.entries(value).map(([name, each]) => {
    const title = [element("b", {}, name), ": "];
    if (typeof each !== "object" || each === null || !Object.keys(each).length) return element("div", {}, title, JSON.stringify(each));
    const brackets = Array.isArray(each) ? ["[", "]"] : ["{", "}"];
    return element("details", { class: "json", open: true, "data-name": name },
      element("summary", {}, title, brackets[0], " ", String(Object.keys(each).length), " ", brackets[1]), json(each));
  });
}
