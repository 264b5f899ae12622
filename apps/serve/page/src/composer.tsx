import type { RefObject } from "preact";
import { useRef } from "preact/hooks";
import type { Generation } from "./generation.js";

export interface Action {
  readonly label: string;
  readonly disabled: boolean;
  readonly run: () => void;
}

export interface ComposerProps {
  readonly placeholder: string;
  readonly generation: Generation;
  readonly text: string;
  readonly onText: (text: string) => void;
  readonly onSend: (text: string) => void;
  readonly actions: readonly Action[];
}

/** The box to type in: Enter sends, Shift+Enter breaks the line. */
export function Composer({ placeholder, generation, text, onText, onSend, actions }: ComposerProps) {
  const area = useRef<HTMLTextAreaElement>(null);
  function send(): void {
    if (generation.running || text.trim() === "") return;
    onText("");
    onSend(text);
  }
  return (
    <footer class="composer">
      <textarea
        ref={area}
        rows={Math.min(8, text.split("\n").length + 1)}
        placeholder={placeholder}
        aria-label={placeholder}
        value={text}
        onInput={(event) => onText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
          event.preventDefault();
          send();
        }}
      />
      <div class="row">
        <Actions actions={actions} generation={generation} area={area} />
        <StartStop label="Send" disabled={text.trim() === ""} generation={generation} onStart={send} />
      </div>
    </footer>
  );
}

export interface ActionsProps {
  readonly actions: readonly Action[];
  readonly generation: Generation;
  /** Gets the focus after an action, which may disable its button. */
  readonly area: RefObject<HTMLTextAreaElement | null>;
}

/** Small buttons, out of reach while an answer is coming, and beside them whether it was cut off. */
export function Actions({ actions, generation, area }: ActionsProps) {
  return (
    <div class="actions">
      {actions.map(({ label, disabled, run }) => (
        <button
          key={label}
          type="button"
          class="quiet"
          disabled={disabled || generation.running}
          onClick={() => {
            run();
            area.current?.focus();
          }}
        >
          {label}
        </button>
      ))}
      {generation.cutOff && (
        <small class="hint" role="status">
          cut off at max tokens
        </small>
      )}
    </div>
  );
}

export interface StartStopProps {
  readonly label: string;
  readonly disabled: boolean;
  readonly generation: Generation;
  readonly onStart: () => void;
}

/** The main button: starts an answer, and stops it while it is coming. */
export function StartStop({ label, disabled, generation, onStart }: StartStopProps) {
  return generation.running ? (
    <button type="button" class="stop" onClick={generation.stop}>
      Stop
    </button>
  ) : (
    <button type="button" class="primary" disabled={disabled} onClick={onStart}>
      {label}
    </button>
  );
}
