import { createGraph, type DType, openDevice, ops, tensor } from "@zaya/kernels";
import { describe, expect, it } from "vitest";
import { toFloat32 } from "./checkpoint.js";
import { placeOfRows, tensorParts, unpackPanels } from "./panels.js";

function numbers(count: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(i * 1.7) * (1 + (i % 37)));
}

/** Panels of a weight as the device packs them, and the rows that its embedding finds in them. */
async function packed(dtype: DType, shape: readonly number[], values: Float32Array) {
  await using device = await openDevice("cpu", { threads: 1 });
  await using store = device.createStore();
  const type = tensor(dtype, shape, "panels");
  await store.write("w", type, values);
  const bytes = store.readBytes("w");
  if (shape.length > 2) return { type, bytes, rows: null };
  const graph = createGraph();
  const ids = graph.input("ids", tensor("int32", [shape[0] as number]));
  graph.output("rows", ops.embedding(graph.read("w", type), ids));
  await using executable = device.compile(graph, store);
  const { rows } = await executable.run({ inputs: { ids: Int32Array.from({ length: shape[0] as number }, (_, i) => i) } });
  return { type, bytes, rows: rows as Float32Array };
}

const float32 = (unpacked: Float32Array | Uint16Array) =>
  unpacked instanceof Float32Array ? unpacked : toFloat32(new Uint8Array(unpacked.buffer), "BF16");

describe("unpackPanels", () => {
  for (const dtype of ["float32", "bfloat16", "int8", "int6", "int4"] as const) {
    it.each([[[1, 1]], [[33, 31]], [[64, 257]], [[40, 600]]])(`gives the rows that the kernels read, in ${dtype} of %j`, async (shape) => {
      const { type, bytes, rows } = await packed(dtype, shape, numbers((shape[0] as number) * (shape[1] as number)));
      expect(float32(unpackPanels(type, bytes))).toEqual(rows);
    });

    it(`unpacks matrices one after the other, in ${dtype}`, async () => {
      const values = numbers(3 * 34 * 40);
      const { type, bytes } = await packed(dtype, [3, 34, 40], values);
      const whole = float32(unpackPanels(type, bytes));
      for (let matrix = 0; matrix < 3; matrix++) {
        const elements = [matrix * 34 * 40, (matrix + 1) * 34 * 40] as const;
        const { rows } = await packed(dtype, [34, 40], values.slice(...elements));
        expect(whole.slice(...elements)).toEqual(rows);
      }
    });
  }
});

describe("tensorParts", () => {
  it.each(["float32", "bfloat16", "int8", "int6", "int4"] as const)("cuts %s into parts that are packed alone", async (dtype) => {
    const shape = [2, 70, 300];
    const values = numbers(2 * 70 * 300);
    const { type, bytes } = await packed(dtype, shape, values);
    const parts = [...tensorParts(type, 32 * 300)];
    expect(parts).toHaveLength(6);
    for (const { matrix, row, rows, offset, bytes: size } of parts) {
      const first = matrix * 70 + row;
      const alone = await packed(dtype, [rows, 300], values.slice(first * 300, (first + rows) * 300));
      expect(alone.bytes).toEqual(bytes.slice(offset, offset + size));
      expect(placeOfRows(type, first, first + rows)).toEqual({ type: alone.type, offset, bytes: size });
    }
  });

  it("takes at least 32 rows at a time", () => {
    expect([...tensorParts(tensor("float32", [65, 8]), 1)].map(({ row, rows, offset }) => [row, rows, offset])).toEqual([
      [0, 32, 0],
      [32, 32, 1024],
      [64, 1, 2048],
    ]);
  });
});
