import type { Settings } from "./api.js";

interface SliderProps {
  readonly label: string;
  readonly hint: string;
  readonly value: number;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  readonly onChange: (value: number) => void;
}

/** How the next token is drawn, and how many come. */
export function SettingsPanel({
  settings,
  contextTokens,
  onChange,
}: {
  readonly settings: Settings;
  readonly contextTokens: number;
  readonly onChange: (settings: Settings) => void;
}) {
  return (
    <aside class="settings" aria-label="Settings">
      <Slider
        label="Temperature"
        hint="0 always takes the most probable token"
        value={settings.temperature}
        min={0}
        max={2}
        step={0.05}
        onChange={(temperature) => onChange({ ...settings, temperature })}
      />
      <Slider
        label="Top-p"
        hint="draws from this much of the probability"
        value={settings.topP}
        min={0.05}
        max={1}
        step={0.05}
        onChange={(topP) => onChange({ ...settings, topP })}
      />
      <Slider
        label="Max tokens"
        hint={`the context is ${contextTokens}`}
        value={settings.maxTokens}
        min={16}
        max={Math.max(16, contextTokens / 2)}
        step={16}
        onChange={(maxTokens) => onChange({ ...settings, maxTokens })}
      />
    </aside>
  );
}

function Slider({ label, hint, value, min, max, step, onChange }: SliderProps) {
  return (
    <label class="slider">
      <span>
        {label} <output>{value}</output>
      </span>
      <input type="range" min={min} max={max} step={step} value={value} onInput={(event) => onChange(Number(event.currentTarget.value))} />
      <small>{hint}</small>
    </label>
  );
}
