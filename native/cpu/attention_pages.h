// How the keys and values of one kv head lie in a block of 32, by the type P of their numbers, and how they are multiplied:
//   float, double   keys [H][32], values [32][H]; queries and weights in the same type
//   bfloat16        keys [H/2][32][2], values [16][H][2]; queries (times scale) and weights are rounded to bfloat16, sums are float32
//   int8            keys [H/4][32][4] as round(k / d) + 128, values [8][H][4] as round(v / d), each followed by the float32 d of its 32 rows,
//                   d = max |x| / 127. A query is d · int8 too, and the weights of one query and block, times the d of their values, are
//                   a step times uint8, step = max / 255. Sums are exact int32, then float32.
// Weights of keys that a query does not see are 0; what such keys and their d hold has no effect.
#pragma once
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "cpu/attention_tile.h"

namespace zaya::ZAYA_ISA {

constexpr int64_t block_keys = 32;

// Numbers of P that lie side by side, and P of a block of keys or of values.
template <class P> constexpr int64_t numbers_of_unit = sizeof(P) < 4 ? 4 / sizeof(P) : 1;
template <class P> inline int64_t block_elements(int64_t head) {
  return block_keys * (head + (sizeof(P) == 1 ? static_cast<int64_t>(sizeof(float)) : 0));
}

template <class P> inline int64_t key_element(int64_t h, int64_t key) {
  constexpr int64_t unit = numbers_of_unit<P>;
  return h / unit * unit * block_keys + key * unit + h % unit;
}
template <class P> inline int64_t value_element(int64_t key, int64_t h, int64_t head) {
  constexpr int64_t unit = numbers_of_unit<P>;
  return key / unit * unit * head + h * unit + key % unit;
}
// The d of the 32 rows of an int8 block.
template <class Byte> inline auto* block_steps(Byte* block, int64_t head) {
  return reinterpret_cast<std::conditional_t<std::is_const_v<Byte>, const float, float>*>(block + block_keys * head);
}

template <class T> inline T largest(const Lanes<T>& a, const Lanes<T>& b) {
  const Lanes<T> v = larger(a, b);
  auto eight = larger(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7), __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
  auto four = larger(__builtin_shufflevector(eight, eight, 0, 1, 2, 3), __builtin_shufflevector(eight, eight, 4, 5, 6, 7));
  four = larger(four, __builtin_shufflevector(four, four, 2, 3, 0, 1));
  return four[0] > four[1] ? four[0] : four[1];
}

// How one row becomes step · int8. A row that is not finite becomes zeros with an infinite step, so that its products are NaN.
struct Quantised {
  float step, inverse;

  Quantised(const float* x, int64_t n) {
    const float largest = largest_magnitude(x, n);
    step = std::isfinite(largest) ? largest / 127 : std::numeric_limits<float>::infinity();
    inverse = step > 0 && std::isfinite(1 / step) ? 1 / step : 0;
  }
  // fn(i, integers) for every 16 numbers of the row.
  template <class F> void each(const float* x, int64_t n, F&& fn) const {
    for (int64_t i = 0; i < n; i += lanes) {
      if (inverse == 0) fn(i, LanesOf<float>::mask{});
      else fn(i, nearest((n - i >= lanes ? load(x + i) : load_first(x + i, n - i)) * inverse));
    }
  }
};

template <class P> struct UnitsOf {
  using Query = P;
  using Weight = P;
};
template <> struct UnitsOf<bfloat16> {
  using Query = Pair;
  using Weight = Pair;
};
template <> struct UnitsOf<int8_t> {
  using Query = KeyQuad;
  using Weight = ValueQuad;
};

// Queries as they are multiplied: row r begins at `rows` + r · H / (numbers of a unit).
template <class P> struct Queries {
  typename UnitsOf<P>::Query* rows;
  float* step;   // of each row; int8 only, as is
  int32_t* sum;  // the sum of each row's int8

  static constexpr int64_t unit = numbers_of_unit<P>;

  template <class T> void set(int64_t row, const T* x, int64_t head) const {
    auto* to = rows + row * (head / unit);
    if constexpr (std::is_same_v<P, bfloat16>) {
      round_row(x, head, reinterpret_cast<bfloat16*>(to));
    } else if constexpr (std::is_same_v<P, int8_t>) {
      const Quantised quantised(x, head);
      LanesOf<float>::mask total = {};
      quantised.each(x, head, [&](int64_t h, auto integers) {
        typedef int8_t Bytes __attribute__((vector_size(16)));
        const Bytes bytes = __builtin_convertvector(integers, Bytes);
        std::memcpy(reinterpret_cast<int8_t*>(to) + h, &bytes, static_cast<size_t>(std::min<int64_t>(lanes, head - h)));
        total += integers;
      });
      step[row] = quantised.step;
      sum[row] = fold(total, std::plus{});
    } else {
      std::copy_n(x, head, to);
    }
  }
};

// Lines ahead that are fetched with every unit of keys and of values, where products fetch at all. Of int8 the rows have a share, whose work takes as long there.
#ifdef __AVX512F__
template <class P> constexpr int lines_of_keys = sizeof(P) == 1 ? 1 : 2;
constexpr int lines_of_values = 4;
#else
template <class P> constexpr int lines_of_keys = 0;
constexpr int lines_of_values = 0;
#endif

// scores [rows][32] of the queries from `row` on.
template <class P, class T>
inline void score_keys(const Queries<P>& queries, int64_t row, int64_t rows, int64_t head, const P* keys, T* scores, LinesAhead* ahead) {
  using Unit = typename UnitsOf<P>::Query;
  using Sum = std::conditional_t<std::is_same_v<P, int8_t>, int32_t, T>;
  const int64_t depth = head / numbers_of_unit<P>;
  const Product<Sum, Unit> product{queries.rows + row * depth, depth, 1, reinterpret_cast<const Unit*>(keys), block_keys, reinterpret_cast<Sum*>(scores), block_keys,
                                   depth, nullptr, nullptr, ahead};
  if (ahead) multiply<Start::zero, lines_of_keys<P>>(rows, block_keys, product);
  else multiply<Start::zero>(rows, block_keys, product);
  if constexpr (std::is_same_v<P, int8_t>) {
    const float* steps = block_steps(keys, head);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t i = 0; i < block_keys; i += lanes) {
        LanesOf<float>::mask sum;
        std::memcpy(&sum, scores + r * block_keys + i, sizeof sum);
        sum -= 128 * queries.sum[row + r];  // keys are stored plus 128
        store(scores + r * block_keys + i, __builtin_convertvector(sum, Lanes<float>) * (load(steps + i) * queries.step[row + r]));
      }
  }
}

