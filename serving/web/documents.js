// Documents of a collection: upload with live progress, state and reasons, try again, delete.
import { action, h, table } from "./dom.js";
import { t } from "./i18n.js";
import { answered, asked, events, keyHeader } from "./key.js";

const AGAIN_MS = 1000;
const ENDED = ["done", "failed", "cancelled", "interrupted"];

export async function documentsView(content, reader, collection) {
  const list = h("div");
  const more = action(t("more"), () => page());
  let shown = [];
  let after = null;
  if (reader.ingests) content.append(uploads(collection, restart));
  content.append(list, more);
  await restart();

  async function restart() {
    shown = [];
    after = null;
    await page();
  }

  async function page() {
    const query = new URLSearchParams({ collection, limit: 50, ...(after && { after }) });
    const { data, has_more, last_id } = await asked(`/v1/documents?${query}`).catch((error) => {
      if (error.status !== 404) throw error;
      return { data: [] }; // The collection is made with the first upload.
    });
    shown.push(...data);
    after = last_id;
    more.hidden = !has_more;
    list.replaceChildren(shown.length ? rows() : h("p.hint", {}, t("noDocuments")));
  }

  function rows() {
    const columns = [t("name"), t("status"), t("reason"), t("chunks"), t("size"), ""];
    return table(t("documents"), columns, shown.map((each) => [
      each.status === "indexed" && reader.asks
        ? h("a", { href: `/documents/${each.id}`, target: "_blank", rel: "opener", title: each.uri }, each.title || each.uri)
        : h("span", { title: each.uri }, each.title || each.uri),
      h(`span.state.${each.status}`, {}, t(`state_${each.status}`)),
      each.error?.message ?? each.warnings.join(" "),
      String(each.chunks),
      `${Math.ceil(each.bytes / 1024)} KiB`,
      h("span.actions", {}, reader.administers && each.status !== "indexed" ? action(t("retry"), () => again(each)) : null,
        reader.ingests ? action(t("remove"), () => remove(each)) : null),
    ]));
  }

  async function again(each) {
    await asked(`/v1/admin/documents/${each.id}/retry`, { method: "POST" });
    await restart();
  }

  async function remove(each) {
    if (!confirm(t("really", { name: each.title || each.uri }))) return;
    await asked(`/v1/documents/${each.id}`, { method: "DELETE" });
    await restart();
  }
}

function uploads(collection, changed) {
  const progress = h("ul.uploads", { role: "status", "aria-label": t("uploads") });
  const input = h("input", { type: "file", multiple: true, id: "files" });
  const area = h("section.drop", {}, h("p", {}, `${t("drop")} `, h("label", { for: "files" }, t("choose")), input), progress);
  const send = async (files) => {
    await Promise.all([...files].map((file) => upload(file, collection, progress)));
    await changed();
  };
  input.addEventListener("change", () => send(input.files).then(() => (input.value = "")));
  area.addEventListener("dragover", (event) => {
    event.preventDefault();
    area.classList.add("over");
  });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    send(event.dataTransfer.files);
  });
  return area;
}

async function upload(file, collection, progress) {
  const bar = h("progress", { max: 100, value: 0, "aria-label": file.name });
  const state = h("span", {}, t("uploading", { n: 0 }));
  progress.append(h("li", {}, h("span", {}, file.name), bar, state));
  try {
    const { run_id } = await sendFile(file, collection, (percent) => {
      bar.value = percent;
      state.textContent = t("uploading", { n: percent });
    });
    bar.removeAttribute("value"); // How long reading takes nobody knows.
    const run = await followed(run_id, (each) => (state.textContent = t(each.status)));
    if (run.status !== "done") throw new Error(run.error ?? t("failed"));
    bar.value = 100;
    state.textContent = t("done");
  } catch (error) {
    bar.remove();
    state.className = "problem";
    state.textContent = error.message;
  }
}

function sendFile(file, collection, told) {
  const form = new FormData();
  form.append("collection", collection);
  form.append("file", file);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/v1/documents");
    if (keyHeader()) request.setRequestHeader("Authorization", keyHeader());
    request.upload.addEventListener("progress", (event) => told(Math.round((100 * event.loaded) / event.total)));
    request.addEventListener("error", () => reject(new Error(t("failed"))));
    request.addEventListener("load", () => {
      const body = JSON.parse(request.responseText);
      if (request.status === 202) resolve(body);
      else reject(new Error(body.error.message));
    });
    request.send(form);
  });
}

/** The run once it has ended; a stream that breaks off, as at the server's restart, is begun again. */
async function followed(id, told) {
  for (;;) {
    try {
      for await (const run of events(await answered(`/v1/runs/${id}/events`))) {
        told(run);
        if (ENDED.includes(run.status)) return run;
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // `fetch` says so that nobody answers.
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}
