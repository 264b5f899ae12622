import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ContextExceeded, type Message } from "./api.js";
import { Composer } from "./composer.js";
import type { ModeProps } from "./generation.js";
import { renderMarkdown } from "./markdown.js";

/** A conversation: turns above, the next message below. */
export function Chat({ generation, settings, hidden }: ModeProps) {
  const [turns, setTurns] = useState<readonly Message[]>([]);
  const [draft, setDraft] = useState("");
  const section = useRef<HTMLElement>(null);
  const atEnd = useRef(true);
  useEffect(() => {
    if (section.current && atEnd.current) section.current.scrollTop = section.current.scrollHeight;
  }, [turns]);

  /** Whether anything came; the conversation stays as it was where nothing did. */
  async function answer(asked: readonly Message[]): Promise<boolean> {
    let turn: Message = { role: "assistant", content: "" };
    atEnd.current = true;
    setTurns([...asked, turn]);
    const complete = await generation.start({ messages: asked }, settings, (text, reasoning) => {
      const thought = (turn.reasoning_content ?? "") + reasoning;
      turn = { ...turn, content: turn.content + text, ...(thought === "" ? {} : { reasoning_content: thought }) };
      setTurns([...asked, turn]);
    });
    if (complete || turn.content !== "" || turn.reasoning_content !== undefined) return true;
    setTurns(turns);
    return false;
  }
  async function send(text: string): Promise<void> {
    const came = await answer([...turns, { role: "user", content: text }]);
    if (!came) setDraft((draft) => (draft === "" ? text : draft)); // to be changed and sent again
  }
  function begin(): void {
    setTurns([]);
    generation.clear();
  }
  const lastUser = turns.findLastIndex((turn) => turn.role === "user");

  return (
    <div class="mode" hidden={hidden}>
      <section
        ref={section}
        class="turns"
        aria-live="polite"
        aria-busy={generation.running}
        onScroll={({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) => {
          atEnd.current = scrollTop + clientHeight > scrollHeight - 40;
        }}
      >
        {turns.length === 0 && <p class="hint">Say something. The conversation stays in this page and is gone when you reload it.</p>}
        {turns.map((turn, i) => (
          <article key={i} class={`turn ${turn.role}`}>
            <h2>{turn.role === "user" ? "You" : "ZAYA"}</h2>
            {turn.role === "user" ? (
              <p class="plain">{turn.content}</p>
            ) : (
              <Answer turn={turn} waiting={generation.running && i === turns.length - 1} />
            )}
          </article>
        ))}
      </section>
      {generation.error instanceof ContextExceeded && turns.length > 0 && (
        <p class="hint" role="status">
          “New chat” begins with an empty context.
        </p>
      )}
      <Composer
        placeholder="Message"
        generation={generation}
        text={draft}
        onText={setDraft}
        onSend={send}
        actions={[
          { label: "Again", disabled: lastUser < 0, run: () => answer(turns.slice(0, lastUser + 1)) },
          { label: "New chat", disabled: turns.length === 0, run: begin },
        ]}
      />
    </div>
  );
}

/** An answer, below its thought, which folds when the answer begins. */
function Answer({ turn: { content, reasoning_content: thought }, waiting }: { readonly turn: Message; readonly waiting: boolean }) {
  const html = useMemo(() => renderMarkdown(content), [content]);
  return (
    <>
      {thought !== undefined && (
        <details class="thought" open={content === ""}>
          <summary>Thought</summary>
          <p>{thought}</p>
        </details>
      )}
      <div class={`markdown${waiting ? " waiting" : ""}`} dangerouslySetInnerHTML={{ __html: html }} />
    </>
  );
}
