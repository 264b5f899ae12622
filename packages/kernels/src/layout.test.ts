import { describe, expect, it } from "vitest";
import { apply, createGraph, type Value } from "./graph.js";
import { layOut } from "./layout.js";
import type { Operation } from "./operation.js";
import { reshape } from "./ops/reshape.js";
import { schedule } from "./schedule.js";
import { size, type TensorType, tensor } from "./types.js";

const copy: Operation = { name: "copy", infer: ([x]) => [x as TensorType] };
const update: Operation = { name: "update", infer: ([x]) => [x as TensorType], inPlace: [[0, 0]] };
const vector = tensor("float32", [256]);
const on = (operation: Operation, ...inputs: Value[]) => apply(operation, inputs)[0] as Value;

describe("schedule", () => {
  it("leaves out what no output needs", () => {
    const graph = createGraph();
    const x = graph.input("x", vector);
    on(copy, x);
    graph.output("y", on(copy, on(copy, x)));
    expect(schedule(graph).steps).toHaveLength(2);
  });

  it("moves an in-place update of the store behind everything that reads the old value", () => {
    const graph = createGraph();
    const old = graph.read("w", vector);
    graph.assign("w", on(update, old));
    graph.output("y", on(copy, old));
    const { steps, tail, updates, copies } = schedule(graph);
    expect(steps.map((node) => node.name)).toEqual(["copy", "update"]);
    expect(tail).toBe(1);
    expect([...updates.values()]).toEqual(["w"]);
    expect(copies).toEqual([]);
  });

  it("copies an update at the end when its result is read, returned or assigned twice", () => {
    const graph = createGraph();
    const updated = ["read", "returned", "again"].map((name) => {
      const value = on(update, graph.read(name, vector));
      graph.assign(name, value);
      return value;
    }) as [Value, Value, Value];
    graph.output("y", on(copy, updated[0]));
    graph.output("returned", reshape(updated[1], [16, 16]));
    graph.assign("other", updated[2]);
    const { updates, copies } = schedule(graph);
    expect([...updates.values()]).toEqual(["again"]);
    expect(copies.map(([, name]) => name)).toEqual(["read", "returned", "other"]);
  });

  it("refuses to return a tensor of the store that is assigned, also under another shape", () => {
    for (const show of [(old: Value) => old, (old: Value) => reshape(old, [16, 16])]) {
      const graph = createGraph();
      const old = graph.read("w", vector);
      graph.output("before", show(old));
      schedule(graph);
      graph.assign("w", on(update, old));
      expect(() => schedule(graph)).toThrow("output before is tensor w of the store, which the graph assigns");
    }
  });

  it("keeps what is appended in its place though it is read, and copies when the old value is read later", () => {
    const graph = createGraph();
    const pages = graph.read("pages", vector);
    const appended = on({ ...update, appends: true }, pages);
    graph.assign("pages", appended);
    graph.output("y", on(copy, appended));
    expect([...schedule(graph).updates.values()]).toEqual(["pages"]);

    graph.output("late", on(copy, pages));
    expect(schedule(graph).copies.map(([, name]) => name)).toEqual(["pages"]);
  });

  it("refuses to assign a value that was only read", () => {
    const graph = createGraph();
    graph.assign("a", graph.read("b", vector));
    expect(() => schedule(graph)).toThrow(/assign a computed one/);
    const viewed = createGraph();
    viewed.assign("a", reshape(viewed.read("b", vector), [16, 16]));
    expect(() => schedule(viewed)).toThrow(/assign a computed one/);
  });
});

describe("layOut", () => {
  it("lets buffers whose lives do not overlap share memory, at the maximum of each size", () => {
    const graph = createGraph();
    const x = graph.input("x", tensor("float32", [size("T", 256)]));
    let y = x;
    for (let i = 0; i < 10; i++) y = on(copy, y);
    graph.output("y", y);
    const plan = schedule(graph);
    expect(layOut(graph, plan, [], 0).arenaBytes).toBe(2 * 1024);
  });

  it("never overlaps two buffers that live at once", () => {
    const graph = createGraph();
    const values = [graph.input("x", vector)];
    for (let i = 0; i < 40; i++) {
      const type = tensor("float32", [16 * ((i * 7) % 11) + 16]);
      const operation: Operation = { name: "grow", infer: () => [type] };
      values.push(on(operation, values[(i * 5) % values.length] as Value, values[values.length - 1] as Value));
    }
    graph.output("y", values[values.length - 1] as Value);
    const plan = schedule(graph);
    const { places } = layOut(
      graph,
      plan,
      plan.steps.map((_, i) => (i % 3) * 100),
      64,
    );
    const position = new Map(plan.steps.map((node, i) => [node, i]));
    const lives = [...places].map(([value, place]) => {
      const readers = plan.steps.flatMap((node, i) => (node.inputs.includes(value) ? [i] : []));
      const bytes = 4 * (value.type.shape[0] as number) + 64;
      return {
        first: position.get(value.node) ?? -1,
        last: Math.max(...readers, graph.outputs.get("y") === value ? 999 : -1),
        offset: place.kind === "arena" ? place.offset : -1,
        bytes,
      };
    });
    for (const a of lives) {
      for (const b of lives) {
        if (a === b || a.first > b.last || b.first > a.last) continue;
        expect(a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset).toBe(true);
      }
    }
  });

  it("writes an output over an input that dies there when the operation allows it", () => {
    const graph = createGraph();
    const first = on(copy, graph.input("x", vector));
    graph.output("y", on(update, first));
    const plan = schedule(graph);
    const { places } = layOut(graph, plan, [], 0);
    expect(places.get(graph.outputs.get("y") as Value)).toEqual(places.get(first));
  });
});
