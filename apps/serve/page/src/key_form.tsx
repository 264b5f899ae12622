import { useState } from "preact/hooks";

export interface KeyFormProps {
  /** Whether the server has refused one already. */
  readonly tried: boolean;
  readonly onKey: (key: string) => void;
}

/** Asks for the server's key, which stays in this page. */
export function KeyForm({ tried, onKey }: KeyFormProps) {
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
        {tried ? "This is not the server's key." : "The server asks for its API key, which stays in this page."}
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
