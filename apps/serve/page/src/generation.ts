import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { generate, type Model, type Prompt, type Settings } from "./api.js";

/** How fast an answer is coming. */
export interface Speed {
  readonly tokens: number;
  /** From the request to the first token. */
  readonly firstTokenSeconds: number;
  /** After the first token; null until there are two. */
  readonly tokensPerSecond: number | null;
}

export interface Generation {
  readonly running: boolean;
  readonly speed: Speed | null;
  readonly error: Error | null;
  /** Whether the last answer ended for want of tokens. */
  readonly cutOff: boolean;
  /**
   * Streams an answer, calling `onText` a few times a second with what has come; resolves when it is complete, stopped or failed: whether it
   * is complete.
   */
  start(prompt: Prompt, settings: Settings, onText: (text: string, reasoning: string) => void): Promise<boolean>;
  stop(): void;
  /** Forgets what is told of the last answer. */
  clear(): void;
}

/** What each way to use the model is given; one that is hidden keeps what is in it. */
export interface ModeProps {
  readonly generation: Generation;
  readonly settings: Settings;
  readonly hidden: boolean;
}

/** Milliseconds between two showings of an answer that is coming. All of it is rendered each time, which takes longer as it grows. */
const SHOW_INTERVAL = 200;

/** One answer at a time, with its speed and what went wrong. Escape stops it, wherever the focus is. */
export function useGeneration(model: Model): Generation {
  const controller = useRef<AbortController | null>(null);
  const [running, setRunning] = useState(false);
  const [speed, setSpeed] = useState<Speed | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const [cutOff, setCutOff] = useState(false);

  useLayoutEffect(() => {
    if (!running) return;
    const stopAtEscape = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !event.isComposing) controller.current?.abort();
    };
    document.addEventListener("keydown", stopAtEscape);
    return () => document.removeEventListener("keydown", stopAtEscape);
  }, [running]);

  function clear(): void {
    setError(null);
    setCutOff(false);
    setSpeed(null);
  }
  async function start(prompt: Prompt, settings: Settings, onText: (text: string, reasoning: string) => void): Promise<boolean> {
    const current = new AbortController();
    controller.current = current;
    setRunning(true);
    clear();
    const begin = performance.now();
    let first = begin;
    let tokens = 0;
    let text = "";
    let reasoning = "";
    let shown = Number.NEGATIVE_INFINITY;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const show = () => {
      timer = undefined;
      shown = performance.now();
      if (text !== "" || reasoning !== "") onText(text, reasoning);
      text = "";
      reasoning = "";
      const seconds = (shown - first) / 1000;
      if (tokens > 0)
        setSpeed({
          tokens,
          firstTokenSeconds: (first - begin) / 1000,
          tokensPerSecond: tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : null,
        });
    };
    try {
      for await (const piece of generate(model, prompt, settings, current.signal)) {
        if (tokens === 0 && piece.tokens > 0) first = performance.now();
        tokens += piece.tokens;
        text += piece.text;
        reasoning += piece.reasoning;
        if (piece.finishReason === "length") setCutOff(true);
        timer ??= setTimeout(show, Math.max(0, shown + SHOW_INTERVAL - performance.now()));
      }
      return true;
    } catch (thrown) {
      if (!current.signal.aborted) setError(thrown instanceof Error ? thrown : new Error(String(thrown)));
      return false;
    } finally {
      clearTimeout(timer);
      show();
      setRunning(false);
    }
  }
  return { running, speed, error, cutOff, start, stop: () => controller.current?.abort(), clear };
}
