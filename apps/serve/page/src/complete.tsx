import { useEffect, useRef, useState } from "preact/hooks";
import { Actions, StartStop } from "./composer.js";
import type { ModeProps } from "./generation.js";

/** One text that the model goes on writing; what it wrote can be edited and continued. */
export function Complete({ generation, settings, hidden }: ModeProps) {
  const [text, setText] = useState("");
  const [before, setBefore] = useState<string | null>(null);
  const area = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    if (generation.running && area.current) area.current.scrollTop = area.current.scrollHeight;
  }, [text, generation.running]);

  async function complete(from: string): Promise<void> {
    let written = from;
    setBefore(from);
    setText(from);
    const done = await generation.start({ prompt: from }, settings, (piece) => {
      written += piece;
      setText(written);
    });
    // Where nothing came, all stays as it was.
    if (!done && written === from) {
      setText(text);
      setBefore(before);
    }
    area.current?.focus();
  }
  return (
    <section class="document" hidden={hidden}>
      <textarea
        ref={area}
        aria-label="Text to continue"
        placeholder="Begin a text, and let the model go on. Ctrl+Enter continues, Escape stops."
        value={text}
        readOnly={generation.running}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && text !== "" && !generation.running) complete(text);
        }}
      />
      <div class="row">
        <Actions
          generation={generation}
          area={area}
          actions={[
            { label: "Again", disabled: before === null, run: () => complete(before ?? "") },
            { label: "Undo", disabled: before === null, run: () => [setText(before ?? ""), setBefore(null)] },
          ]}
        />
        <StartStop label="Continue" disabled={text === ""} generation={generation} onStart={() => complete(text)} />
      </div>
    </section>
  );
}
