import fc from "fast-check";
import { expect, test } from "vitest";
import { createStopMatcher } from "./stop.js";

function run(stops: readonly string[], pieces: readonly string[]): { text: string; matched: string | null } {
  const matcher = createStopMatcher(stops);
  let text = "";
  for (const piece of pieces) {
    const result = matcher.push(piece);
    text += result.text;
    if (result.matched !== null) return { text, matched: result.matched };
  }
  return { text: text + matcher.flush(), matched: null };
}

test.each([
  { stops: ["\n\n"], pieces: ["one", "\n", "two\n", "\nthree"], text: "one\ntwo", matched: "\n\n" },
  { stops: ["END"], pieces: ["the E", "N", " of E", "N", "D more"], text: "the EN of ", matched: "END" },
  { stops: ["abX", "b"], pieces: ["abX"], text: "a", matched: "b" },
  { stops: ["b", "ab"], pieces: ["xa", "b"], text: "x", matched: "ab" },
  { stops: ["aab"], pieces: ["aa", "aab"], text: "aa", matched: "aab" },
  { stops: [], pieces: ["a", "b"], text: "ab", matched: null },
  { stops: ["stop"], pieces: ["unfinished sto"], text: "unfinished sto", matched: null },
])("stops at $stops in $pieces", ({ stops, pieces, text, matched }) => {
  expect(run(stops, pieces)).toEqual({ text, matched });
});

test("gives the same text however it is cut, and never part of a stop string's match", () => {
  const letters = fc.constantFrom("a", "b", "c");
  const word = fc.array(letters, { minLength: 1, maxLength: 4 }).map((l) => l.join(""));
  fc.assert(
    fc.property(fc.array(word, { maxLength: 3 }), fc.array(word, { maxLength: 10 }), (stops, pieces) => {
      const whole = run(stops, [pieces.join("")]);
      expect(run(stops, pieces)).toEqual(whole);
      for (const stop of stops) expect(whole.text).not.toContain(stop);
    }),
    { seed: 1, numRuns: 500 },
  );
});

test("gives text out as soon as it cannot become a stop string", () => {
  const matcher = createStopMatcher(["</s>"]);
  expect(matcher.push("hello <").text).toBe("hello ");
  expect(matcher.push("b>").text).toBe("<b>");
});
