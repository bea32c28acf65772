// Runs in doubt: what is known of each, and the three ways to resolve it.

import { bulkActions, runActions } from "./actions.js";
import { get } from "./api.js";
import { crewPath } from "./crews.js";
import { element, empty, heading, link, pairs } from "./dom.js";
import { folded, runLink, runPath, time } from "./format.js";
import { t } from "./i18n.js";

const FILTER = { state: "in_doubt" };
const DETAILED = 20;  // of the listed runs; the others link to theirs
const details = new Map();  // what does not change during a doubt, by the run and the beginning of its doubt

const doubt = (run) => `${run.run_id} ${run.waiting?.since}`;

export async function load({ signal }) {
  const { runs } = await get("v1/runs", { signal, query: { ...FILTER, limit: 200 } });
  const doubts = new Set(runs.map(doubt));
  [...details.keys()].filter((key) => !doubts.has(key)).forEach((key) => details.delete(key));
  await Promise.all(runs.slice(0, DETAILED).filter((run) => !details.has(doubt(run))).map((run) => loadDetail(run, signal)));
  return { runs };
}

// A run that cannot be read, for instance because it has just been removed, is shown as it is listed.
async function loadDetail(run, signal) {
  const { inputs, history } = await get(`v1/${runPath(run.run_id)}`, { signal }).catch(() => ({}));
  const last = (event) => history?.findLast((entry) => entry.event === event);
  details.set(doubt(run), { inputs, posted: last("posted")?.at, reason: last("in_doubt")?.reason });
}

export function render({ runs }, context) {
  return [
    heading(element("h1", {}, t("nav.in-doubt")), runs.length > 1 ? bulkActions(FILTER, context) : null),
    element("p", { class: "muted" }, t("in_doubt.text")),
    runs.length ? null : empty(t("in_doubt.empty")),
    element("div", { class: "cards wide", "data-list": true }, runs.map((run) => card(run, details.get(doubt(run)) ?? {}, context))),
  ];
}

function card(run, { inputs, posted, reason }, context) {
  return element("article", { class: "card attention", "data-key": run.run_id },
    element("p", { class: "title" }, runLink(run.run_id), link(run.crew, crewPath(run.crew))),
    pairs([
      [t("in_doubt.why"), reason ?? run.waiting?.detail],
      [t("in_doubt.posted"), time(posted)],
      [t("in_doubt.since"), time(run.waiting?.since)],
      [t("in_doubt.until"), time(run.waiting?.until)],
      [t("run.kickoff_id"), run.kickoff_id],
      [t("run.idempotency_key"), run.idempotency_key],
      [t("run.meta"), Object.keys(run.meta).length ? element("code", {}, JSON.stringify(run.meta).slice(0, 500)) : null],
    ]),
    folded(t("run.inputs"), inputs),
    runActions(run, context));
}