// Rounds the weights of one query and one block, 0 where it does not see the key, to what multiplies values, in place. Returns their step.
template <class P, class T> inline T pack_weights(Lanes<T> low, Lanes<T> high, [[maybe_unused]] const P* values, [[maybe_unused]] int64_t head, T* to) {
  if constexpr (std::is_same_v<P, bfloat16>) {
#ifdef __AVX512BF16__
    _mm512_storeu_ps(to, std::bit_cast<__m512>(_mm512_cvtne2ps_pbh(std::bit_cast<__m512>(high), std::bit_cast<__m512>(low))));
#else
    Pair* pairs = reinterpret_cast<Pair*>(to);
    for (int i = 0; i < lanes; i++) {
      pairs[i / 2].of[i % 2] = to_bfloat16(low[i]);
      pairs[(lanes + i) / 2].of[i % 2] = to_bfloat16(high[i]);
    }
#endif
  } else if constexpr (std::is_same_v<P, int8_t>) {
    const float* steps = block_steps(values, head);
    // A key that is not seen may have any step, NaN too.
    const auto times_step = [](auto weight, auto step) { return weight > 0 ? weight * step : weight; };
    low = by_registers(times_step, low, load(steps));
    high = by_registers(times_step, high, load(steps + lanes));
    const T greatest = largest<T>(low, high);
    const T scale = greatest > 0 ? 255 / greatest : 0;
    uint8_t* quads = reinterpret_cast<uint8_t*>(to);
    low *= scale;
    high *= scale;
#ifdef __AVX512F__
    const auto bytes = [](Lanes<T> x) { return _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(std::bit_cast<__m512>(x))); };
    _mm_storeu_si128(reinterpret_cast<__m128i*>(quads), bytes(low));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(quads + lanes), bytes(high));
#else
    for (int i = 0; i < lanes; i++) {
      quads[i] = static_cast<uint8_t>(__builtin_rintf(low[i]));
      quads[lanes + i] = static_cast<uint8_t>(__builtin_rintf(high[i]));
    }
#endif
    return greatest * (T(1) / 255);
  } else {
    store(to, low);
    store(to + lanes, high);
  }
  return 1;
}

// o [rows][H] = o · rescale + weights · values, for rows that see the keys [begin, end) of the block. `weights` has rows 32 numbers of T apart,
// as pack_weights left them with their steps; `scratch` holds 16 · H numbers of T.
template <class P, class T>
inline void add_values(int64_t rows, int64_t head, const T* weights, const T* steps, const P* values, int64_t begin, int64_t end, T* o, const T* rescale,
                       [[maybe_unused]] T* scratch, LinesAhead* ahead) {
  using Unit = typename UnitsOf<P>::Weight;
  constexpr int64_t unit = numbers_of_unit<P>;
  // Weights of int8 are 0 where a key is not seen, so that all are multiplied.
  const int64_t first = unit < 4 ? begin / unit : 0, depth = (unit < 4 ? (end + unit - 1) / unit : block_keys / unit) - first;
  const Unit* seen = reinterpret_cast<const Unit*>(values) + first * head;
  if constexpr (std::is_same_v<P, bfloat16>)
    if (begin % 2 != 0 || end % 2 != 0) {  // half of a unit is not seen
      Unit* copy = reinterpret_cast<Unit*>(scratch);
      std::copy_n(seen, depth * head, copy);
      for (int64_t h = 0; begin % 2 != 0 && h < head; h++) copy[h].of[0] = 0;
      for (int64_t h = 0; end % 2 != 0 && h < head; h++) copy[(depth - 1) * head + h].of[1] = 0;
      seen = copy;
    }
  const Product<T, Unit> product{reinterpret_cast<const Unit*>(weights) + first, block_keys, 1, seen, head, o, head, depth, rescale, steps, ahead};
  if (ahead) multiply<Start::scaled, lines_of_values>(rows, head, product);
  else multiply<Start::scaled>(rows, head, product);
}

}  // namespace zaya::ZAYA_ISA
