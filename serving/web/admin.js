// For administrators: key figures, health, sources, runs and index generations.
import { action, h, table } from "./dom.js";
import { Chart, sums } from "./charts.js";
import { t } from "./i18n.js";
import { answered, asked, sent } from "./key.js";

const EVERY_MS = 5000;
const GOING_ON = ["queued", "running"];

export async function adminView(content, reader, collection) {
  const stop = reader.runs_server ? figures(content) : () => {};
  const parts = [health, sources, runs, generations].map((part) => [part, section(content, part, collection)]);
  await Promise.all(parts.map(([, show]) => show()));
  const moving = parts.filter(([part]) => part.moves).map(([, show]) => show);
  const timer = setInterval(() => moving.forEach((show) => show()), EVERY_MS);
  return () => {
    stop();
    clearInterval(timer);
  };
}

/** A part that can be shown anew by itself; what has not changed stays, and keeps the focus. */
function section(content, part, collection) {
  const body = h("div");
  let shown = null;
  const show = async () => {
    try {
      const found = await asked(part.url(new URLSearchParams({ collection, ...part.query })));
      if (JSON.stringify(found) === shown) return;
      shown = JSON.stringify(found);
      body.replaceChildren(...part.draw(found, show, collection));
    } catch (error) {
      shown = null;
      body.replaceChildren(h("p.problem", { role: "alert" }, error.message));
    }
  };
  content.append(h("section.card", {}, h("div.bar", {}, h("h2", {}, t(part.title)), action(t("refresh"), show)), body));
  return show;
}

const health = {
  title: "health",
  url: () => "/v1/admin/doctor",
  draw({ healthy, data }) {
    const rows = data.map((each) => [each.part, each.detail, each.problem ? h("span.problem", {}, each.problem) : ""]);
    const found = table(t("health"), [t("part"), t("detail"), t("problem")], rows);
    return healthy ? [h("p", {}, t("healthy")), found] : [found];
  },
};

const sources = {
  title: "sourcesOf",
  url: (query) => `/v1/admin/sources?${query}`,
  draw({ data }, show) {
    if (!data.length) return [h("p.hint", {}, t("none"))];
    const pause = (each) => async () => {
      await sent(`/v1/admin/sources/${each.id}`, { paused: !each.paused }, "PATCH");
      await show();
    };
    const rows = data.map((each) => [each.root, each.kind, t(each.paused ? "paused" : "active"), h("span.actions", {},
      action(t("sync"), () => sent(`/v1/admin/sources/${each.id}/sync`, {})),
      action(t(each.paused ? "resume" : "pause"), pause(each)))]);
    return [table(t("sourcesOf"), [t("place"), t("kind"), t("status"), ""], rows)];
  },
};

const runs = {
  title: "runs",
  moves: true,
  query: { limit: 20 },
  url: (query) => `/v1/admin/runs?${query}`,
  draw({ data }, show) {
    if (!data.length) return [h("p.hint", {}, t("none"))];
    const cancel = (each) => async () => {
      await sent(`/v1/admin/runs/${each.id}/cancel`, {});
      await show();
    };
    const rows = data.map((each) => [each.kind, h(`span.state.${each.status}`, {}, each.status), when(each.started_at ?? each.queued_at),
      Object.entries(each.counts).filter(([, n]) => n).map(([name, n]) => `${name} ${n}`).join(", "),
      each.error ? h("span.problem", {}, each.error) : "",
      GOING_ON.includes(each.status) ? action(t("cancel"), cancel(each)) : ""]);
    return [table(t("runs"), [t("kind"), t("status"), t("started"), t("counts"), t("error"), ""], rows)];
  },
};

const generations = {
  title: "generations",
  moves: true,
  url: (query) => `/v1/admin/generations?${query}`,
  draw({ data }, show, collection) {
    const rows = data.map((each) => [String(each.number), each.index, each.fingerprint, each.live ? h("strong", {}, t("live")) : ""]);
    const change = (path) => async () => {
      await sent(`/v1/admin/${path}`, { collection });
      await show();
    };
    return [table(t("generations"), [t("number"), t("index"), t("embedder"), ""], rows),
      h("p.actions", {}, action(t("reindex"), change("reindex")), action(t("rollback"), change("rollback")))];
  },
};

function when(time) {
  return time ? new Date(time).toLocaleString() : "";
}

/** Reads /metrics every few seconds, as long as the view is open. */
function figures(content) {
  const names = ["requests", "latency", "errors", "inFlight", "waiting"];
  const charts = Object.fromEntries(names.map((name) => [name, new Chart(t(name))]));
  content.append(h("section.card", {}, h("h2", {}, t("figures")), h("div.charts", {}, ...names.map((name) => charts[name].element))));
  let before = null;
  const read = async () => {
    const text = await (await answered("/metrics")).text();
    const now = { at: performance.now() / 1000, all: sums(text), search: sums(text, (_, labels) => labels.includes('route="/v1/search"')) };
    charts.inFlight.add(now.all.kb_requests_in_flight ?? 0);
    charts.waiting.add(now.all.kb_runs_queued ?? 0);
    if (before) {
      const seconds = now.at - before.at;
      const grown = (name, part = "all") => (now[part][name] ?? 0) - (before[part][name] ?? 0);
      const searches = grown("kb_request_seconds_count", "search");
      charts.requests.add(grown("kb_request_seconds_count") / seconds);
      charts.latency.add(searches ? (1000 * grown("kb_request_seconds_sum", "search")) / searches : 0);
      charts.errors.add((60 * grown("kb_errors_total")) / seconds);
    }
    before = now;
  };
  const guarded = () => read().catch(() => Object.values(charts).forEach((chart) => chart.unknown()));
  guarded();
  const timer = setInterval(guarded, EVERY_MS);
  return () => clearInterval(timer);
}
