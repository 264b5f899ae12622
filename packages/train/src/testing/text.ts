/** Made-up documents for tests: words of a small vocabulary in an order that can be learned, the same every time. */
export function randomText(documents: number): string[] {
  const words = ["the", "token", "goes", "to", "an", "expert", "and", "router", "learns", "which", "one", "it", "wants"];
  let state = 12345;
  const next = (n: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  return Array.from({ length: documents }, () => {
    let word = next(words.length);
    return Array.from({ length: 20 + next(60) }, () => {
      word = next(4) === 0 ? next(words.length) : (word * 3 + 1) % words.length;
      return words[word];
    }).join(" ");
  });
}
