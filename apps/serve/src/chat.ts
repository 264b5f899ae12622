import { intro, log, outro } from "@clack/prompts";
import { isZayaError } from "@zaya/kernels";
import type { ChatMessage } from "@zaya/model";
import type { Engine } from "@zaya/serve";
import pc from "picocolors";
import { interruptSignal, StoppedError } from "../../terminal/src/interrupt.js";
import { exitCodes, InputError } from "./exit.js";
import { type MessageReader, openMessageReader } from "./message_reader.js";
import { type LoadFlags, openEngine, type SamplingFlags, samplingOptions } from "./options.js";
import { describeEngine } from "./report.js";

export interface ChatFlags extends LoadFlags, SamplingFlags {
  readonly system?: string;
}

/**
 * A conversation in the terminal. Ctrl-C while an answer comes stops the answer; at the prompt it ends the conversation, as the end of input does.
 * SIGTERM stops all of it.
 */
export async function chat(model: string, flags: ChatFlags): Promise<number> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) throw new InputError("chat needs a terminal; use `zaya-serve complete` in scripts");
  const refuse = () => {
    throw new InputError(`${model} has no chat template; use \`zaya-serve complete\``);
  };
  await using engine = await openEngine(model, flags, { maxSequences: 1 }, async (dir) => {
    if (await lacksChatTemplate(dir)) refuse();
  });
  if (engine.tokenizer.chatTemplate === null) refuse();
  intro(describeEngine(engine));
  const messages: ChatMessage[] = flags.system === undefined ? [] : [{ role: "system", content: flags.system }];
  log.message(pc.dim("/clear begins again, Ctrl-C ends"));
  using reader = openMessageReader(`${pc.bold("You")}  `, process.stdin, process.stdout);
  for (;;) {
    const content = await ask(reader);
    if (content === null) break;
    if (content === "/clear") {
      messages.length = flags.system === undefined ? 0 : 1;
      continue;
    }
    if (!content.trim()) continue;
    messages.push({ role: "user", content });
    const answer = await say(engine, messages, flags);
    if (answer === null) messages.pop();
    else messages.push(answer);
  }
  outro("bye");
  return exitCodes.done;
}

/** Whether a folder is certain to have no chat template, told without the seconds that a large tokenizer and its weights take to load. */
async function lacksChatTemplate(dir: string): Promise<boolean> {
  const { readTokenizerFiles } = await import("@zaya/model");
  const files = await readTokenizerFiles(dir);
  if (!("tokenizer.json" in files)) return true;
  const config = new TextDecoder().decode(files["tokenizer_config.json"]);
  return !("chat_template.jinja" in files) && !/"chat_template"\s*:\s*["[]/.test(config);
}

/** The next message. A signal ends the wait for it in order, so that the terminal is left as it was. */
async function ask(reader: MessageReader): Promise<string | null> {
  using interrupt = interruptSignal(() => new StoppedError("stopped"));
  const content = await reader.next(interrupt.signal);
  interrupt.signal.throwIfAborted();
  return content;
}

/** Ctrl-C at an answer: it ends, the conversation goes on. */
class AnswerStopped extends Error {}

/** Writes one answer as it comes, its thought dimmed, and returns it as a message; null where it failed, which is told. */
async function say(engine: Engine, messages: readonly ChatMessage[], flags: ChatFlags): Promise<ChatMessage | null> {
  using interrupt = interruptSignal((name) => (name === "SIGINT" ? new AnswerStopped() : new StoppedError("stopped")));
  const begin = performance.now();
  let reasoning = "";
  let content = "";
  let tokens = 0;
  try {
    for await (const event of engine.generate(
      { messages, ...samplingOptions(flags), separateReasoning: true },
      { signal: interrupt.signal },
    )) {
      if (event.type !== "token") continue;
      tokens++;
      if (event.reasoning) process.stdout.write(pc.dim(event.reasoning));
      reasoning += event.reasoning ?? "";
      if (reasoning !== "" && content === "" && event.text !== "") process.stdout.write("\n\n");
      content += event.text;
      process.stdout.write(event.text);
    }
  } catch (error) {
    if (interrupt.signal.reason instanceof StoppedError) throw interrupt.signal.reason;
    if (!interrupt.signal.aborted) {
      log.error(error instanceof Error ? error.message : String(error));
      if (isZayaError(error) && error.code === "CONTEXT_LENGTH_EXCEEDED") log.message(pc.dim("/clear begins a new conversation"));
      return null;
    }
  }
  const rate = (tokens / ((performance.now() - begin) / 1000)).toFixed(1);
  process.stdout.write(`\n${pc.dim(`${tokens} tokens, ${rate} a second`)}\n`);
  return { role: "assistant", content, ...(reasoning === "" ? {} : { reasoning_content: reasoning }) };
}
