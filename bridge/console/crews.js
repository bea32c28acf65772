// Crews: whether each is usable, how much of its limits is used, and its learned run times.

import { get } from "./api.js";
import { bar, density } from "./charts.js";
import { element, empty, heading, link, pairs } from "./dom.js";
import { duration, number, state } from "./format.js";
import { t } from "./i18n.js";

export const load = ({ signal }) => get("v1/crews", { signal });

export const crewPath = (name) => `crews/${encodeURIComponent(name)}`;

export function render({ crews }) {
  return [heading(element("h1", {}, t("nav.crews"))), cards(crews)];
}

export const cards = (crews) => (crews.length
  ? element("ul", { class: "cards", "data-list": true }, crews.map(card)) : empty(t("crews.empty")));

function card(crew) {
  return element("li", { class: crew.paused ? "card attention" : "card", "data-key": crew.name },
    element("p", { class: "title" }, link(crew.name, crewPath(crew.name)), availability(crew)),
    crew.paused ? element("p", { class: "text" }, crew.paused) : null,
    figures(crew), runTimes(crew.run_times));
}

export const availability = (crew) => state(crew.paused ? "paused" : "ok", "crews");

export function figures({ name, runs, slots, budget, request_rate: rate, polls_overdue: overdue }) {
  const linked = (count, filter) => (count ? link(number(count), "runs", { crew: name, state: filter }) : "0");
  return pairs([
    slots && [t("crews.slots"), [t("crews.used_of", { used: number(slots.used), limit: number(slots.limit) }), bar(slots.used, slots.limit)]],
    budget && [t("crews.budget"), [budgetLeft(budget), bar(budget.used, budget.runs)]],
    runs && [t("crews.waiting"), linked(runs.accepted, "accepted")],
    runs && runs.in_doubt > 0 && [t("nav.in-doubt"), linked(runs.in_doubt, "in_doubt")],
    runs && runs.waiting_for_human > 0 && [t("nav.questions"), linked(runs.waiting_for_human, "waiting_for_human")],
    rate && [t("crews.rate"), t("crews.rate_of", { now: number(rate.now), limit: number(rate.limit) })],
    overdue > 0 && [t("crews.overdue"), number(overdue)],
  ].filter(Boolean));
}

const budgetLeft = ({ runs, used, per }) =>
  t("crews.budget_left", { left: number(Math.max(runs - used, 0)), limit: number(runs), per: duration(per) });

export function runTimes(times) {
  if (!times) return null;
  const text = t("crews.learned", { median: duration(times.median), p90: duration(times.p90), count: number(times.count) });
  return [times.quantiles ? density(times.quantiles, times.median) : null, element("p", { class: "muted" }, text)];
}
