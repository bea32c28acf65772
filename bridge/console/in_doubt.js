// Runs in doubt: what is known of each, and the three ways to resolve it.

import { bulkActions, runActions } from "./actions.js";
import { get } from "./api.js";
import { crewPath } from "./crews.js";
import { element, empty, heading, link, pairs } from "./dom.js";
import { runLink, time } from "./format.js";
import { t } from "./i18n.js";

const FILTER = { state: "in_doubt" };

export const load = ({ signal }) => get("v1/runs", { signal, query: { ...FILTER, limit: 200 } });

export function render({ runs }, context) {
  return [
    heading(element("h1", {}, t("nav.in-doubt")), runs.length > 1 ? bulkActions(FILTER, context) : null),
    element("p", { class: "muted" }, t("in_doubt.text")),
    runs.length ? null : empty(t("in_doubt.empty")),
    element("div", { "data-list": true }, runs.map((run) => element("article", { class: "card attention", "data-key": run.run_id },
      element("p", { class: "title" }, runLink(run.run_id), link(run.crew, crewPath(run.crew))),
      pairs([
        [t("in_doubt.why"), run.waiting?.detail],
        [t("in_doubt.since"), time(run.waiting?.since)],
        [t("in_doubt.until"), time(run.waiting?.until)],
        [t("run.accepted"), time(run.accepted_at)],
        [t("run.kickoff_id"), run.kickoff_id],
        [t("run.idempotency_key"), run.idempotency_key],
        [t("run.meta"), Object.keys(run.meta).length ? element("code", {}, JSON.stringify(run.meta).slice(0, 500)) : null],
      ]),
      runActions(run, context)))),
  ];
}
