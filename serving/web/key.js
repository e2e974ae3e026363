// Asks the server with the key of this tab, and the person for a key where one is needed.
"use strict";

const KEY = "kb-key";

async function withKey(url, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
    const response = await fetch(url, { ...options, headers });
    if (response.status !== 401) return response;
    sessionStorage.setItem(KEY, await askForKey(Boolean(key)));
  }
}

let asking = null; // Several requests may find out at once; one question is enough.

function askForKey(wasWrong) {
  asking ??= new Promise((resolve) => {
    const dialog = document.createElement("dialog");
    const form = document.createElement("form");
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "password", required: true, autocomplete: "off" });
    label.textContent = wasWrong ? "This API key is not valid / 密钥无效 " : "API key / 密钥 ";
    label.append(input);
    form.append(label, Object.assign(document.createElement("button"), { textContent: "OK" }));
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
