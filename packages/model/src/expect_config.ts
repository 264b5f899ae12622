import { ModelConfig } from "./config.js";
import { firstProblem } from "./dialects/fields.js";
import { fail } from "./errors.js";

/** @throws CONFIG_INVALID naming the key, what was expected and what came, for a configuration that `loadCheckpoint` would refuse */
export function expectConfig(config: ModelConfig): void {
  const { error } = ModelConfig.safeParse(config);
  if (error) fail("CONFIG_INVALID", `config: ${firstProblem(error, config)}`);
}
