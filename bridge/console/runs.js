// Runs: the newest first, with the API's filters in the address, so that a search can be shared as a link.

import { bulkActions } from "./actions.js";
import { get } from "./api.js";
import { address, element, empty, heading, labelled, link, select, table } from "./dom.js";
import { STATES, between, runLink, runPath, state, time, waiting } from "./format.js";
import { named, t } from "./i18n.js";

const RUN_ID = /^[0-9a-f]{8}(-[0-9a-f]{0,12}){0,4}$/;  // or the beginning of one
const TERM = /^([a-z_]+(?:\.\S+?)?)=(.*)$/;

export async function load({ query, signal }) {
  const [page, { crews }] = await Promise.all([get("v1/runs", { query, signal }), get("v1/crews", { signal })]);
  return { ...page, crews };
}

export function render({ runs, next_cursor: next, crews }, context) {
  const { cursor, ...filter } = context.query;
  const { limit, ...matched } = filter;
  const isFiltered = Object.keys(matched).length > 0;
  return [
    heading(element("h1", {}, t("nav.runs")), isFiltered && runs.length > 0 ? bulkActions(matched, context) : null),
    search(filter, crews),
    runs.length ? runTable(t("runs.caption"), runs) : empty(t(isFiltered ? "runs.none_match" : "runs.empty")),
    element("p", { class: "pages" },
      element("span", {}, t("runs.keys")),
      element("span", {}, cursor ? link(t("runs.newest"), "runs", filter) : null, " ",
        next ? link(t("runs.older"), "runs", { ...filter, cursor: next }) : null)),
  ];
}

export function runTable(caption, runs) {
  const columns = ["run", "state", "crew", "accepted", "took", "waiting_or_error"].map((name) => t(`run.${name}`));
  return table(caption, columns, runs.map((run) => [run.run_id, [
    runLink(run.run_id), state(run.state), run.crew, time(run.accepted_at),
    run.finished_at && between(begin(run), run.finished_at),
    run.error ? element("span", { class: "error", title: run.error.message.slice(0, 500) }, run.error.code) : waiting(run),
  ]]));
}

// Return when a run began, as far as is known: if the first poll found it ended, only that it had been accepted before.
const begin = (run) => (run.started_at && run.started_at !== run.finished_at ? run.started_at : run.accepted_at);

// `j` and `k` go to the next and previous run; Enter opens the focused link, as everywhere.
export function keys(event) {
  const links = [...document.querySelectorAll("tbody td:first-child a")];
  const step = { j: 1, k: -1 }[event.key];
  if (step && links.length) {
    const at = links.indexOf(document.activeElement);
    links[at < 0 ? 0 : Math.min(Math.max(at + step, 0), links.length - 1)].focus();
  }
}

export const focusSearch = () => document.querySelector("input[name=terms]")?.focus();

function search(filter, crews) {
  const { state: chosen = "", crew = "", ...others } = filter;
  const terms = element("input", { name: "terms", type: "search", placeholder: t("runs.search_example"), autocomplete: "off" });
  terms.value = Object.entries(others).map(([name, value]) => `${name}=${value}`).join(" ");
  const states = select("state", t("all"), STATES.map((value) => [value, named("state", value)]), chosen);
  const names = select("crew", t("all"), crews.map(({ name }) => [name, name]), crew);
  const go = async () => {
    const text = terms.value.trim();
    const run = RUN_ID.test(text) ? await runWith(text) : null;
    location.hash = run ? address(runPath(run.run_id)) : address("runs", { ...parsed(text), state: states.value, crew: names.value });
  };
  states.addEventListener("change", go);
  names.addEventListener("change", go);
  return element("form", { class: "search", role: "search", submit: (event) => { event.preventDefault(); go(); } },
    labelled(t("run.state"), states), labelled(t("run.crew"), names),
    labelled(t("runs.search"), terms, "wide"),
    element("button", {}, t("runs.find")));
}

// Return the run whose id begins so, or that has this kickoff id; null without one, since keys may look the same.
async function runWith(id) {
  const isAmbiguous = (error) => error.code === "ambiguous_run_id";
  const found = await get(`v1/runs/${id}`).catch((error) => (isAmbiguous(error) ? { run_id: id } : null));  // whose page says so
  return found ?? (await get("v1/runs", { query: { kickoff_id: id, limit: "1" } }).catch(() => ({ runs: [] }))).runs[0];
}

// Return the filters in a search: words of the form `name=value`; anything else is an idempotency key.
function parsed(text) {
  const words = text.split(/\s+/).filter(Boolean).map((word) => word.match(TERM));
  return words.every(Boolean) ? Object.fromEntries(words.map(([, name, value]) => [name, value])) : { idempotency_key: text };
}
