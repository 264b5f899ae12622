import { describe, expect, test } from "vitest";
import { checkCase, checkGradientCase } from "../operation_cases.js";
import { runGraph, testTensor } from "../testing.js";
import { selectExpert } from "./select_expert.js";

const build: Parameters<typeof checkCase>[0]["build"] = ({ p, bias }) => ({ ...selectExpert(p!, bias!) });

describe("select_expert", () => {
  test("adds the bias to choose, and returns the probability without it", async () => {
    await checkCase({
      inputs: { p: { shape: [2, 3], data: [0.5, 0.25, 0.25, 0.125, 0.75, 0.125] }, bias: { shape: [3], data: [-0.5, 0, 0.5] } },
      build,
      expected: { index: [2, 1], prob: [0.25, 0.75] },
    });
  });
  test("takes the lowest of equal classes", async () => {
    await checkCase({
      inputs: {
        p: { shape: [3, 4], data: [0.25, 0.25, 0.25, 0.25, 0, 0.5, 0.5, 0, 0.25, 0.5, 0.25, 0.5] },
        bias: { shape: [4], data: [0, 0, 0, 0] },
      },
      build,
      expected: { index: [0, 1, 1], prob: [0.25, 0.5, 0.5] },
    });
  });
  test("stays inside the classes on rows of NaN and −inf, and takes no token", async () => {
    const [nan, infinity] = [Number.NaN, Number.NEGATIVE_INFINITY];
    const { index } = await runGraph(build, {
      p: { shape: [2, 2], data: [nan, nan, infinity, infinity] },
      bias: { shape: [2], data: [0, -1] },
    });
    expect(Array.from(index!)).toEqual([0, 0]);
    await checkCase({ inputs: { p: testTensor([0, 3], 1), bias: testTensor([3], 2) }, build, expected: { index: [], prob: [] } });
  });
  test("agrees with a search over many tokens of 17 classes", async () => {
    const [p, bias] = [testTensor([1500, 17], 1), testTensor([17], 2, 0.1)];
    const index = Array.from({ length: 1500 }, (_, t) => {
      const values = Array.from({ length: 17 }, (_, c) => p.data[t * 17 + c]! + bias.data[c]!);
      return values.indexOf(Math.max(...values));
    });
    await checkCase({ inputs: { p, bias }, build, expected: { index, prob: index.map((c, t) => p.data[t * 17 + c]!) } });
  });
  test("has the gradient of the probability by finite differences, none by the bias", async () => {
    await checkGradientCase(
      ({ p, bias }) => [selectExpert(p!, bias!).prob],
      { p: testTensor([4, 5], 1), bias: testTensor([5], 2) },
      { names: ["p"] },
    );
    await checkGradientCase(
      ({ p, bias }) => [selectExpert(p!, bias!).prob],
      { p: testTensor([4, 5], 1), bias: testTensor([5], 2) },
      { names: ["bias"] },
    );
  });
});
