import { mean } from "@zaya/kernels";

/** How steps used the experts of a model. */
export interface ExpertUse {
  /** Different experts a layer and step, on average. */
  readonly distinct: number;
  /** What routing with equal chances would give: E · (1 − (1 − 1/E)^T). */
  readonly distinctIfUniform: number;
  /** Tokens of the busiest expert over the mean, of all steps together: average of the layers, and the worst. */
  readonly maxMeanLoad: number;
  readonly worstMaxMeanLoad: number;
}

/**
 * Sums up what the tokens of some steps chose. `steps[i][layer]` holds the expert of each token; a number of `numExperts` stands for the skip
 * class, which reads no expert.
 */
export function expertUse(steps: readonly (readonly Int32Array[])[], numExperts: number): ExpertUse {
  const distinct: number[] = [];
  const uniform: number[] = [];
  const loads: number[] = [];
  const layers = steps[0]?.length ?? 0;
  for (let layer = 0; layer < layers; layer++) {
    const counts = new Array<number>(numExperts).fill(0);
    for (const step of steps) {
      const chosen = (step[layer] as Int32Array).filter((expert) => expert < numExperts);
      for (const expert of chosen) counts[expert] = (counts[expert] as number) + 1;
      distinct.push(new Set(chosen).size);
      uniform.push(numExperts * (1 - (1 - 1 / numExperts) ** chosen.length));
    }
    loads.push(Math.max(...counts) / mean(counts));
  }
  return { distinct: mean(distinct), distinctIfUniform: mean(uniform), maxMeanLoad: mean(loads), worstMaxMeanLoad: Math.max(...loads) };
}
