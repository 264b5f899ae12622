export { costOf, type GraphCost } from "./cost.js";
export { type Device, type DeviceOptions, type MeasureOptions, type MemoryUse, openDevice } from "./device.js";
export { differentiate, vectorJacobian } from "./differentiate.js";
export { isZayaError, type KernelsErrorCode, ZayaError } from "./errors.js";
export type { Executable, RunOptions } from "./executable.js";
export { formatBytes } from "./format_bytes.js";
export { apply, createGraph, type Graph, type Node, type Value } from "./graph.js";
export {
  createLimitMeter,
  describeMachine,
  type LimitMeter,
  type Limits,
  type Machine,
  type MeasuredSlice,
  memoryLimit,
  shareOfLimit,
} from "./machine.js";
export type { InstructionSet } from "./native.js";
export type { Attributes, BoundShapes, BoundTensors, Cost, GradientCall, Operation } from "./operation.js";
export * as ops from "./ops/index.js";
export { pageTokens } from "./ops/paged_attention.js";
export { logitChunk } from "./ops/top_k.js";
export type { MatrixProduct, Operands } from "./products.js";
export { decodeGraph, encodeGraph } from "./protobuf.js";
export { mean, median, standardDeviation } from "./statistics.js";
export type { PrefetchOptions, Store, TensorData } from "./store.js";
export {
  type Dimension,
  type DType,
  type Encoding,
  isQuantised,
  maxBytes,
  type PanelType,
  plus,
  type Size,
  size,
  type TensorType,
  tensor,
} from "./types.js";
