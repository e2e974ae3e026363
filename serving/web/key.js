// Asks the server with the key of this tab, and the person for a key where one is needed.
import { t } from "./i18n.js";

const KEY = "kb-key";

export async function withKey(url, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
    const response = await fetch(url, { ...options, headers });
    if (response.status !== 401) return response;
    sessionStorage.setItem(KEY, await askForKey(Boolean(key)));
  }
}

/** The answer. Throws an Error with the server's sentence, and the status, where it is none. */
export async function answered(url, options) {
  const response = await withKey(url, options);
  if (response.ok) return response;
  const { error } = await response.json();
  throw Object.assign(new Error(error.message), { status: response.status });
}

/** The body of an answer. Throws as `answered` does. */
export async function asked(url, options) {
  return (await answered(url, options)).json();
}

export function sent(url, body, method = "POST") {
  const headers = { "Content-Type": "application/json" };
  return asked(url, { method, headers, body: JSON.stringify(body) });
}

/** For XMLHttpRequest, which alone tells how much of an upload is sent. */
export function keyHeader() {
  const key = sessionStorage.getItem(KEY);
  return key ? `Bearer ${key}` : null;
}

/** The data of server-sent events, as objects; "[DONE]" ends them. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (waiting + value).split(/\r?\n\r?\n/);
    waiting = parts.pop();
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim());
      if (data.length && data[0] !== "[DONE]") yield JSON.parse(data.join("\n"));
    }
  }
}

let asking = null; // Several requests may find out at once; one question is enough.

function askForKey(wasWrong) {
  asking ??= new Promise((resolve) => {
    const dialog = document.createElement("dialog");
    const form = document.createElement("form");
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "password", required: true, autocomplete: "off" });
    dialog.setAttribute("aria-label", t("key"));
    label.textContent = `${t(wasWrong ? "keyWrong" : "key")} `;
    label.append(input);
    form.append(label, Object.assign(document.createElement("button"), { textContent: "OK", className: "primary" }));
    form.addEventListener("submit", (event) => {
      event.preventDefault(); // The key must not end up in an address.
      dialog.remove();
      asking = null;
      resolve(input.value.trim());
    });
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.append(form);
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}
