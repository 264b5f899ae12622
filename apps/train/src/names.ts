import type { TrainOptions } from "@zaya/train";
import type { Command } from "commander";

type LibraryName = keyof TrainOptions | `optimizer.${keyof NonNullable<TrainOptions["optimizer"]>}`;

/** What the library calls options and arguments that have another name on the command line. */
export const libraryNames: Readonly<Record<string, LibraryName>> = {
  files: "data",
  preset: "model",
  evalData: "evaluationData",
  lr: "learningRate",
  finalLr: "finalLearningRate",
  optimizer: "optimizer.name",
  weightDecay: "optimizer.weightDecay",
  decay: "optimizer.decay",
  clip: "optimizer.clip",
  beta1: "optimizer.beta1",
  beta2: "optimizer.beta2",
  eps: "optimizer.eps",
  momentum: "optimizer.momentum",
};

/** The options that were given, without those that were not, as the library takes them. */
export function libraryOptions(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const named: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined) continue;
    const [name = key, inner] = (libraryNames[key] ?? key).split(".");
    named[name] = inner === undefined ? value : { ...(named[name] as object | undefined), [inner]: value };
  }
  return named;
}

/**
 * The message of an error of the library, with the command's flags for the names of options where its messages have them: "heldOut: …",
 * "heldOut and evaluationData are both given", "…: steps or seconds", "… with the option data", "… other values of seed, context; …".
 */
export function withFlags({ code, message }: { readonly code: string; readonly message: string }, command: Command): string {
  const flags = new Map<string, string>();
  for (const argument of command.registeredArguments) flags.set(libraryName(argument.name()), `<${argument.name()}>`);
  for (const option of command.options) flags.set(libraryName(option.attributeName()), option.long ?? option.flags);
  const flag = (name: string) => flags.get(name) ?? name;
  const each = (text: string) => text.replace(/[\w.]+/g, flag);
  const pointed = message.replace(/(?<=with the option )\w+$/, flag).replace(/(?<=other values of )[\w, ]+(?=;)/, each);
  if (code !== "INVALID_OPTIONS") return pointed; // others may begin with the name of a file
  return pointed
    .replace(/(?<=^|; )[\w.]+(?=: )/g, flag)
    .replace(/^\w+ and \w+(?= are both given)/, each)
    .replace(/(?<=: )\w+ or \w+$/, each);
}

function libraryName(name: string): string {
  return libraryNames[name] ?? name;
}
