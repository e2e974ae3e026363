// A cited passage, marked where it stands in its document.
import { byId, h } from "./dom.js";
import { t } from "./i18n.js";
import { asked } from "./key.js";

export async function openPassage(citation) {
  const dialog = byId("passage");
  const heading = h("h2", { id: "passage-title", tabindex: -1 }, citation.title);
  const close = h("button", { type: "button", onclick: () => dialog.close() }, t("close"));
  const link = h("a", { href: citation.url, target: "_blank", rel: "opener" }, t("openDocument")); // The new tab inherits the key.
  const text = h("div.text", { tabindex: 0, role: "region", "aria-labelledby": "passage-title" }, "…");
  const where = [citation.uri, ...citation.also_at].map((uri) => h("p.place", {}, uri));
  dialog.setAttribute("aria-labelledby", "passage-title");
  dialog.replaceChildren(h("header", {}, heading, close), ...where, text, h("p", {}, link));
  dialog.showModal();
  heading.focus();
  try {
    const { data } = await asked(`/v1/documents/${encodeURIComponent(citation.document_id)}/chunks`);
    text.replaceChildren(...data.map((chunk) => section(chunk, citation)));
    text.querySelector("mark, .cited")?.scrollIntoView({ block: "center" });
  } catch (error) {
    text.replaceChildren(h("p.problem", { role: "alert" }, error.message));
  }
}

function section(chunk, citation) {
  const isCited = chunk.id === citation.chunk_id;
  const heading = [...chunk.heading_path, chunk.page && t("page", { n: chunk.page })].filter(Boolean).join(" › ");
  const body = h("p", {}, ...(isCited ? marked(chunk.text, citation.quote) : [chunk.text]));
  return h(isCited ? "section.cited" : "section", {}, heading ? h("h3", {}, heading) : null, body);
}

function marked(text, quote) {
  const start = quote ? text.indexOf(quote) : -1;
  if (start < 0) return [text];
  return [text.slice(0, start), h("mark", {}, quote), text.slice(start + quote.length)];
}
