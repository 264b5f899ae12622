// Added tokens are found in the text before anything else: leftmost first, the longest of those that start there.

/** An entry of `added_tokens` in tokenizer.json. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Left out of decoded text when special tokens are skipped. */
  readonly special: boolean;
  /** Looked for after the normalizer has run, not before. */
  readonly normalized: boolean;
  /** Takes the white space before (after) it along. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  /** Only where no word character touches it. */
  readonly singleWord: boolean;
}

interface TrieNode {
  readonly children: Map<number, TrieNode>;
  token: AddedToken | null;
}

/** Cuts a text into stretches of plain text and added tokens. */
type AddedTokenSplitter = (text: string, onText: (text: string) => void, onToken: (id: number) => void) => void;

/** Builds the splitter; with no tokens the whole text is plain. */
export function createAddedTokenSplitter(tokens: readonly AddedToken[]): AddedTokenSplitter {
  const root: TrieNode = { children: new Map(), token: null };
  const starts = new Uint8Array(1 << 16);
  for (const token of tokens) {
    if (token.content.length === 0) continue;
    let node = root;
    for (let i = 0; i < token.content.length; i++) {
      const unit = token.content.charCodeAt(i);
      let child = node.children.get(unit);
      if (!child) {
        child = { children: new Map(), token: null };
        node.children.set(unit, child);
      }
      node = child;
    }
    node.token = token;
    starts[token.content.charCodeAt(0)] = 1;
  }

  function longestAt(text: string, start: number): AddedToken | null {
    let found: AddedToken | null = null;
    let node: TrieNode | undefined = root;
    for (let i = start; i < text.length; i++) {
      node = node.children.get(text.charCodeAt(i));
      if (!node) break;
      if (node.token) found = node.token;
    }
    return found;
  }

  return (text, onText, onToken) => {
    let plainFrom = 0;
    for (let i = 0; i < text.length; ) {
      const token = starts[text.charCodeAt(i)] === 1 ? longestAt(text, i) : null;
      const end = i + (token?.content.length ?? 1);
      if (!token || (token.singleWord && touchesWord(text, i, end))) {
        i++;
        continue;
      }
      const plain = text.slice(plainFrom, i);
      const before = token.lstrip ? plain.trimEnd() : plain;
      if (before.length > 0) onText(before);
      onToken(token.id);
      i = token.rstrip ? text.length - text.slice(end).trimStart().length : end;
      plainFrom = i;
    }
    if (plainFrom < text.length) onText(plainFrom === 0 ? text : text.slice(plainFrom));
  };
}

function touchesWord(text: string, start: number, end: number): boolean {
  return /[\p{L}\p{N}_]$/u.test(text.slice(Math.max(0, start - 2), start)) || /^[\p{L}\p{N}_]/u.test(text.slice(end, end + 2));
}
