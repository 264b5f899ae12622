// What the tests use of jsdom. Its own types (@types/jsdom) bring the browser's into every file of the project, as vitest's refer to them.
declare module "jsdom" {
  export class JSDOM {
    constructor(html: string, options?: { readonly pretendToBeVisual?: boolean });
    readonly window: Window & typeof globalThis;
  }
}
