import { describe, test } from "vitest";
import { checkCase } from "../operation_cases.js";
import { testIntegers, testTensor } from "../testing.js";
import { sequenceTail } from "./sequence_tail.js";

const build: Parameters<typeof checkCase>[0]["build"] = ({ state, x, cu, slots, cached }) => ({
  out: sequenceTail(x!, cu!, { state: state!, slots: slots!, cached: cached! }),
});

describe("sequence_tail", () => {
  test("finds the last rows of each sequence, older ones in the state, zeros before the first token", async () => {
    await checkCase({
      inputs: {
        state: { shape: [5, 2, 1], data: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] },
        x: { shape: [5, 1], data: [100, 200, 300, 400, 500] },
        // three tokens; one with history; one without; none
        cu: testIntegers(0, 3, 4, 5, 5),
        slots: testIntegers(0, 1, 2, 3),
        cached: testIntegers(4, 1, 0, 9),
      },
      build,
      expected: { out: [200, 300, 4, 400, 0, 500, 0, 0] },
    });
  });
  test("handles no sequence and wide rows", async () => {
    await checkCase({
      inputs: {
        state: testTensor([2, 1, 37], 1),
        x: testTensor([0, 37], 2),
        cu: testIntegers(0),
        slots: testIntegers(),
        cached: testIntegers(),
      },
      build,
      expected: { out: [] },
    });
    const x = testTensor([3, 37], 2);
    await checkCase({
      inputs: { state: testTensor([2, 1, 37], 1), x, cu: testIntegers(0, 2, 3), slots: testIntegers(1, 0), cached: testIntegers(0, 5) },
      build,
      expected: { out: Array.from(x.data).slice(37) },
    });
  });
});
