/** Files beside the weights that are used when they are there. */
export const sideFiles: readonly string[] = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
];

export const singleWeights = "model.safetensors";
export const weightIndex = "model.safetensors.index.json";

/** The weight files that an index names, or an empty list where it is none. */
export function indexedFiles(text: string): string[] {
  try {
    const { weight_map: map } = JSON.parse(text) as { weight_map?: Readonly<Record<string, unknown>> };
    return [...new Set(Object.values(map ?? {}))]
      .filter((name) => typeof name === "string" && /^[^/\\]+\.safetensors$/.test(name))
      .sort() as string[];
  } catch {
    return [];
  }
}
