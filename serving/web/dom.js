// Elements. Text is always set as text: documents, names and answers are data, never HTML.

/** h("a.link", { href }, "text", child): attributes beginning with "on" are listeners. */
export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export const byId = (id) => document.getElementById(id);

export function table(caption, columns, rows) {
  return h("div.scroll", { tabindex: 0, role: "region", "aria-label": caption },
    h("table", {}, h("caption", {}, caption),
      h("thead", {}, h("tr", {}, ...columns.map((column) => h("th", { scope: "col" }, column)))),
      h("tbody", {}, ...rows.map((cells) => h("tr", {}, ...cells.map((cell) => h("td", {}, cell ?? "")))))));
}

/** A button that can't be pressed twice, and says beside itself what went wrong. */
export function action(label, act, tag = "button") {
  const button = h(tag, { type: "button" }, label);
  button.addEventListener("click", async () => {
    button.disabled = true;
    button.nextElementSibling?.matches(".problem") && button.nextElementSibling.remove();
    try {
      await act();
    } catch (error) {
      button.after(h("span.problem", { role: "alert" }, error.message));
    } finally {
      button.disabled = false;
    }
  });
  return button;
}
