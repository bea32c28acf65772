// The frame of the console: token, navigation, the view that the address names, and its live updates.

import { Problem, authorization, get, setToken } from "./api.js";
import { address, element, empty, labelled, update } from "./dom.js";
import { explain, refreshTimes } from "./format.js";
import { language, named, t } from "./i18n.js";
import { follow } from "./stream.js";
import * as crew from "./crew.js";
import * as crews from "./crews.js";
import * as deadLetters from "./dead_letters.js";
import * as deliveries from "./deliveries.js";
import * as delivery from "./delivery.js";
import * as inDoubt from "./in_doubt.js";
import * as overview from "./overview.js";
import * as questions from "./questions.js";
import * as run from "./run.js";
import * as runs from "./runs.js";

const LISTS = new Map(Object.entries({ overview, runs, questions, "in-doubt": inDoubt, deliveries, "dead-letters": deadLetters, crews }));
const ITEMS = new Map(Object.entries({ runs: run, deliveries: delivery, crews: crew }));
const MIN_PAUSE = 1000, REFRESH = 5000;  // milliseconds: between two updates; without events

const main = document.getElementById("main");
let client = null;
let session = new AbortController();
let leave = new AbortController();
let onEvent = () => {};
let isSearching = false;

// A view exports `load(context)`, which reads the API, and `render(data, context)`, which returns nodes. Optional:
// `keys(event, context)` handles a key, `concerns(eventId, context)` says whether an event changes what is shown, and
// `isSettled(data)` whether only an event can. The context has `id`, `query`, `may(role)`, `signal`, and `reload()`.
async function show() {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const [name = "overview", id] = path.split("/").filter(Boolean).map(decoded);
  const view = (id === undefined ? LISTS : ITEMS).get(name);
  navigation(name);
  document.title = [id ?? t(`nav.${LISTS.has(name) ? name : "overview"}`), "Kickoff Bridge"].join(" · ");
  if (!view) return main.replaceChildren(empty(t("no_such_page")));
  const query = Object.fromEntries(new URLSearchParams(search));
  const content = element("div", {}, element("p", { class: "empty late" }, t("loading")));
  const failure = element("div", { role: "alert" });
  main.replaceChildren(failure, content);
  main.focus({ preventScroll: true });
  scrollTo(0, 0);

  let timer = null, loading = false, again = false;
  const refresh = async () => {
    if (loading) return void (again = true);
    [loading, again] = [true, false];
    clearTimeout(timer);
    let isSettled = false;
    try {
      const data = await view.load(context);
      if (signal.aborted) return;
      isSettled = view.isSettled?.(data) ?? false;
      failure.replaceChildren();
      update(content, view.render(data, context));
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status === 401) return askForToken(true);
      failure.replaceChildren(explain(error));
    } finally {
      loading = false;
    }
    if (again || !isSettled) timer = setTimeout(() => document.hidden || refresh(), again ? MIN_PAUSE : REFRESH);
  };
  const context = { id, query, signal, may, reload: refresh };
  const scheduled = atMostOncePer(MIN_PAUSE, () => document.hidden || signal.aborted || refresh());
  onEvent = (eventId) => { if (eventId === null || (view.concerns?.(eventId, context) ?? true)) scheduled(); };
  document.onkeydown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, textarea, select, dialog")) return;
    if (event.key === "/") goToSearch(event);
    else view.keys?.(event, context);
  };
  document.addEventListener("visibilitychange", () => document.hidden || refresh(), { signal });
  const clock = setInterval(refreshTimes, REFRESH);
  signal.addEventListener("abort", () => { clearTimeout(timer); clearInterval(clock); });
  await refresh();
  if (isSearching && !signal.aborted) {
    isSearching = false;
    runs.focusSearch();
  }
}

// `/` goes to the search, from every view.
function goToSearch(event) {
  event.preventDefault();
  if (document.querySelector("form.search input[name=terms]")) return runs.focusSearch();
  isSearching = true;
  location.hash = address("runs");
}

// Return a part of the address, or nothing for one that is not encoded properly.
function decoded(part) {
  try { return decodeURIComponent(part); } catch { return ""; }
}

// `operate` includes the other roles.
function may(...roles) {
  return client.roles.includes("operate") || roles.some((role) => client.roles.includes(role));
}

function navigation(current) {
  const hidden = { deliveries: !may("operate"), "dead-letters": !may("operate") || client.crews !== null };  // which belong to no crew
  const names = [...LISTS.keys()].filter((name) => !hidden[name]);
  const nav = document.getElementById("nav");
  update(nav, names.map((name) =>
    element("a", { href: address(name), "aria-current": name === current && "page" }, t(`nav.${name}`))));
  const shown = nav.querySelector("[aria-current]");
  if (shown) nav.scrollLeft = shown.offsetLeft - (nav.clientWidth - shown.offsetWidth) / 2;  // where it does not fit
}

function askForToken(refused) {
  session.abort();
  leave.abort();
  const field = element("input", { type: "password", autocomplete: "off", required: true, name: "token" });
  const submit = (event) => {
    event.preventDefault();
    setToken(field.value.trim());
    start();
  };
  main.replaceChildren(element("form", { class: "login", submit },
    element("h1", {}, t("login.title")), element("p", {}, t("login.text")),
    element("div", { role: "alert" }, refused ? t("login.refused") : null),
    labelled(t("login.token"), field), element("button", { class: "main" }, t("login.submit"))));
  field.focus();
}

function showClient() {
  const leaveButton = element("button", { class: "plain", click: () => { setToken(null); location.reload(); } }, t("logout"));
  const roles = client.roles.map((role) => named("role", role)).join(", ");
  document.getElementById("client").replaceChildren(...(client.name === "anonymous" ? [t("open_api")]
    : [element("span", { title: roles }, client.name), " ", leaveButton]));
}

async function start() {
  try {
    client = await get("v1/client");
  } catch (error) {
    if (error.status === 401) return askForToken("Authorization" in authorization());
    return main.replaceChildren(element("div", { role: "alert" }, explain(error)), element("button", { click: start }, t("try_again")));
  }
  showClient();
  session.abort();
  session = new AbortController();
  follow((eventId) => onEvent(eventId), showLive, session.signal);
  addEventListener("hashchange", show, { signal: session.signal });
  await show();
}

// Return a function that calls `action` at most once per `pause`, and once after the last call.
function atMostOncePer(pause, action) {
  let timer = null;
  return () => { timer ??= setTimeout(() => { timer = null; action(); }, pause); };
}

function showLive(value) {
  const shown = document.getElementById("live");
  shown.textContent = t(`stream.${value}`);
  shown.className = value;
}

document.documentElement.lang = language;
document.getElementById("nav").ariaLabel = t("nav");
document.getElementById("skip").textContent = t("skip");
document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
start();
