// The page: which view is shown, for whom, in which language and colours.
import { byId, h } from "./dom.js";
import { choose, language, languages, t, translate } from "./i18n.js";
import { asked } from "./key.js";
import { show, theme } from "./theme.js";
import { chatView } from "./chat.js";
import { documentsView } from "./documents.js";
import { adminView } from "./admin.js";

const VIEWS = { chat: chatView, documents: documentsView, admin: adminView };
const CHOSEN = "kb-collection";

function option(value, text, selected) {
  return h("option", { value, selected }, text);
}

function fillChoices(collections) {
  const chosen = sessionStorage.getItem(CHOSEN) ?? "default";
  byId("collection").replaceChildren(...collections.map((name) => option(name, name, name === chosen)));
  byId("language").replaceChildren(...Object.entries(languages).map(([name, text]) => option(name, text, name === language)));
  byId("theme").replaceChildren(...["system", "light", "dark"].map((name) => option(name, t(name), name === theme())));
}

async function collectionsOf() {
  const { data } = await asked("/v1/models");
  const names = data.map((model) => (model.id === "kb" ? "default" : model.id.replace(/^kb\//, "")));
  return names.length ? names : ["default"];
}

let leave = () => {};

async function go(reader) {
  const name = location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "chat";
  for (const link of byId("views").children) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  leave();
  const content = byId("content");
  content.replaceChildren();
  content.className = name;
  try {
    leave = (await VIEWS[name](content, reader, byId("collection").value)) ?? (() => {});
  } catch (error) {
    leave = () => {};
    content.append(h("p.problem", { role: "alert" }, error.message));
  }
}

async function start() {
  translate();
  const key = await asked("/v1/key");
  const may = (scope) => key.scopes.includes("admin") || key.scopes.includes(scope);
  const reader = { ...key, asks: may("query"), ingests: may("ingest"), administers: key.scopes.includes("admin") };
  fillChoices(reader.asks ? await collectionsOf() : reader.collections.length ? reader.collections : ["default"]);
  byId("views").querySelector('[href="#admin"]').hidden = !reader.administers;
  byId("collection").addEventListener("change", (event) => {
    sessionStorage.setItem(CHOSEN, event.target.value);
    go(reader);
  });
  byId("language").addEventListener("change", (event) => choose(event.target.value));
  byId("theme").addEventListener("change", (event) => show(event.target.value));
  addEventListener("hashchange", () => location.hash !== "#content" && go(reader));
  await go(reader);
}

start().catch((error) => byId("content").replaceChildren(h("p.problem", { role: "alert" }, error.message)));
