/** Text that came free, and the stop string that ended it. */
interface StopResult {
  readonly text: string;
  readonly matched: string | null;
}

/** Watches a stream of text for stop strings; text that might still become one is held back, so no part of one is ever given out. */
export interface StopMatcher {
  push(text: string): StopResult;
  /** What is still held back, at the end of the stream. */
  flush(): string;
}

/** Makes a matcher. The stop string that is complete first wins, of two that end together the longer: how the text was cut makes no difference. */
export function createStopMatcher(stops: readonly string[]): StopMatcher {
  let held = "";
  return {
    push(text) {
      held += text;
      const first = findFirst(held, stops);
      const end = first ? first.at : held.length - heldLength(held, stops);
      const free = held.slice(0, end);
      held = first ? "" : held.slice(end);
      return { text: free, matched: first ? first.stop : null };
    },
    flush() {
      const rest = held;
      held = "";
      return rest;
    },
  };
}

function findFirst(text: string, stops: readonly string[]): { at: number; stop: string } | null {
  let first: { at: number; stop: string } | null = null;
  for (const stop of stops) {
    const at = text.indexOf(stop);
    if (at < 0) continue;
    const later = first ? at + stop.length - (first.at + first.stop.length) : -1;
    if (later < 0 || (later === 0 && first && at < first.at)) first = { at, stop };
  }
  return first;
}

/** Length of the longest end of `text` that begins a stop string. */
export function heldLength(text: string, stops: readonly string[]): number {
  let longest = 0;
  for (const stop of stops) {
    for (let n = Math.min(stop.length - 1, text.length); n > longest; n--) {
      if (text.endsWith(stop.slice(0, n))) longest = n;
    }
  }
  return longest;
}
