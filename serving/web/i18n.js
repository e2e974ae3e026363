// The words of the page, in the language of the reader.
import en from "./en.js";
import zh from "./zh.js";

const WORDS = { en, zh };
const CHOSEN = "kb-language";

export const languages = { en: "English", zh: "中文" };
export const language = localStorage.getItem(CHOSEN) ?? (navigator.language.startsWith("zh") ? "zh" : "en");

export function choose(name) {
  localStorage.setItem(CHOSEN, name);
  location.reload();
}

/** The words for `key`; {name} in them is filled in. */
export function t(key, values = {}) {
  const words = WORDS[language][key] ?? key;
  return words.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Fills what index.html names: data-t is the text, data-label what a screen reader says. */
export function translate(root = document) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("[data-label]")) element.setAttribute("aria-label", t(element.dataset.label));
}
