// Runs: the newest first, with the API's filters in the address, so that a search can be shared as a link.

import { bulkActions } from "./actions.js";
import { get } from "./api.js";
import { address, element, empty, heading, labelled, link, table } from "./dom.js";
import { STATES, between, runLink, state, time, waiting } from "./format.js";
import { named, t } from "./i18n.js";

const RUN_ID = /^[0-9a-f]{8}(-[0-9a-f]{0,12}){0,4}$/;  // or the beginning of one
const TERM = /^([a-z_]+(?:\.\S+?)?)=(.*)$/;

export async function load({ query, signal }) {
  const [page, { crews }] = await Promise.all([get("v1/runs", { query, signal }), get("v1/crews", { signal })]);
  return { ...page, crews };
}

export function render({ runs, next_cursor: next, crews }, context) {
  const { cursor, ...filter } = context.query;
  const isFiltered = Object.keys(filter).some((name) => name !== "limit");
  return [
    heading(element("h1", {}, t("nav.runs")), isFiltered && runs.length > 0 ? bulkActions(filter, context) : null),
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
    run.finished_at && between(run.started_at ?? run.accepted_at, run.finished_at),
    run.error ? element("span", { class: "error", title: run.error.message.slice(0, 500) }, run.error.code) : waiting(run),
  ]]));
}

// `/` goes to the search, `j` and `k` to the next and previous run; Enter opens the focused link, as everywhere.
export function keys(event) {
  const links = [...document.querySelectorAll("tbody td:first-child a")];
  const step = { j: 1, k: -1 }[event.key];
  if (event.key === "/") {
    event.preventDefault();
    document.querySelector("input[name=terms]").focus();
  } else if (step && links.length) {
    const at = links.indexOf(document.activeElement);
    links[at < 0 ? 0 : Math.min(Math.max(at + step, 0), links.length - 1)].focus();
  }
}

function search(filter, crews) {
  const { state: chosen = "", crew = "", ...others } = filter;
  const terms = element("input", { name: "terms", type: "search", placeholder: t("runs.search_example"), autocomplete: "off" });
  terms.value = Object.entries(others).map(([name, value]) => `${name}=${value}`).join(" ");
  const states = select("state", STATES.map((value) => [value, named("state", value)]), chosen);
  const names = select("crew", crews.map(({ name }) => [name, name]), crew);
  const go = () => {
    const text = terms.value.trim();
    if (RUN_ID.test(text)) location.hash = address(`runs/${text}`);
    else location.hash = address("runs", { ...parsed(text), state: states.value, crew: names.value });
  };
  states.addEventListener("change", go);
  names.addEventListener("change", go);
  return element("form", { class: "search", role: "search", submit: (event) => { event.preventDefault(); go(); } },
    labelled(t("run.state"), states), labelled(t("run.crew"), names),
    labelled(t("runs.search"), terms, "wide"),
    element("button", {}, t("runs.find")));
}

// Return the filters in a search: words of the form `name=value`; anything else is an idempotency key.
function parsed(text) {
  const words = text.split(/\s+/).filter(Boolean).map((word) => word.match(TERM));
  return words.every(Boolean) ? Object.fromEntries(words.map(([, name, value]) => [name, value])) : { idempotency_key: text };
}

function select(name, options, chosen) {
  return element("select", { name }, element("option", { value: "" }, t("all")),
    options.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
}
