// Dead letters: messages that could not be accepted, why, and sending them back. Not updated by itself: to list them,
// the bridge takes them from the queue and puts them back.

import { button } from "./actions.js";
import { get, post } from "./api.js";
import { element, empty, heading, pairs } from "./dom.js";
import { bytes, folded, number, time } from "./format.js";
import { t } from "./i18n.js";

// Return no messages without RabbitMQ, which is not an error.
export async function load({ signal }) {
  const { parts } = await get("readyz", { signal, accept: [503] });
  return "broker_out" in parts ? get("v1/dead-letters", { signal }) : { messages: null };
}

export const concerns = () => false;

export const isSettled = () => true;

export function render({ messages, total }, context) {
  if (!messages) return [heading(element("h1", {}, t("nav.dead-letters"))), empty(t("dead_letters.no_broker"))];
  return [
    heading(element("h1", {}, t("nav.dead-letters")),
      element("div", { class: "actions" }, element("button", { click: context.reload }, t("dead_letters.reload")))),
    element("p", { class: "muted" }, t("dead_letters.text"), " ", total > messages.length ? t("dead_letters.first", { shown: number(messages.length), all: number(total) }) : null),
    messages.length ? null : empty(t("dead_letters.empty")),
    element("div", { class: "cards wide", "data-list": true }, messages.map((each, index) => message(each, `${index}-${each.id}`, context))),
  ];
}

function message(one, key, { may, reload }) {
  const send = (name) => (values) => post(`v1/dead-letters/${encodeURIComponent(one.id)}/${name}`, values);
  return element("article", { class: "card", "data-key": key },
    element("p", { class: "title" }, element("strong", {}, one.reason ?? t("dead_letters.no_reason")), time(one.time)),
    one.detail ? element("p", { class: "text" }, one.detail) : null,
    pairs([
      [t("dead_letters.id"), element("code", {}, one.id)],
      [t("dead_letters.routing_key"), one.routing_key],
      [t("dead_letters.type"), one.content_type],
      [t("dead_letters.size"), bytes(one.size)],
    ]),
    folded(t("dead_letters.body"), one.body), folded("x-death", one.x_death),
    may("operate") ? element("div", { class: "actions" },
      button("replay", { done: reload, send: send("replay") }), button("drop", { kind: "final", done: reload, send: send("drop") })) : null);
}
