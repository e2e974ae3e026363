// Asks /v1/chat/completions as any OpenAI client does, streaming.
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { answered, events, sent } from "./key.js";
import { conversations, forgetAll, keep } from "./history.js";
import { openPassage } from "./passage.js";

const RUNGS = ["fallback", "extractive", "passages"];

export function chatView(content, reader, collection) {
  let conversation = begun(collection);
  let asking = null;
  const turns = h("div.turns", { role: "log", "aria-live": "polite" });
  const input = h("textarea", { rows: 1, name: "question", "aria-label": t("question"), placeholder: t("question") });
  const ask = h("button.primary", {}, t("ask"));
  const stop = h("button", { type: "button", hidden: true, onclick: () => asking?.abort() }, t("stop"));
  const form = h("form.ask", { onsubmit: submitted }, input, ask, stop);
  const list = h("ul");
  const past = h("details.history", {}, h("summary", {}, t("history")), list,
    h("button", { type: "button", onclick: () => (forgetAll(), showPast()) }, t("forget")));
  const fresh = h("button", { type: "button", onclick: () => open(begun(collection)) }, t("newChat"));
  content.append(h("div.bar", {}, fresh, past), turns, form);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  open(conversation);
  return () => asking?.abort();

  function open(chosen) {
    asking?.abort();
    conversation = chosen;
    turns.replaceChildren();
    if (!chosen.turns.length) turns.append(h("p.hint", {}, t("hint")));
    for (const turn of chosen.turns) {
      showQuestion(turns, turn.question);
      finish(showAnswer(turns), turn, collection);
    }
    showPast();
    input.focus();
  }

  function showPast() {
    const kept = conversations().filter((each) => each.collection === collection);
    const entry = (each) => h("li", {}, h("button.link", { type: "button", onclick: () => open(each) }, each.turns[0].question));
    list.replaceChildren(...(kept.length ? kept.map(entry) : [h("li", {}, t("noHistory"))]));
  }

  async function submitted(event) {
    event.preventDefault();
    const question = input.value.trim();
    if (!question || asking) return;
    input.value = "";
    if (!conversation.turns.length) turns.replaceChildren();
    asking = new AbortController();
    ask.hidden = true;
    stop.hidden = false;
    showQuestion(turns, question);
    const shown = showAnswer(turns);
    const turn = { question, text: "", citations: [], kb: null, id: null };
    try {
      await stream(turn, shown);
      conversation.turns.push(turn);
      keep(conversation);
      showPast();
    } catch (error) {
      const stopped = error.name === "AbortError";
      mark(shown, "failed", t(stopped ? "interrupted" : "failed"), stopped ? "" : error.message);
    } finally {
      asking = null;
      ask.hidden = false;
      stop.hidden = true;
      shown.removeAttribute("aria-busy");
      input.focus();
    }
  }

  async function stream(turn, shown) {
    const said = conversation.turns.flatMap((each) => [
      { role: "user", content: each.question }, { role: "assistant", content: each.text }]);
    const response = await answered("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      signal: asking.signal,
      body: JSON.stringify({
        model: collection === "default" ? "kb" : `kb/${collection}`,
        messages: [...said, { role: "user", content: turn.question }],
        stream: true,
      }),
    });
    const text = shown.querySelector(".text");
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      turn.id = event.id;
      turn.text += event.choices[0]?.delta?.content ?? "";
      text.textContent = turn.text;
      shown.scrollIntoView({ block: "end" });
      if (event.kb) Object.assign(turn, { kb: event.kb, citations: event.citations });
    }
    finish(shown, turn, collection);
  }
}

function begun(collection) {
  return { id: String(Date.now()) + Math.random(), collection, turns: [] }; // randomUUID wants HTTPS.
}

function showQuestion(turns, question) {
  turns.append(h("article.turn.question", { "aria-label": t("you") }, h("p", {}, question)));
}

function showAnswer(turns) {
  const shown = h("article.turn.answer", { "aria-label": t("answer"), "aria-busy": "true" }, h("p.text", {}, "…"));
  turns.append(shown);
  return shown;
}

function mark(shown, kind, word, detail) {
  shown.classList.add(kind);
  shown.prepend(h("p.mark", {}, h("strong", {}, word), detail ? ` ${detail}` : ""));
}

function finish(shown, turn, collection) {
  shown.removeAttribute("aria-busy");
  shown.querySelector(".text").replaceChildren(...withChips(turn.text, turn.citations));
  const { kb } = turn;
  if (kb?.refusal) mark(shown, "refused", t("refusedMark"));
  else if (kb?.degraded_because && RUNGS.includes(kb.answered_by)) {
    mark(shown, "degraded", `${t("degradedMark")}:`, `${t(kb.answered_by)} (${kb.degraded_because})`);
  }
  if (kb?.support && !kb.support.supported) mark(shown, "degraded", t("unsupported"));
  if (turn.citations.length) shown.append(sourceList(turn.citations));
  shown.append(buttons(turn, collection));
}

/** The text with each [n] as a button that opens its passage. */
function withChips(text, citations) {
  const numbered = new Map(citations.map((citation) => [citation.number, citation]));
  return text.split(/(\[\d+\])/).map((piece) => {
    const citation = numbered.get(Number(/^\[(\d+)\]$/.exec(piece)?.[1]));
    return citation ? chip(citation) : document.createTextNode(piece);
  });
}

function chip(citation) {
  const label = t("source", { n: citation.number, title: citation.title });
  return h("button.chip", { type: "button", "aria-label": label, title: citation.title, onclick: () => openPassage(citation) }, String(citation.number));
}

function sourceList(citations) {
  const titled = (citation) => [...new Set([citation.title, ...citation.heading_path])].join(" › ");
  const entry = (citation) => h("li", {}, chip(citation),
    h("button.link", { type: "button", onclick: () => openPassage(citation) }, titled(citation)),
    citation.page ? `, ${t("page", { n: citation.page })}` : null);
  return h("section.sources", {}, h("h2", {}, t("sources")), h("ul", {}, ...citations.map(entry)));
}

function buttons(turn, collection) {
  const status = h("span.hint", { role: "status" });
  const rate = (rating) => h("button", {
    type: "button", "aria-pressed": "false",
    onclick: async (event) => {
      const cited = [...new Set(turn.citations.map((citation) => citation.document_id))];
      try {
        await sent("/v1/feedback", { answer_id: turn.id, collection, question: turn.question, answer: turn.text, rating, cited });
        for (const each of event.target.parentElement.querySelectorAll("[aria-pressed]")) each.setAttribute("aria-pressed", String(each === event.target));
        status.textContent = t("thanks");
      } catch (error) {
        status.textContent = error.message;
      }
    },
  }, t(rating === "up" ? "good" : "bad"));
  const copy = h("button", {
    type: "button",
    onclick: async () => {
      await navigator.clipboard?.writeText(turn.text);
      status.textContent = t("copied");
    },
  }, t("copy"));
  return h("div.rate", {}, turn.id ? rate("up") : null, turn.id ? rate("down") : null, navigator.clipboard ? copy : null,
    turn.kb?.cached ? h("span.hint", {}, t("cached")) : null, status);
}
