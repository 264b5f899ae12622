import { useEffect, useRef, useState } from "preact/hooks";
import type { Message, Settings } from "./api.js";
import { Composer } from "./composer.js";
import type { Generation } from "./generation.js";
import { renderMarkdown } from "./markdown.js";

/** A conversation: turns above, the next message below. */
export function Chat({ generation, settings }: { readonly generation: Generation; readonly settings: Settings }) {
  const [turns, setTurns] = useState<readonly Message[]>([]);
  const end = useRef<HTMLDivElement>(null);
  useEffect(() => end.current?.scrollIntoView({ block: "end" }), [turns]);

  async function answer(asked: readonly Message[]): Promise<void> {
    let content = "";
    setTurns([...asked, { role: "assistant", content }]);
    await generation.start({ messages: asked }, settings, (text) => {
      content += text;
      setTurns([...asked, { role: "assistant", content }]);
    });
    if (content === "") setTurns(asked);
  }
  const lastUser = turns.findLastIndex((turn) => turn.role === "user");

  return (
    <>
      <section class="turns" aria-live="polite">
        {turns.length === 0 && <p class="hint">Say something. The conversation stays in this page and is gone when you reload it.</p>}
        {turns.map((turn, i) => (
          <article key={i} class={`turn ${turn.role}`}>
            <h2>{turn.role === "user" ? "You" : "ZAYA"}</h2>
            {turn.role === "user" ? (
              <p class="plain">{turn.content}</p>
            ) : (
              <Answer text={turn.content} waiting={generation.running && i === turns.length - 1} />
            )}
          </article>
        ))}
        <div ref={end} />
      </section>
      <Composer
        placeholder="Message"
        generation={generation}
        onSend={(text) => answer([...turns, { role: "user", content: text }])}
        actions={[
          { label: "Again", disabled: lastUser < 0, run: () => answer(turns.slice(0, lastUser + 1)) },
          { label: "New chat", disabled: turns.length === 0, run: () => setTurns([]) },
        ]}
      />
    </>
  );
}

function Answer({ text, waiting }: { readonly text: string; readonly waiting: boolean }) {
  return <div class={`markdown${waiting ? " waiting" : ""}`} dangerouslySetInnerHTML={{ __html: renderMarkdown(text) }} />;
}
