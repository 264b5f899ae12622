import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { InstructionSet } from "../native.js";
import { instructionSets, sameBits, throughBfloat16 } from "../operation_cases.js";
import { runGraph, type TestTensor, testTensor } from "../testing.js";
import { muon } from "./muon.js";

// Cases of the reference implementation: the recorded ones, those beside the repository where it has them, and those in ZAYA_CASES.
const root = fileURLToPath(new URL("../../../../", import.meta.url));
const folders = [join(root, "packages/model/fixtures"), join(root, "../shared/cases"), ...(process.env.ZAYA_CASES?.split(":") ?? [])];
const cases = folders.flatMap((folder) =>
  existsSync(folder)
    ? readdirSync(folder)
        .map((name) => join(folder, name, "expected.safetensors"))
        .filter((path) => existsSync(path))
    : [],
);

/** A reader of the float32 tensors of a safetensors file. */
function openTensors(path: string): (name: string) => TestTensor {
  const bytes = readFileSync(path);
  const header = Number(bytes.readBigUInt64LE(0));
  const entries = JSON.parse(bytes.toString("utf8", 8, 8 + header));
  return (name) => {
    const { data_offsets: range, shape } = entries[name];
    const part = Uint8Array.from(bytes.subarray(8 + header + range[0], 8 + header + range[1]));
    return { shape, data: new Float32Array(part.buffer) };
  };
}

async function step(
  p: TestTensor,
  g: TestTensor,
  momentum: TestTensor,
  [lr, mu, decay, nesterov]: readonly [number, number, number, number],
  { scale = 1, ...options }: { scale?: number; threads?: number; isa?: InstructionSet } = {},
) {
  const { p: nextP, momentum: nextMomentum } = await runGraph(
    ({ p, g, momentum, scale, hyper }) => ({ ...muon(p!, g!, momentum!, scale!, hyper!) }),
    { p, g, momentum, scale: { shape: [1], data: [scale] }, hyper: { shape: [4], data: [lr, mu, decay, nesterov] } },
    options,
  );
  return { p: nextP as Float32Array, momentum: nextMomentum as Float32Array };
}

/** a [m,k] times b [k,n] of bfloat16 numbers, row-major, rounded once. */
function product(a: ArrayLike<number>, b: ArrayLike<number>, m: number, k: number, n: number): number[] {
  return Array.from({ length: m * n }, (_, i) => {
    let sum = 0;
    for (let j = 0; j < k; j++) sum += a[Math.floor(i / n) * k + j]! * b[j * n + (i % n)]!;
    return sum;
  });
}
function transpose(x: ArrayLike<number>, rows: number, columns: number): number[] {
  return Array.from({ length: rows * columns }, (_, i) => x[(i % rows) * columns + Math.floor(i / rows)]!);
}

/** The Newton-Schulz iteration as torch writes it, with its roundings, for rows ≤ columns. */
function orthogonalise(u: ArrayLike<number>, rows: number, columns: number): Float32Array {
  let x = throughBfloat16(u);
  const norm = throughBfloat16([Math.max(1e-7, Math.hypot(...x))])[0]!;
  x = throughBfloat16(Array.from(x, (value) => value / norm));
  for (let i = 0; i < 5; i++) {
    const gram = throughBfloat16(product(x, transpose(x, rows, columns), rows, columns, rows));
    const squared = product(gram, gram, rows, rows, rows);
    const polynomial = throughBfloat16(Array.from(gram, (a, j) => -4.775 * a + 2.0315 * squared[j]!));
    const moved = product(polynomial, x, rows, rows, columns);
    x = throughBfloat16(Array.from(x, (value, j) => 3.4445 * value + moved[j]!));
  }
  return x;
}

const largest = (x: ArrayLike<number>) => Array.from(x).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
const apart = (a: ArrayLike<number>, b: ArrayLike<number>) => largest(Array.from(a, (value, i) => value - b[i]!));

