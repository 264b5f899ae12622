/**
 * The first key that appears twice in one object of a JSON text, or null. `JSON.parse` silently keeps the last of them.
 * The text must be valid JSON.
 */
export function duplicateKey(text: string): string | null {
  const objects: (Set<string> | null)[] = []; // one entry a nesting level; null for an array
  let expectsKey = false;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === "{") {
      objects.push(new Set());
      expectsKey = true;
    } else if (character === "[") {
      objects.push(null);
      expectsKey = false;
    } else if (character === "}" || character === "]") {
      objects.pop();
    } else if (character === ",") {
      expectsKey = objects.at(-1) !== null;
    } else if (character === '"') {
      const begin = i++;
      while (text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
      const keys = objects.at(-1);
      if (expectsKey && keys) {
        const key = JSON.parse(text.slice(begin, i + 1)) as string;
        if (keys.has(key)) return key;
        keys.add(key);
        expectsKey = false;
      }
    }
  }
  return null;
}
