// Texts in the browser's language: one file each, with the same names.

import en from "./en.js";
import zh from "./zh.js";

const texts = navigator.language.toLowerCase().startsWith("zh") ? zh : en;
export const language = texts === zh ? "zh" : "en";

// Return the text of this name, with `{placeholders}` filled in. A name without a text is shown as it is.
export function t(name, values = {}) {
  return (texts[name] ?? en[name] ?? name).replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
}

// Return a member of a history entry; one that a newer bridge has is shown with its name.
export const detail = (name, value) => (`detail.${name}` in texts ? t(`detail.${name}`, { value }) : `${name} ${value}`);

// Return the name of a state, reason, or code; one that a newer bridge has is shown as it is.
export const named = (kind, value) => texts[`${kind}.${value}`] ?? value;
