import { useEffect, useState } from "preact/hooks";
import { fetchModel, KeyRefused, type Model, type Settings } from "./api.js";
import { Chat } from "./chat.js";
import { Complete } from "./complete.js";
import { type Speed, useGeneration } from "./generation.js";
import { KeyForm } from "./key_form.js";
import { SettingsPanel } from "./settings.js";

/** The page: asks for the model first, and for a key where the server does, then offers to chat (where the model has a template) or to complete. */
export function App() {
  const [model, setModel] = useState<Model | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [tried, setTried] = useState(false);
  const open = (key: string | null) =>
    fetchModel(key).then(setModel, (thrown: unknown) => {
      setError(thrown);
      setTried(key !== null);
    });
  useEffect(() => {
    open(null);
  }, []);
  if (model) return <Playground model={model} />;
  if (error instanceof KeyRefused) return <KeyForm tried={tried} onKey={open} />;
  return error === null ? null : <p class="problem">{error instanceof Error ? error.message : String(error)}</p>;
}

function Playground({ model }: { readonly model: Model }) {
  const generation = useGeneration(model);
  const [mode, setMode] = useState<"chat" | "complete">(model.chats ? "chat" : "complete");
  const [settings, setSettings] = useState<Settings>({
    temperature: 0.8,
    topP: 0.95,
    maxTokens: Math.min(256, Math.floor(model.contextTokens / 2)),
  });
  return (
    <div class="page">
      <header>
        <h1>{model.id}</h1>
        <nav>
          {(["chat", "complete"] as const).map((name) => (
            <button
              key={name}
              type="button"
              aria-pressed={mode === name}
              disabled={generation.running || (name === "chat" && !model.chats)}
              title={name === "chat" && !model.chats ? "this checkpoint has no chat template" : undefined}
              onClick={() => {
                setMode(name);
                generation.clear();
              }}
            >
              {name === "chat" ? "Chat" : "Complete"}
            </button>
          ))}
        </nav>
        <SpeedLine speed={generation.speed} />
      </header>
      <SettingsPanel settings={settings} contextTokens={model.contextTokens} onChange={setSettings} />
      <main>
        {generation.error !== null && (
          <p class="problem" role="alert">
            {generation.error.message}
          </p>
        )}
        {model.chats && <Chat generation={generation} settings={settings} hidden={mode !== "chat"} />}
        <Complete generation={generation} settings={settings} hidden={mode !== "complete"} />
      </main>
    </div>
  );
}

function SpeedLine({ speed }: { readonly speed: Speed | null }) {
  if (!speed) return <p class="speed" />;
  const rate = speed.tokensPerSecond === null ? "" : ` · ${speed.tokensPerSecond.toFixed(speed.tokensPerSecond < 10 ? 1 : 0)} tokens/s`;
  return (
    <p class="speed">
      {speed.tokens} tokens{rate} · first after {speed.firstTokenSeconds.toFixed(2)} s
    </p>
  );
}
