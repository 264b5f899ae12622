import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Engine } from "../engine.js";
import type { GenerateEvent } from "../request.js";
import { pageTokens } from "../runner.js";
import { isFault } from "./errors.js";

// Bounds in seconds, those of vLLM, so that existing dashboards fit.
const firstTokenBounds = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560];
const nextTokenBounds = [0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80];
const requestBounds = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680];

/** The engine's state and the latencies of its requests in Prometheus' text format, under our names and under vLLM's. */
export interface Metrics {
  readonly registry: Registry;
  /** Passes the events of one request on, timing them. */
  observe(events: AsyncIterable<GenerateEvent>): AsyncGenerator<GenerateEvent, void, undefined>;
}

/** Makes the metrics of one engine. */
export function createMetrics(engine: Engine): Metrics {
  const registry = new Registry();
  registry.setDefaultLabels({ model_name: engine.model.id });
  const registers = [registry];

  function gauge(names: readonly string[], help: string, read: () => number): void {
    for (const name of names) {
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(read());
        },
      });
    }
  }
  function counter(names: readonly string[], help: string, read: () => number): void {
    for (const name of names) {
      new Counter({
        name,
        help,
        registers,
        collect() {
          this.reset();
          this.inc(read());
        },
      });
    }
  }
  function histogram(names: readonly string[], help: string, buckets: number[]): (seconds: number) => void {
    const all = names.map((name) => new Histogram({ name, help, buckets, registers }));
    return (seconds) => {
      for (const one of all) one.observe(seconds);
    };
  }

  const { stats } = engine;
  gauge(["zaya_requests_running", "vllm:num_requests_running"], "Requests in the batch.", () => stats().running);
  gauge(["zaya_requests_waiting", "vllm:num_requests_waiting"], "Requests that wait for a place in the batch.", () => stats().waiting);
  gauge(
    ["zaya_kv_cache_usage_ratio", "vllm:kv_cache_usage_perc"],
    "Share of the cache's pages that are set aside, 0 to 1.",
    () => stats().pagesUsed / stats().pagesTotal,
  );
  const memory = new Gauge({ name: "zaya_memory_bytes", help: "Native memory, by what it holds.", labelNames: ["kind"], registers });
  const { mappedHuge: _, ...held } = stats().memory;
  for (const [kind, bytes] of Object.entries(held)) memory.set({ kind }, bytes);
  counter(["zaya_steps_total"], "Steps of the model.", () => stats().steps);
  counter(["zaya_prompt_tokens_total", "vllm:prompt_tokens_total"], "Prompt tokens read.", () => stats().promptTokens);
  counter(["zaya_generation_tokens_total", "vllm:generation_tokens_total"], "Tokens generated.", () => stats().generatedTokens);
  const config = { block_size: String(pageTokens), num_gpu_blocks: String(stats().pagesTotal) };
  new Gauge({
    name: "vllm:cache_config_info",
    help: "Size and number of the cache's pages.",
    labelNames: Object.keys(config),
    registers,
  }).set(config, 1);

  const finished = ["zaya_requests_total", "vllm:request_success_total"].map(
    (name) => new Counter({ name, help: "Requests that ended, by how.", labelNames: ["finished_reason"], registers }),
  );
  const count = (reason: string) => {
    for (const one of finished) if (reason === "stop" || reason === "length" || one === finished[0]) one.inc({ finished_reason: reason });
  };
  const firstToken = histogram(
    ["zaya_time_to_first_token_seconds", "vllm:time_to_first_token_seconds"],
    "From the request to its first token.",
    firstTokenBounds,
  );
  const nextToken = histogram(
    ["zaya_inter_token_seconds", "vllm:inter_token_latency_seconds"],
    "Between one token and the next of a request.",
    nextTokenBounds,
  );
  const whole = histogram(["zaya_request_seconds", "vllm:e2e_request_latency_seconds"], "From the request to its end.", requestBounds);

  return {
    registry,
    async *observe(events) {
      const start = performance.now();
      let last: number | null = null;
      let ended = "abort";
      try {
        for await (const event of events) {
          const now = performance.now();
          if (event.type === "token") {
            if (last === null) firstToken((now - start) / 1000);
            else nextToken((now - last) / 1000);
            last = now;
          }
          if (event.type === "generate-end") {
            ended = event.finishReason;
            whole((now - start) / 1000);
          }
          yield event;
        }
      } catch (error) {
        if (isFault(error)) ended = "error";
        throw error;
      } finally {
        count(ended);
      }
    },
  };
}