describe("muon", () => {
  for (const path of cases) {
    const read = openTensors(path);
    for (const tag of ["wide", "tall", "square"]) {
      test(`follows torch's Muon for three steps of a ${tag} matrix within the rounding of its iteration: ${path}`, async () => {
        for (const isa of await instructionSets()) {
          let p = read(`muon.${tag}.before`);
          let momentum: TestTensor = { shape: p.shape, data: new Float32Array(p.data.length) };
          const rate = 0.02 * 0.2 * Math.sqrt(Math.max(...p.shape));
          for (let i = 0; i < 3; i++) {
            const next = await step(p, read(`muon.${tag}.grad.${i}`), momentum, [0.02, 0.95, 0.1, 1], { isa });
            const after = read(`muon.${tag}.after.${i}`);
            // A singular vector's sign of error differs with every rounding: 2 % of the largest entry of the orthogonal matrix.
            expect(apart(next.p, after.data)).toBeLessThan(0.02 * rate * (i + 1));
            expect(apart(p.data, after.data)).toBeGreaterThan(0.1 * rate);
            p = { shape: p.shape, data: next.p };
            momentum = { shape: p.shape, data: next.momentum };
          }
        }
      });
    }
  }

  test("only decays a matrix without gradient and momentum, whatever its neighbours do", async () => {
    const zeros = (x: TestTensor) => ({ ...x, data: Array.from(x.data, (value, i) => (i >= 48 && i < 96 ? 0 : value)) });
    const [p, g, momentum] = [testTensor([3, 6, 8], 1), zeros(testTensor([3, 6, 8], 2)), zeros(testTensor([3, 6, 8], 3))];
    for (const isa of await instructionSets()) {
      const next = await step(p, g, momentum, [0.5, 0.9, 0.1, 1], { isa });
      const decayed = Float32Array.from(p.data, (value) => Math.fround(value) * Math.fround(0.95));
      expect(next.p.slice(48, 96)).toEqual(decayed.slice(48, 96));
      expect(apart(next.p.slice(0, 48), decayed.slice(0, 48))).toBeGreaterThan(0.1);
      expect(next.momentum.slice(48, 96)).toEqual(new Float32Array(48));
    }
  });

  for (const [rows, columns] of [
    [1, 1],
    [3, 7],
    [17, 17],
    [5, 70],
    [40, 66],
    [128, 130],
  ] as const) {
    test(`moves a ${rows} × ${columns} matrix by its orthogonalised momentum, and its transpose by the transpose`, async () => {
      const [p, g, momentum] = [testTensor([rows, columns], 1), testTensor([rows, columns], 2), testTensor([rows, columns], 3, 0.5)];
      const [lr, mu, decay, scale] = [0.5, 0.9, 0.1, 0.25];
      for (const nesterov of [0, 1] as const) {
        const moved = Array.from(momentum.data, (m, i) => m + (g.data[i]! * scale - m) * (1 - mu));
        const u = nesterov ? moved.map((m, i) => m + (g.data[i]! * scale - m) * (1 - mu)) : moved;
        const x = orthogonalise(u, rows, columns);
        const expected = Array.from(p.data, (w, i) => w * (1 - lr * decay) - lr * 0.2 * Math.sqrt(columns) * x[i]!);
        for (const isa of await instructionSets()) {
          const next = await step(p, g, momentum, [lr, mu, decay, nesterov], { scale, isa });
          expect(apart(next.momentum, moved)).toBeLessThan(1e-6);
          expect(apart(next.p, expected)).toBeLessThan(0.03 * lr * 0.2 * Math.sqrt(columns) * largest(x));
          if (rows === columns) continue; // both are computed as they stand, so the transpose is equal up to rounding only
          const turned = (t: TestTensor): TestTensor => ({ shape: [columns, rows], data: transpose(t.data, rows, columns) });
          const other = await step(turned(p), turned(g), turned(momentum), [lr, mu, decay, nesterov], { scale, isa });
          expect(sameBits(Float32Array.from(transpose(next.p, rows, columns)), other.p)).toBe(true);
        }
      }
    });
  }

  test("treats every matrix of the leading dimensions alone, on any number of threads", async () => {
    const [E, R, C] = [3, 34, 18];
    const [p, g, momentum] = [testTensor([E, R, C], 1), testTensor([E, R, C], 2), testTensor([E, R, C], 3)];
    const hyper = [0.1, 0.95, 0.01, 1] as const;
    for (const isa of await instructionSets()) {
      const all = await step(p, g, momentum, hyper, { isa, threads: 1 });
      for (const threads of [2, 3, 7]) expect(sameBits(all.p, (await step(p, g, momentum, hyper, { isa, threads })).p)).toBe(true);
      for (let e = 0; e < E; e++) {
        const one = ({ data }: TestTensor): TestTensor => ({ shape: [R, C], data: Array.from(data).slice(e * R * C, (e + 1) * R * C) });
        const alone = await step(one(p), one(g), one(momentum), hyper, { isa });
        expect(sameBits(alone.p, all.p.slice(e * R * C, (e + 1) * R * C))).toBe(true);
        expect(sameBits(alone.momentum, all.momentum.slice(e * R * C, (e + 1) * R * C))).toBe(true);
      }
    }
  });

  test("leaves a weight without gradient and momentum to its decay", async () => {
    const p = testTensor([4, 6], 1);
    const zeros = { shape: [4, 6], data: new Float32Array(24) };
    const next = await step(p, zeros, zeros, [0.5, 0.95, 0.5, 1]);
    expect(
      apart(
        next.p,
        Array.from(p.data, (w) => w * 0.75),
      ),
    ).toBeLessThan(1e-7);
  });
});
