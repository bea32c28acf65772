// Deliveries: what is pending or dead, why, and sending it again; the receivers that fail or are paused.

import { button, deliveryActions } from "./actions.js";
import { get, post } from "./api.js";
import { choices, address, element, empty, heading, labelled, link, select, table } from "./dom.js";
import { runLink, state, time } from "./format.js";
import { named, t } from "./i18n.js";

const STATES = ["dead", "pending", "delivered"];

const shown = (query) => ({ state: "dead", ...query });

export async function load({ query, signal }) {
  const [page, { receivers }, { crews }] = await Promise.all([
    get("v1/deliveries", { signal, query: shown(query) }), get("v1/receivers", { signal }), get("v1/crews", { signal }),
  ]);
  return { ...page, receivers, crews };
}

export function render({ deliveries, next_cursor: next, receivers, crews }, context) {
  const query = shown(context.query);
  return [
    heading(element("h1", {}, t("nav.deliveries")), redeliverMany(query, context)),
    receivers.length ? [element("h2", {}, t("receivers.title")), receiverTable(receivers, context), element("h2", {}, t("nav.deliveries"))] : null,
    element("div", { class: "filters" },
      choices(t("delivery.state"), query.state, STATES.map((each) => [each, named("delivery", each)]),
        (each) => address("deliveries", { ...context.query, cursor: "", state: each })),
      crewChoice(crews, query)),
    deliveries.length ? deliveryTable(deliveries, context) : empty(t(`deliveries.no_${query.state}`)),
    element("p", { class: "pages" }, element("span", {}, query.cursor ? link(t("runs.newest"), "deliveries", { ...query, cursor: "" }) : null),
      next ? link(t("runs.older"), "deliveries", { ...query, cursor: next }) : null),
  ];
}

// Return a table of deliveries, without columns that would be empty.
export function deliveryTable(deliveries, context, { ofOneRun = false } = {}) {
  const failed = deliveries.some((each) => each.last_error);
  const names = ["event", !ofOneRun && "run", "destination", "state", "attempts", "next_attempt", failed && "last_error", context.may("operate") && "action"];
  return table(t("deliveries.caption"), names.filter(Boolean).map((name) => t(`delivery.${name}`)), deliveries.map((each) => [each.id, [
    context.may("operate") ? link(each.type, `deliveries/${encodeURIComponent(each.id)}`) : each.type,
    !ofOneRun && (each.run_id ? runLink(each.run_id) : ""),
    each.destination, state(each.state, "delivery"), String(each.attempts),
    time(each.next_attempt_at ?? each.delivered_at), failed && (each.last_error?.slice(0, 300) ?? ""),
    context.may("operate") && deliveryActions(each, context),
  ].filter((cell) => cell !== false)]));
}

function crewChoice(crews, query) {
  const names = select("crew", t("all"), crews.map(({ name }) => [name, name]), query.crew);
  names.addEventListener("change", () => { location.hash = address("deliveries", { ...query, cursor: "", crew: names.value }); });
  return labelled(t("run.crew"), names);
}

function receiverTable(receivers, { may, reload }) {
  const resumable = may("operate") && receivers.some((each) => each.paused_at);
  const names = ["receiver", "state", "since", resumable && "action"].filter(Boolean).map((name) => t(`receivers.${name}`));
  return table(t("receivers.title"), names, receivers.map(({ receiver, failing_since: since, paused_at: paused }) => [receiver, [
    receiver, state(paused ? "paused" : "failing", "receivers"), time(paused ?? since),
    resumable && (paused ? button("resume_receiver", { done: reload, send: (values) => post("v1/receivers/resume", { receiver, ...values }) }) : ""),
  ].filter((cell) => cell !== false)]));
}

// Redeliver what the list shows, or the part of it that goes to a receiver or was created since a time. What has been
// delivered is sent again only since a time, because it may be everything.
function redeliverMany({ state: chosen, crew }, { may, reload }) {
  if (!may("operate") || chosen === "pending") return null;
  const fields = [
    { name: "receiver", text: t("action.receiver"), optional: true },
    { name: "since", text: t("action.since"), optional: chosen === "dead", type: "datetime-local" },
  ];
  const send = ({ receiver, since, ...values }) => post("v1/deliveries/redeliver", {
    filter: { state: chosen, ...(crew && { crew }), ...(receiver && { receiver }), ...(since && { since: new Date(since).toISOString() }) }, ...values,
  });
  const count = async (values) => (await send({ ...values, dry_run: true })).matched;
  return element("div", { class: "actions" }, button(`redeliver_${chosen}`, { fields, done: reload, send, count }));
}
