// One crew: its settings without secrets, its inputs, a form that sends a test kickoff, and recent failures.

import { button } from "./actions.js";
import { get, post } from "./api.js";
import { availability, crewPath, figures, runTimes } from "./crews.js";
import { element, empty, heading, link, pairs } from "./dom.js";
import { bytes, duration, explain, runPath } from "./format.js";
import { t } from "./i18n.js";
import { runTable } from "./runs.js";

export async function load({ id, signal }) {
  const path = `v1/${crewPath(id)}`;
  const [crew, { inputs, required, problem }] = await Promise.all([
    get(path, { signal }), get(`${path}/inputs`, { signal }).catch((error) => ({ problem: error })),
  ]);
  return { crew, inputs, required, problem };
}

export function render({ crew, inputs, required, problem }, context) {
  return [
    heading(element("h1", {}, crew.name), availability(crew),
      element("div", { class: "actions" }, link(t("crews.runs"), "runs", { crew: crew.name }))),
    crew.paused ? element("p", { class: "panel attention text" }, crew.paused) : null,
    element("div", { class: "columns" },
      element("div", {},
        element("section", { class: "panel" }, element("h2", {}, t("crews.now")), figures(crew), runTimes(crew.run_times)),
        element("section", { class: "panel" }, element("h2", {}, t("crews.inputs")),
          problem ? explain(problem) : inputList(inputs, required), testKickoff(crew, inputs ?? [], required ?? [], context))),
      element("section", { class: "panel" }, element("h2", {}, t("crews.settings")),
        pairs(Object.entries(crew.settings).flatMap(setting)))),
    element("h2", {}, t("crews.failures")),
    crew.recent_failures.length ? runTable(t("crews.failures"), crew.recent_failures) : empty(t("crews.no_failures")),
  ];
}

const SECONDS = /(^|\.)(deadline|start_by|in_doubt_after|per|min_interval|max_interval)$/;

// Return the names and values of a setting, or of the settings in it.
function setting([name, value]) {
  if (value === null) return [];
  if (typeof value === "object" && !Array.isArray(value)) return Object.entries(value).flatMap(([part, each]) => setting([`${name}.${part}`, each]));
  if (SECONDS.test(name)) return [[name, duration(value)]];
  return [[name, name === "max_response" ? bytes(value) : String(value)]];
}

function inputList(inputs, required) {
  if (!inputs.length) return element("p", { class: "muted" }, t("crews.no_inputs"));
  return pairs(inputs.map((name) => [element("code", {}, name), t(required.includes(name) ? "crews.required" : "crews.optional")]));
}

function testKickoff(crew, inputs, required, { may }) {
  if (!may("submit")) return null;
  const fields = inputs.map((name) => ({ name: `input-${name}`, text: name, optional: !required.includes(name) }));
  const send = (values) => post("v1/runs", {
    crew: crew.name, meta: { test: true },
    inputs: Object.fromEntries(Object.entries(values).map(([name, value]) => [name.slice("input-".length), value])),
  });
  const open = ({ run_id: id }) => { location.hash = `#/${runPath(id)}`; };
  return element("div", { class: "actions" }, button("test", { kind: "main", fields, send, done: open, reasonless: true }));
}
