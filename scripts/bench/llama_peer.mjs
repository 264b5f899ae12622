// llama.cpp through node-llama-cpp, driven line by line: node llama_peer.mjs FOLDER-WITH-NODE-LLAMA-CPP MODEL.gguf THREADS
// In: {"kind": "pp" | "tg", "tokens": n, "restart": boolean}; out: {"seconds": s}. Generation goes on from where it was unless it restarts.
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [folder, modelPath, threads] = process.argv.slice(2);
const { getLlama } = await import(pathToFileURL(join(folder, "node_modules", "node-llama-cpp", "dist", "index.js")).href);
const llama = await getLlama({ build: "never", gpu: false, logLevel: "error" });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({ contextSize: 2048, batchSize: 512, threads: { ideal: Number(threads), min: Number(threads) } });
const sequence = context.getSequence();
const randomTokens = (count) => Array.from({ length: count }, () => 300 + Math.floor(40000 * Math.random()));

let generation = null;
const work = {
  async pp(tokens) {
    await sequence.clearHistory();
    generation = null;
    const prompt = randomTokens(tokens);
    const begin = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(prompt);
    return (performance.now() - begin) / 1000;
  },
  async tg(tokens, restart) {
    if (restart || !generation) {
      await sequence.clearHistory();
      generation = sequence.evaluate(randomTokens(1), { temperature: 0 });
      await generation.next();
    }
    const begin = performance.now();
    for (let i = 0; i < tokens; i++) await generation.next();
    return (performance.now() - begin) / 1000;
  },
};

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const { kind, tokens, restart } = JSON.parse(line);
  console.log(JSON.stringify({ seconds: await work[kind](tokens, restart) }));
}
process.exit(0);
