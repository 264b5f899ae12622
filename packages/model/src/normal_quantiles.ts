/**
 * The normal distribution with mean 0 and deviation 1 as 65 536 equally likely values: entry i is the quantile of (i + 1/2) / 65 536.
 * 16 random bits pick a value, several times as fast as logarithms and cosines, and finer than bfloat16 can tell apart.
 */
export function normalQuantiles(): Float64Array {
  table ??= makeTable();
  return table;
}

let table: Float64Array | null = null;

function makeTable(): Float64Array {
  const size = 65536;
  const quantiles = new Float64Array(size);
  let x = 0;
  let sumOfSquares = 0;
  for (let i = size / 2; i < size; i++) {
    const p = (i + 0.5) / size;
    // Newton from the quantile before: the distribution is concave here, so every step stays below the root.
    for (let change = 1; change > 1e-13; x += change) change = (p - distribution(x)) / density(x);
    quantiles[i] = x;
    sumOfSquares += 2 * x * x;
  }
  const deviation = Math.sqrt(sumOfSquares / size);
  for (let i = size / 2; i < size; i++) {
    const value = (quantiles[i] as number) / deviation;
    quantiles[i] = value;
    quantiles[size - 1 - i] = -value;
  }
  return quantiles;
}

function density(x: number): number {
  return Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
}

/** Φ(x) = 1/2 + φ(x) · (x + x³/3 + x⁵/(3·5) + …), G. Marsaglia, "Evaluating the normal distribution", 2004. */
function distribution(x: number): number {
  let sum = x;
  let term = x;
  for (let n = 3; term > 1e-17 * sum; n += 2) {
    term *= (x * x) / n;
    sum += term;
  }
  return 0.5 + sum * density(x);
}
