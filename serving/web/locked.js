// A document's page was asked for without a key: asks again with it and shows what comes.
import { withKey } from "./key.js";
import "./theme.js";

async function showDocument() {
  const response = await withKey(location.pathname);
  if (!response.ok) {
    document.body.textContent = (await response.json()).error.message;
    return;
  }
  // The server has escaped the document's text; a parsed page runs no scripts.
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  document.title = page.title;
  document.body.replaceWith(page.body);
  const passage = location.hash; // Set again, so that the passage is marked and scrolled to.
  location.hash = "";
  location.hash = passage;
}

showDocument();
