// Commands on runs, deliveries, receivers, and dead letters: what each does and costs, a reason, and a confirmation.

import { post } from "./api.js";
import { element, labelled } from "./dom.js";
import { FINAL, explain, number, runPath } from "./format.js";
import { t } from "./i18n.js";

// Return the buttons for what the role and the state of the run permit; the API refuses everything else.
export function runActions(run, context) {
  const { may, reload } = context;
  const path = `v1/${runPath(run.run_id)}`;
  const actions = [];
  const add = (name, options) => actions.push(button(name, { done: reload, ...options }));
  if (run.state === "waiting_for_human" && may("submit")) {
    const { task_id: known, options = [] } = run.question ?? {};
    const fields = known ? [] : [{ name: "task_id", text: t("action.task_id"), optional: true }];
    const resume = (answer) => (values) => post(`${path}/resume`, { ...(known && { task_id: known }), ...answer, ...values });
    for (const option of options) add("answer", { label: option, fields, send: resume({ feedback: option }) });
    if (!options.length) add("approve", { kind: "main", fields, send: resume({ approve: true }) });
    add("answer", { fields: [{ name: "feedback", text: t("action.feedback"), long: true }, ...fields], send: resume({}) });
  }
  if (run.state === "in_doubt" && may("operate")) {
    const resolve = (action) => (values) => post(`${path}/resolve`, { action, ...values });
    const fields = [{ name: "kickoff_id", text: t("run.kickoff_id") }, { name: "force", text: t("action.force"), checked: true }];
    add("adopt", { fields, send: resolve("adopt") });
    add("resolve_retry", { kind: "final", send: resolve("retry") });
    add("abandon", { kind: "final", send: resolve("abandon") });
  }
  if (FINAL.includes(run.state) && may("submit")) {
    const key = crypto.randomUUID?.() ?? `${run.run_id}-${Date.now()}`;  // of this page: a second click starts nothing more
    const open = ({ run_id: id }) => { location.hash = `#/${runPath(id)}`; };
    add("retry", { kind: "final", send: (values) => post(`${path}/retry`, values, { headers: { "Idempotency-Key": key } }), done: open });
  }
  if (!FINAL.includes(run.state) && may("submit")) {
    add("cancel", { kind: "final", send: (values) => post(`${path}/cancel`, values) });
  }
  return actions.length ? element("div", { class: "actions" }, actions) : null;
}

// Return the buttons for all runs that match a filter.
export function bulkActions(filter, { may, reload }) {
  if (!may("submit")) return null;
  const bulk = (name, path, body = {}) => button(name, {
    kind: "final", done: reload,
    count: async () => (await post(`v1/runs/${path}`, { ...body, filter, dry_run: true })).matched,
    send: (values) => post(`v1/runs/${path}`, { ...body, filter, ...values }),
  });
  const state = filter.state ?? "";
  const doubtful = state === "in_doubt" && may("operate");
  return element("div", { class: "actions" },
    doubtful && [bulk("resolve_retry_all", "resolve", { action: "retry" }), bulk("abandon_all", "resolve", { action: "abandon" })],
    !FINAL.includes(state) && bulk("cancel_all", "cancel"),
    (state === "" || FINAL.includes(state)) && bulk("retry_all", "retry"));
}

export function deliveryActions(delivery, { may, reload }) {
  if (!may("operate")) return null;
  const send = (name) => (values) => post(`v1/deliveries/${encodeURIComponent(delivery.id)}/${name}`, values);
  if (delivery.state === "pending") return button("discard", { kind: "final", send: send("discard"), done: reload });
  return button("redeliver", { send: send("redeliver"), done: reload });
}

// Return a button that opens a dialog. `fields`: texts, required unless `optional`; `checked`: a box. `kind`: `main`,
// or `final` for what is paid or cannot be undone. `count(values)`: how many would be changed, asked before confirmation.
// `reasonless`: what takes no reason. `send(values)` sends the command; then `done(response)`.
export function button(name, { label, kind = "", ...options }) {
  const text = label ?? t(`action.${name}`);
  return element("button", { class: kind, click: () => confirm(name, text, { kind, ...options }) }, text);
}

function confirm(name, text, { fields = [], kind, count, send, done, reasonless }) {
  const inputs = fields.map(input);
  const reason = element("input", { name: "reason", maxlength: 500, autocomplete: "off" });
  const failure = element("div", { role: "alert" });
  const counted = count && element("p", { role: "status" }, t("action.counting"));
  const title = text.replace(/ ?…$/, "");  // which announces the dialog
  const confirmButton = element("button", { class: kind || "main", disabled: Boolean(count) }, title);
  const recount = async () => {
    const values = valuesOf(inputs);
    confirmButton.disabled = true;
    counted.replaceChildren(t("action.counting"));
    try {
      const found = await count(values);
      if (JSON.stringify(values) !== JSON.stringify(valuesOf(inputs))) return;  // changed meanwhile, and counted again
      failure.replaceChildren();
      counted.replaceChildren(element("strong", {}, t("action.counted", { count: number(found) })));
      confirmButton.disabled = found === 0;
    } catch (error) {
      counted.replaceChildren();
      failure.replaceChildren(explain(error));
    }
  };
  if (count) inputs.forEach((each) => each.addEventListener("change", recount));
  const submit = async (event) => {
    event.preventDefault();
    confirmButton.disabled = true;
    try {
      const response = await send(valuesOf([...inputs, reason]));
      dialog.close();
      done(response);
    } catch (error) {
      failure.replaceChildren(explain(error));
      confirmButton.disabled = false;
    }
  };
  const dialog = element("dialog", { "aria-labelledby": "dialog-title", close: () => dialog.remove() },
    element("form", { submit },
      element("h2", { id: "dialog-title" }, title),
      element("p", {}, t(`action.${name}.effect`)), counted,
      fields.map((field, index) => labelled(field.text, inputs[index])),
      reasonless ? null : labelled(t("action.reason"), reason), failure,
      element("div", { class: "actions" },
        element("button", { type: "button", click: () => dialog.close() }, t("action.back")), confirmButton)));
  document.body.append(dialog);
  dialog.showModal();
  if (count) recount();
}

function input({ name, long, checked, optional, type }) {
  if (checked) return element("input", { name, type: "checkbox" });
  return element(long ? "textarea" : "input", { name, type, required: !optional, rows: long && 5, autocomplete: "off" });
}

function valuesOf(inputs) {
  const given = inputs.filter((each) => (each.type === "checkbox" ? each.checked : each.value.trim()));
  return Object.fromEntries(given.map((each) => [each.name, each.type === "checkbox" ? true : each.value]));
}
