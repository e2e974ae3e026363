// The start page: asks /v1/chat/completions as any OpenAI client does, streaming.
"use strict";

const conversation = document.getElementById("conversation");
const form = document.getElementById("ask");
const input = document.getElementById("question");
const collection = document.getElementById("collection");
const messages = [];

function add(parent, tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text; // Text of documents is data, never HTML.
  parent.append(element);
  return element;
}

async function listCollections() {
  const { data } = await (await withKey("/v1/models")).json();
  for (const model of data) collection.add(new Option(model.id, model.id));
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (waiting + value).split("\n\n");
    waiting = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

function showSources(turn, citations) {
  if (!citations.length) return;
  const list = add(turn, "ul", "sources", "");
  for (const citation of citations) {
    const item = add(list, "li", "", `[${citation.number}] `);
    const link = add(item, "a", "", [...new Set([citation.title, ...citation.heading_path])].join(" › "));
    link.href = citation.url;
    link.target = "_blank";
    link.rel = "opener"; // Our own page: the new tab inherits this one's key.
    if (citation.page) item.append(`, ${citation.page}`);
    for (const uri of citation.also_at) add(item, "div", "place", uri);
  }
}

async function answer(turn) {
  const response = await withKey("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ model: collection.value || "kb", messages, stream: true }),
  });
  if (!response.ok) throw new Error((await response.json()).error.message);
  let text = "";
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    const delta = event.choices[0]?.delta ?? {};
    text += delta.content ?? "";
    turn.textContent = text;
    if (event.kb?.refusal) turn.classList.add("refused");
    if (event.citations) showSources(turn, event.citations);
  }
  messages.push({ role: "assistant", content: text });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = input.value.trim();
  if (!question) return;
  input.value = "";
  const button = form.querySelector("button");
  button.disabled = true;
  messages.push({ role: "user", content: question });
  add(conversation, "div", "turn question", question);
  const turn = add(conversation, "div", "turn answer", "…");
  try {
    await answer(turn);
  } catch (error) {
    messages.pop();
    turn.classList.add("failed");
    turn.textContent = error.message;
  } finally {
    button.disabled = false;
    input.focus();
    turn.scrollIntoView({ block: "end" });
  }
});

listCollections();
