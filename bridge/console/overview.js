// Overview: whether all is well, what needs a human as numbers that link to lists, and what ended in the last hour.

import { get } from "./api.js";
import { ends } from "./charts.js";
import { cards } from "./crews.js";
import { address, element, heading, table } from "./dom.js";
import { number, state } from "./format.js";
import { t } from "./i18n.js";

const MOST = 100;  // counted; beyond it the number is shown as 100+
const MINUTE = 60000, SHOWN = 60;  // milliseconds; minutes
const LETTERS_KEPT = 30000;  // milliseconds
let letters = { at: 0, total: 0 };

export async function load({ may, signal }) {
  const since = new Date(Math.floor(Date.now() / MINUTE - SHOWN + 1) * MINUTE);
  const [ready, { crews }, stats, deliveries] = await Promise.all([
    get("readyz", { signal, accept: [503] }),
    get("v1/crews", { signal }),
    may("read") ? get("v1/stats", { signal, query: { since: since.toISOString() } }) : null,
    may("operate") ? undelivered(signal) : [],
  ]);
  if (may("operate") && "broker_out" in ready.parts) deliveries.unshift(await deadLetters(signal));
  return { ready, crews, since, stats, deliveries };
}

// Return the number of dead letters, for which the bridge opens a connection to the broker, at most every half minute.
async function deadLetters(signal) {
  if (Date.now() - letters.at > LETTERS_KEPT) {
    const found = await get("v1/dead-letters", { signal, query: { limit: "0" } }).catch(() => ({ total: 0 }));
    letters = { at: Date.now(), total: found.total };
  }
  return { name: "dead_letters", number: letters.total, attention: true, path: "dead-letters" };
}

// Return what an operator sees of deliveries.
async function undelivered(signal) {
  const [dead, pending, { receivers }] = await Promise.all([
    count("dead", signal), count("pending", signal), get("v1/receivers", { signal }),
  ]);
  return [
    { name: "dead", ...dead, attention: true, path: "deliveries", query: { state: "dead" } },
    { name: "paused", number: receivers.filter((each) => each.paused_at).length, attention: true, path: "deliveries" },
    { name: "pending", ...pending, path: "deliveries", query: { state: "pending" } },
  ];
}

async function count(chosen, signal) {
  const page = await get("v1/deliveries", { signal, query: { state: chosen, limit: String(MOST) } });
  return { number: page.deliveries.length, more: page.next_cursor !== null };
}

export function render({ ready, crews, since, stats, deliveries }) {
  const counted = crews.filter((crew) => crew.runs);  // none without the role `read`, or while storage is unavailable
  const runs = (...states) => counted.reduce((sum, crew) => sum + states.reduce((part, each) => part + (crew.runs[each] ?? 0), 0), 0);
  const tiles = [
    { name: "in_doubt", number: runs("in_doubt"), attention: true, path: "in-doubt" },
    { name: "waiting_for_human", number: runs("waiting_for_human"), attention: true, path: "questions" },
    ...deliveries,
    { name: "accepted", number: runs("accepted"), path: "runs", query: { state: "accepted" } },
    { name: "running", number: runs("starting", "running"), path: "runs", query: { state: "running" } },
  ].filter((each) => counted.length || deliveries.includes(each));
  const minutes = Array.from({ length: SHOWN }, (_, index) => since.getTime() + index * MINUTE);
  const found = new Map((stats?.minutes ?? []).map(({ minute, state: ended, count: each, crew }) => [`${Date.parse(minute)} ${ended} ${crew}`, each]));
  return [
    heading(element("h1", {}, t(`ready.${ready.status}`)), state(ready.status === "ready" ? "ok" : "problem", "parts"),
      ready.draining ? element("span", {}, t("ready.draining")) : null),
    element("ul", { class: "tiles", "data-list": true }, tiles.map(tile)),
    stats && element("section", { class: "panel ends" }, element("h2", {}, t("overview.ends")),
      ends(minutes, (minute, ended) => crews.reduce((sum, { name }) => sum + (found.get(`${minute} ${ended} ${name}`) ?? 0), 0))),
    element("h2", {}, t("nav.crews")), cards(crews),
    element("h2", {}, t("overview.parts")), parts(ready.parts),
  ];
}

function tile({ name, number: found, more, attention, path, query = {} }) {
  return element("li", { class: attention && found ? "card tile attention" : "card tile", "data-key": name },
    element("strong", { class: "number" }, number(found) + (more ? "+" : "")), element("a", { href: address(path, query) }, t(`overview.${name}`)));
}

function parts(all) {
  return table(t("overview.parts"), ["part", "state", "detail"].map((name) => t(`parts.${name}`)),
    Object.entries(all).map(([name, { ok, detail }]) => [name, [element("strong", {}, name), state(ok ? "ok" : "problem", "parts"), detail]]));
}
