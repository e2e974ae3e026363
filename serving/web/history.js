// Conversations of this browser: nothing of them is kept on the server but what is rated.
const STORE = "kb-conversations";
const MOST = 30;

export function conversations() {
  try {
    return JSON.parse(localStorage.getItem(STORE)) ?? [];
  } catch {
    return []; // Someone else's, or cut off: as good as none.
  }
}

/** Puts a conversation first, in the place of its older state. */
export function keep(conversation) {
  const others = conversations().filter((each) => each.id !== conversation.id);
  localStorage.setItem(STORE, JSON.stringify([conversation, ...others].slice(0, MOST)));
}

export function forgetAll() {
  localStorage.removeItem(STORE);
}
