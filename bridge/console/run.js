// One run: its state and why it waits, what can be done, what happened, and what it was given and returned.

import { runActions } from "./actions.js";
import { get } from "./api.js";
import { phases } from "./charts.js";
import { crewPath } from "./crews.js";
import { deliveryTable } from "./deliveries.js";
import { element, empty, heading, link, pairs } from "./dom.js";
import { FINAL, between, cut, folded, runLink, runPath, shortId, state, time } from "./format.js";
import { detail, named, t } from "./i18n.js";

export const load = ({ id, signal }) => get(`v1/${runPath(id)}`, { signal });

// The id of an event begins with that of its run.
export const concerns = (eventId, { id }) => eventId.startsWith(id);

export const isSettled = (run) => FINAL.includes(run.state) && run.deliveries.every((each) => each.state !== "pending");

export function render(run, context) {
  return [
    heading(element("h1", {}, t("run.run"), " ", element("code", { title: run.run_id }, shortId(run.run_id))), state(run.state),
      runActions(run, context)),
    run.question ? element("section", { class: "panel attention" }, element("h2", {}, t("questions.title")), question(run)) : waits(run),
    element("div", { class: "columns" },
      element("div", {}, happened(run), content(run)),
      element("section", { class: "panel" }, element("h2", {}, t("run.facts")), facts(run))),
    element("h2", {}, t("nav.deliveries")),
    run.deliveries.length ? deliveryTable(run.deliveries, context, { ofOneRun: true }) : empty(t("deliveries.none_of_run")),
  ];
}

// Return why the run failed or waits.
function waits({ waiting, error }) {
  if (error) return element("p", { class: "panel" }, element("code", { class: "error" }, error.code), " ", element("span", { class: "text" }, cut(error.message)));
  if (!waiting) return null;
  return element("p", { class: "panel attention" }, element("strong", {}, named("waiting", waiting.reason)), " · ",
    element("span", { class: "text" }, waiting.detail), " · ", t("since"), " ", time(waiting.since),
    waiting.until ? [" · ", t("until"), " ", time(waiting.until)] : null);
}

function facts(run) {
  return pairs([
    [t("run.id"), element("code", {}, run.run_id)],
    [t("run.crew"), link(run.crew, crewPath(run.crew))],
    [t("run.kickoff_id"), run.kickoff_id && element("code", {}, run.kickoff_id)],
    [t("run.idempotency_key"), run.idempotency_key],
    [t("run.retry_of"), run.retry_of && runLink(run.retry_of)],
    [t("run.accepted"), time(run.accepted_at)],
    [t("run.started"), time(run.started_at)],
    [t("run.finished"), time(run.finished_at)],
    [t("run.polls"), String(run.polls)],
    [t("run.trace_id"), run.trace_id && element("code", {}, run.trace_id)],
  ]);
}

// Return the open question of a run that waits for a human.
export function question(run) {
  const { message, output, asked_at: asked, problem } = run.question ?? {};
  return [
    message ? element("p", { class: "text" }, cut(message)) : null,
    asked ? element("p", { class: "muted" }, t("questions.asked"), " ", time(asked),
      run.waiting?.until ? [" · ", t("questions.deadline"), " ", time(run.waiting.until)] : null) : null,
    problem ? element("p", { class: "error text" }, problem) : null,
    folded(t("questions.output"), output, { open: true }),
  ];
}

function happened(run) {
  const entries = run.history ?? timesOf(run);
  return element("section", { class: "panel" }, element("h2", {}, t("run.history")), phases(run),
    element("ol", { class: "timeline" }, entries.map(({ at, event, ...rest }) => element("li", { class: rest.state ?? event },
      element("span", { class: "after" }, at === run.accepted_at ? time(at) : `+ ${between(run.accepted_at, at)}`),
      element("div", {}, element("strong", { title: at }, named("history", event)), " ", element("span", { class: "text muted" }, described(rest)))))));
}

// The history of a bridge that keeps none: the times of the run itself.
function timesOf(run) {
  const known = [["accepted", run.accepted_at], ["started", run.started_at], ["ended", run.finished_at]];
  return known.filter(([, at]) => at).map(([event, at]) => ({ at, event }));
}

function described({ by, state: ended, error, reason, ...rest }) {
  const others = Object.entries(rest).map(([name, value]) => detail(name, typeof value === "string" ? value : JSON.stringify(value)));
  return [ended && named("state", ended), error, reason, by && t("by", { name: by }), ...others].filter(Boolean).join(" · ");
}

function content(run) {
  const parts = [
    folded(t("run.result"), run.result, { open: true }), folded(t("run.result_json"), run.result_json, { open: run.result === null }),
    ["inputs", "meta", "progress", "tasks", "usage"].map((name) => folded(t(`run.${name}`), run[name])),
  ].flat().filter(Boolean);
  return parts.length ? element("section", { class: "panel" }, element("h2", {}, t("run.content")), parts) : null;
}
