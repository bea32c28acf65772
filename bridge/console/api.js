// Calls to the API of this bridge, with the client's token. Errors are problems (RFC 9457) with a stable `code`.

const KEY = "kickoff-bridge-token";
let token = null;  // where the browser refuses session storage, the token lasts as long as the page

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `HTTP ${status}`);
    this.status = status;
    this.code = body.code || "unexpected";
    this.field = body.field || null;
  }
}

export function setToken(value) {
  token = value;
  try {
    if (value === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, value);
  } catch { /* kept in memory only */ }
}

export function authorization() {
  if (token === null) {
    try { token = sessionStorage.getItem(KEY); } catch { /* kept in memory only */ }
  }
  return token ? { Authorization: `Bearer ${token}` } : {};
}

// Return the parsed body. Throw a `Problem` for an error response or if the bridge is unreachable (status 0).
export async function request(method, path, { body, query = {}, headers = {}, signal, accept = [] } = {}) {
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  const sent = { ...authorization(), ...headers, ...(body !== undefined && { "Content-Type": "application/json" }) };
  let response;
  try {
    response = await fetch(path + (search && "?" + search), {
      method, headers: sent, signal, credentials: "omit", cache: "no-store",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { code: "unreachable" });
  }
  if (response.ok || accept.includes(response.status)) return response.json();
  throw new Problem(response.status, await response.json().catch(() => ({})));
}

export const get = (path, options) => request("GET", path, options);
export const post = (path, body = {}, options = {}) => request("POST", path, { ...options, body });
