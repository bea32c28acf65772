// One delivery: its event's destination, and each attempt with what the receiver responded.

import { deliveryActions } from "./actions.js";
import { get } from "./api.js";
import { element, empty, heading, pairs, table } from "./dom.js";
import { duration, folded, runLink, state, time } from "./format.js";
import { t } from "./i18n.js";

export const load = ({ id, signal }) => get(`v1/deliveries/${encodeURIComponent(id)}`, { signal });

export function render(delivery, context) {
  const actions = deliveryActions(delivery, context);
  return [
    heading(element("h1", {}, t("delivery.one"), " ", element("code", {}, delivery.type)), state(delivery.state, "delivery"),
      actions ? element("div", { class: "actions" }, actions) : null),
    element("section", { class: "panel" }, pairs([
      [t("delivery.run"), delivery.run_id && runLink(delivery.run_id)],
      [t("delivery.destination"), delivery.destination],
      [t("delivery.event_id"), element("code", {}, delivery.event_id)],
      [t("delivery.attempts"), String(delivery.attempts)],
      [t("delivery.next"), time(delivery.next_attempt_at)],
      [t("delivery.delivered_at"), time(delivery.delivered_at)],
      [t("delivery.last_error"), delivery.last_error && element("span", { class: "text" }, delivery.last_error.slice(0, 2000))],
    ])),
    element("h2", {}, t("delivery.history")),
    delivery.history.length ? attempts(delivery.history) : empty(t("delivery.no_attempts")),
  ];
}

function attempts(history) {
  const names = ["number", "at", "took", "code", "error", "response"].map((name) => t(`attempt.${name}`));
  return table(t("delivery.history"), names, history.toReversed().map((each) => [`${each.number}-${each.at}`, [
    String(each.number), time(each.at), duration(each.ms / 1000), each.code && String(each.code),
    each.error ? element("span", { class: "error" }, each.error.slice(0, 300)) : t("attempt.confirmed"), folded(t("attempt.response"), each.response),
  ]]));
}
