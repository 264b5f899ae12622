import { useState } from "preact/hooks";

export interface KeyFormProps {
  /** What the server said. */
  readonly refusal: string;
  readonly onKey: (key: string) => void;
}

/** Asks for the server's key, which stays in this page. */
export function KeyForm({ refusal, onKey }: KeyFormProps) {
  const [key, setKey] = useState("");
  return (
    <form
      class="key"
      onSubmit={(event) => {
        event.preventDefault();
        onKey(key.trim());
      }}
    >
      <p class="hint" role="status">
        {refusal}
      </p>
      <label>
        API key
        <input type="password" autocomplete="off" value={key} onInput={(event) => setKey(event.currentTarget.value)} />
      </label>
      <button type="submit" class="primary" disabled={key.trim() === ""}>
        Open
      </button>
    </form>
  );
}
