import { initialise, presets, saveCheckpoint, trainTokenizer } from "@zaya/model";

/** A checkpoint with a tokenizer in a new folder; the same every time. */
export async function saveTinyCheckpoint(dir: string): Promise<void> {
  const tokenizerFiles = await trainTokenizer(["the quick brown fox jumps over the lazy dog"], { vocabSize: 280 });
  const config = { ...presets["zaya-tiny"], vocabSize: 280 };
  await saveCheckpoint(dir, { config, tensors: initialise(config, 1), tokenizerFiles });
}
