import { type DType, type Encoding, maxBytes, type TensorType, tensor } from "@zaya/kernels";
import type { ModelConfig } from "./config.js";
import { fail } from "./errors.js";
import { storedType } from "./graph/weights.js";
import { nameProblems, refuse } from "./layout.js";
import { parameters } from "./parameters.js";
import type { SafetensorsEntry, StoredTensor } from "./safetensors.js";
import { entryBytes } from "./safetensors_writer.js";

/**
 * The run layout: a checkpoint whose tensors lie as the kernels read them, so that it is memory-mapped and starts at once.
 *
 * It is a folder with config.json, the tokenizer's files and standard safetensors. Tensors have their transformers names. Plain ones have
 * their own type and shape; panels are U8 [bytes], and `__metadata__` tells what they hold:
 *
 *   zaya.format "run"    zaya.formatVersion "1"    zaya.panels {"<name>": {"dtype": "int4", "shape": [16, 4096, 2048]}, …}
 *
 * What starts at a multiple of 64 bytes may be read by whole vectors. The header ends at one, every panel is as long as some of them, and
 * tensors of such a length come first: only a few short vectors at the end of a file start at other multiples of four.
 */
export const runFormatVersion = 1;

const alignment = 64;
const elementTypes: Readonly<Partial<Record<DType, SafetensorsEntry["dtype"]>>> = { float32: "F32", bfloat16: "BF16" };
const panelTypes: readonly string[] = ["float32", "bfloat16", "int8", "int6", "int4"] satisfies DType[];

/** The entries of the files, in order, and what their metadata says. */
export function runEntries(types: ReadonlyMap<string, TensorType>): {
  readonly entries: readonly SafetensorsEntry[];
  readonly metadata: Readonly<Record<string, string>>;
} {
  const panels: Record<string, unknown> = {};
  const entries = [...types].map(([name, type]): SafetensorsEntry => {
    const { dtype, shape, encoding } = type;
    if (encoding === "panels") {
      panels[name] = { dtype, shape };
      return { name, dtype: "U8", shape: [maxBytes(type)] };
    }
    return {
      name,
      dtype: elementTypes[dtype] ?? fail("INVALID_ARGUMENT", `${name}: a plain tensor of ${dtype}`),
      shape: shape as number[],
    };
  });
  const aligned = (entry: SafetensorsEntry) => entryBytes(entry) % alignment === 0;
  return {
    entries: [...entries.filter(aligned), ...entries.filter((entry) => !aligned(entry))],
    metadata: { "zaya.format": "run", "zaya.formatVersion": String(runFormatVersion), "zaya.panels": JSON.stringify(panels) },
  };
}

/** Whether a file's metadata says that it is in the run layout. */
export function isRunLayout(metadata: Readonly<Record<string, string>>): boolean {
  return metadata["zaya.format"] === "run";
}

/**
 * The type of every parameter of a model, from the files of a run-layout checkpoint, in forward order.
 * @throws CHECKPOINT_INVALID naming another version, or a tensor that is unknown, missing, mis-shaped or not aligned
 */
export function readRunTypes(
  where: string,
  config: ModelConfig,
  tensors: ReadonlyMap<string, StoredTensor>,
  metadata: Readonly<Record<string, string>>,
): ReadonlyMap<string, TensorType> {
  const invalid = (problem: string): never => fail("CHECKPOINT_INVALID", `${where}: ${problem}`);
  const version = metadata["zaya.formatVersion"];
  if (version !== String(runFormatVersion))
    invalid(
      `run layout of version ${version}, this release reads ${runFormatVersion}; make the files again with it, or install another release`,
    );
  const panels = parsePanels(metadata["zaya.panels"], invalid);
  const specs = parameters(config);
  refuse(where, nameProblems(tensors.keys(), new Map(specs.map(({ name, shape }) => [name, { names: [name], shape }]))));
  return new Map(
    specs.map((spec) => {
      const { name } = spec;
      const { shape } = storedType(spec, { dtype: "bfloat16", encoding: "panels" });
      const stored = tensors.get(name) as StoredTensor;
      const described = panels.get(name);
      const type = described ? tensor(described.dtype, described.shape, "panels") : plainType(stored, invalid);
      if (type.shape.join() !== shape.join())
        invalid(`mis-shaped tensor ${name}: expected [${shape.join(", ")}], received [${type.shape.join(", ")}]`);
      if (stored.bytes !== maxBytes(type))
        invalid(`tensor ${name} has ${stored.bytes} bytes, ${describeLayout(type)} need ${maxBytes(type)}`);
      if (stored.offset % (type.encoding === "panels" ? alignment : 4) !== 0)
        invalid(`tensor ${name} starts at byte ${stored.offset}, where it cannot be mapped`);
      return [name, type];
    }),
  );
}

function plainType({ name, dtype, shape }: StoredTensor, invalid: (problem: string) => never): TensorType {
  const [element] = Object.entries(elementTypes).find(([, type]) => type === dtype) ?? [];
  return element ? tensor(element as DType, shape) : invalid(`tensor ${name} has type ${dtype}, expected F32, BF16 or panels`);
}

function parsePanels(
  text: string | undefined,
  invalid: (problem: string) => never,
): ReadonlyMap<string, { readonly dtype: DType; readonly shape: readonly number[] }> {
  const unreadable = () => invalid("the metadata zaya.panels is not a JSON object of dtype and shape");
  let json: unknown;
  try {
    json = JSON.parse(text ?? "");
  } catch {
    return unreadable();
  }
  if (typeof json !== "object" || json === null) return unreadable();
  return new Map(
    Object.entries(json).map(([name, value]) => {
      const { dtype, shape } = (value ?? {}) as { dtype?: unknown; shape?: unknown };
      const sizes = Array.isArray(shape) && shape.length >= 2 && shape.every((n) => Number.isSafeInteger(n) && n >= 0);
      if (!sizes || typeof dtype !== "string") return unreadable();
      if (!panelTypes.includes(dtype)) invalid(`tensor ${name} has panels of the unknown type ${dtype}`);
      return [name, { dtype: dtype as DType, shape: shape as number[] }];
    }),
  );
}

function describeLayout({ dtype, shape, encoding }: { dtype: DType; shape: TensorType["shape"]; encoding: Encoding }): string {
  return `${encoding === "panels" ? "panels" : "elements"} of ${dtype} [${shape.join(", ")}]`;
}
