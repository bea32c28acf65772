// Questions: every run that waits for a human, the oldest question first.

import { runActions } from "./actions.js";
import { get } from "./api.js";
import { crewPath } from "./crews.js";
import { element, empty, heading, link } from "./dom.js";
import { runLink } from "./format.js";
import { t } from "./i18n.js";
import { question } from "./run.js";

export async function load({ signal }) {
  const { runs } = await get("v1/runs", { signal, query: { state: "waiting_for_human", limit: 200 } });
  return runs.sort((one, other) => (askedAt(one) < askedAt(other) ? -1 : 1));
}

const askedAt = (run) => run.question?.asked_at ?? run.accepted_at;

export function render(runs, context) {
  return [
    heading(element("h1", {}, t("nav.questions"))),
    element("p", { class: "muted" }, t("questions.text")),
    runs.length ? null : empty(t("questions.empty")),
    element("div", { class: "cards wide", "data-list": true }, runs.map((run) => element("article", { class: "card attention", "data-key": run.run_id },
      element("p", { class: "title" }, runLink(run.run_id), link(run.crew, crewPath(run.crew))),
      question(run), runActions(run, context)))),
  ];
}
