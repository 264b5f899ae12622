import { expect, test } from "vitest";
import { differentiate } from "../differentiate.js";
import { createGraph } from "../graph.js";
import { checkCase } from "../operation_cases.js";
import { testTensor } from "../testing.js";
import { tensor } from "../types.js";
import { fill } from "./fill.js";
import { sum } from "./sum.js";

test.each([0, 1, 17, 40000])("gives %i elements of one value, whatever the input holds", async (n) => {
  const like = { ...testTensor([n], 1), data: new Array<number>(n).fill(Number.NaN) };
  await checkCase({
    inputs: { like },
    build: ({ like }) => ({ y: fill(like!, -0.75) }),
    expected: { y: new Array<number>(n).fill(-0.75) },
  });
});

test("has the type of its input, and no gradient", () => {
  const graph = createGraph();
  const like = graph.input("like", tensor("bfloat16", [2, 3]));
  expect(fill(like, 1).type).toEqual(tensor("bfloat16", [2, 3]));
  const x = graph.input("x", tensor("float32", [4]));
  const [dx] = differentiate(sum(fill(x, 3)), [x]);
  expect(dx?.node).toMatchObject({ name: "fill", attributes: { value: 0 } });
});
