// Deliveries: what is pending or dead, why, and sending it again; the receivers that fail or are paused.

import { button, deliveryActions } from "./actions.js";
import { get, post } from "./api.js";
import { choices, address, element, empty, heading, link, table } from "./dom.js";
import { runLink, state, time } from "./format.js";
import { named, t } from "./i18n.js";

const STATES = ["dead", "pending", "delivered"];

const shown = (query) => ({ state: "dead", ...query });

export async function load({ query, signal }) {
  const [page, { receivers }] = await Promise.all([get("v1/deliveries", { signal, query: shown(query) }), get("v1/receivers", { signal })]);
  return { ...page, receivers };
}

export function render({ deliveries, next_cursor: next, receivers }, context) {
  const query = shown(context.query);
  return [
    heading(element("h1", {}, t("nav.deliveries")), redeliverAll(query, context)),
    receivers.length ? [element("h2", {}, t("receivers.title")), receiverTable(receivers, context), element("h2", {}, t("nav.deliveries"))] : null,
    element("div", { class: "actions" },
      choices(t("delivery.state"), query.state, STATES.map((each) => [each, named("delivery", each)]), (each) => address("deliveries", { ...context.query, cursor: "", state: each }))),
    deliveries.length ? deliveryTable(deliveries, context) : empty(t(`deliveries.no_${query.state}`)),
    element("p", { class: "pages" }, element("span", {}, query.cursor ? link(t("runs.newest"), "deliveries", { ...query, cursor: "" }) : null),
      next ? link(t("runs.older"), "deliveries", { ...query, cursor: next }) : null),
  ];
}

export function deliveryTable(deliveries, context, { ofOneRun = false } = {}) {
  const names = ["event", !ofOneRun && "run", "destination", "state", "attempts", "next_attempt", "last_error", "action"];
  return table(t("deliveries.caption"), names.filter(Boolean).map((name) => t(`delivery.${name}`)), deliveries.map((each) => [each.id, [
    context.may("operate") ? link(each.type, `deliveries/${encodeURIComponent(each.id)}`) : each.type,
    !ofOneRun && (each.run_id ? runLink(each.run_id) : ""),
    each.destination, state(each.state, "delivery"), String(each.attempts),
    time(each.next_attempt_at ?? each.delivered_at), each.last_error?.slice(0, 300), deliveryActions(each, context),
  ].filter((cell) => cell !== false)]));
}

function receiverTable(receivers, { may, reload }) {
  const names = ["receiver", "state", "since", "action"].map((name) => t(`receivers.${name}`));
  return table(t("receivers.title"), names, receivers.map(({ receiver, failing_since: since, paused_at: paused }) => [receiver, [
    receiver, state(paused ? "paused" : "failing", "receivers"), time(paused ?? since),
    paused && may("operate") ? button("resume_receiver", { done: reload, send: (values) => post("v1/receivers/resume", { receiver, ...values }) }) : null,
  ]]));
}

// The API redelivers dead deliveries, unless a state is given.
function redeliverAll({ state: chosen, crew }, { may, reload }) {
  if (!may("operate") || chosen !== "dead") return null;
  const filter = { state: chosen, ...(crew && { crew }) };
  const send = (values) => post("v1/deliveries/redeliver", { filter, ...values });
  const count = async () => (await send({ dry_run: true })).matched;
  return element("div", { class: "actions" }, button("redeliver_all", { done: reload, send, count }));
}
