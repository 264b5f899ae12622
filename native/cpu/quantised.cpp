#include "cpu/quantised.h"

#include <functional>

#include "core/processor.h"

#if defined(__AVX512VNNI__)
#include "cpu/quantised_row_avx512.h"
#elif defined(__AVX2__)
#include "cpu/quantised_tile_avx2.h"
#else
#include "cpu/quantised_tile_portable.h"
#endif
#include "cpu/rows.h"
#include "cpu/streaming.h"
#include "cpu/vector.h"

namespace zaya::ZAYA_ISA {
namespace {

constexpr float largest = 127.0f;
constexpr int64_t far_ahead = 65536;  // bytes

// One group of 32 columns of one row, t = w / scale in [−127, 127]: the step and offset with the least Σ h (t − v)².
class GroupSearch {
 public:
  GroupSearch(const float* t, const float* h, int levels) : levels_(levels) {
    float low = t[0], high = t[0];
    for (int i = 0; i < 2; i++) t_[i] = load<float>(t + lanes * i), h_[i] = load<float>(h + lanes * i);
    for (int64_t i = 1; i < quantised_group; i++) low = std::min(low, t[i]), high = std::max(high, t[i]);
    const float span = (high - low) / static_cast<float>(levels), range = span < 256 ? span : 256;  // also where it is no number
    const int widest = std::max(1, std::min(255 / levels, static_cast<int>(std::ceil(range))));
    const int narrowest = std::max(1, std::min(widest, static_cast<int>(range * 0.7f)));
    for (int step = widest; step >= narrowest; step--) {
      const float centred = 0.5f * (low + high) - 0.5f * static_cast<float>(step * levels);
      consider(step, consider(step, nearest_offset(centred)));
    }
    values(step, offset, q);
  }

  int step = 1, offset = 0;
  LanesOf<float>::mask q[2];

 private:
  void values(int step_, int offset_, LanesOf<float>::mask (&out)[2]) const {
    // v = offset + step · q must stay within −128 … 127.
    const int least = offset_ >= -128 ? 0 : (-128 - offset_ + step_ - 1) / step_, most = std::min(levels_, (127 - offset_) / step_);
    const float inverse = 1.0f / static_cast<float>(step_);
    for (int i = 0; i < 2; i++) {
      const LanesOf<float>::mask n = nearest((t_[i] - static_cast<float>(offset_)) * inverse), zero = {};
      out[i] = smaller(larger(n, zero + least), zero + most);
    }
  }

  // Takes the pair if it is better than what was seen; returns the offset that suits its values best.
  int consider(int step_, int offset_) {
    offset_ = std::clamp(offset_, -128, 127);
    LanesOf<float>::mask n[2];
    values(step_, offset_, n);
    Lanes<float> error = {}, shift = {}, weight = {};
    for (int i = 0; i < 2; i++) {
      const Lanes<float> rest = t_[i] - __builtin_convertvector(n[i], Lanes<float>) * static_cast<float>(step_);
      const Lanes<float> off = rest - static_cast<float>(offset_);
      error += h_[i] * off * off;
      shift += h_[i] * rest;
      weight += h_[i];
    }
    const float total = sum<float>(error);
    if (total < least_) least_ = total, step = step_, offset = offset_;
    const float mass = sum<float>(weight);
    return mass > 0 ? nearest_offset(sum<float>(shift) / mass) : offset_;
  }

  static int nearest_offset(float x) { return x < 127 ? x > -128 ? static_cast<int>(std::floor(x + 0.5f)) : -128 : 127; }

  int levels_;
  Lanes<float> t_[2], h_[2];
  float least_ = INFINITY;
};

// Row r of one group, w / scale in t (zeros beyond the matrix).
void store_group(DType dtype, int64_t r, const float* t, const float* h, uint8_t* group) {
  int32_t q[quantised_group];
  if (dtype == DType::int8) {
    for (int64_t i = 0; i < quantised_group; i += lanes) {
      const auto n = nearest(load<float>(t + i)) + 128;
      std::memcpy(q + i, &n, sizeof n);
    }
  } else {
    const GroupSearch found(t, h, dtype == DType::int4 ? 15 : 63);
    std::memcpy(q, found.q, sizeof q);
    uint8_t* parameters = group + group_bytes(dtype) - 64;
    parameters[r] = static_cast<uint8_t>(found.step);
    parameters[quantised_rows + r] = static_cast<uint8_t>(found.offset);
  }
  for (int64_t k = 0; k < quantised_group; k++) {
    const int64_t quad = k / 4, s = k % 4;
    if (dtype == DType::int8) {
      group[quad * 128 + 4 * r + s] = static_cast<uint8_t>(q[k]);
      continue;
    }
    uint8_t& low = group[quad * 64 + r % 16 * 4 + s];
    low = static_cast<uint8_t>(r < 16 ? (low & 0xf0) | (q[k] & 15) : (low & 0x0f) | (q[k] & 15) << 4);
    if (dtype == DType::int6) {
      uint8_t& high = group[512 + quad / 2 * 64 + r % 16 * 4 + s];
      const int shift = static_cast<int>(quad % 2 * 4 + r / 16 * 2);
      high = static_cast<uint8_t>((high & ~(3 << shift)) | (q[k] >> 4) << shift);
    }
  }
}

// v of row r and column k of a block.
int value_at(DType dtype, const uint8_t* block, int64_t r, int64_t k) {
  const uint8_t* group = block + k / quantised_group * group_bytes(dtype);
  const int64_t quad = k % quantised_group / 4, s = k % 4;
  if (dtype == DType::int8) return group[quad * 128 + 4 * r + s] - 128;
  const uint8_t* parameters = group + group_bytes(dtype) - 64;
  return static_cast<int8_t>(parameters[quantised_rows + r]) + parameters[r] * packed_value(dtype, group, r, quad, s);
}
inline const float* scales_of(DType dtype, int64_t columns, const uint8_t* block) {
  return reinterpret_cast<const float*>(block + block_bytes(dtype, columns)) - quantised_rows;
}

}  // namespace

QuantisedWeight quantised_weight(const Tensor& w, int64_t matrix) {
  const int64_t n = w.shape[w.rank - 2], k = w.shape[w.rank - 1];
  return {w.as<uint8_t>() + matrix * quantised_panels(n) * quantised_panel_bytes(w.dtype, k), w.dtype, n, k};
}

void quantise_weight(Pool& pool, const Tensor& w, int64_t first_row, int64_t n, int64_t k, const float* importance, DType dtype, uint8_t* panels) {
  pool.run(quantised_panels(n), [&](int64_t panel, int) {
    uint8_t* block = panels + panel * quantised_panel_bytes(dtype, k);
    for (int64_t b = 0; b < blocks_of(k); b++) {
      const int64_t columns = block_columns(k, b), begin = b * quantised_block, valid = std::min(columns, k - begin);
      auto* scales = const_cast<float*>(scales_of(dtype, columns, block));
      for (int64_t r = 0; r < quantised_rows; r++) {
        alignas(64) float t[quantised_block] = {}, h[quantised_block] = {};
        const int64_t row = panel * quantised_rows + r;
        if (row < n) read_elements<float>(w, (first_row + row) * k + begin, valid, t);
        for (int64_t i = 0; i < valid; i++) h[i] = importance != nullptr ? importance[begin + i] : 1.0f;
        const float most = largest_magnitude(t, valid), inverse = most > 0 ? largest / most : 0.0f;
        scales[r] = most / largest;
        for (int64_t i = 0; i < valid; i++) t[i] *= inverse;
        for (int64_t k = 0; k < columns; k += quantised_group) store_group(dtype, r, t + k, h + k, block + k / quantised_group * group_bytes(dtype));
      }
      block += block_bytes(dtype, columns);
    }
  });
}

template <class T> void dequantise_row(const QuantisedWeight& w, int64_t row, T* out) {
  const uint8_t* block = w.panel(row / quantised_rows);
  const int64_t r = row % quantised_rows;
  for (int64_t b = 0; b < blocks_of(w.k); b++) {
    const int64_t columns = block_columns(w.k, b), begin = b * quantised_block;
    const float scale = scales_of(w.dtype, columns, block)[r];
    for (int64_t k = 0; k < std::min(columns, w.k - begin); k++)
      out[begin + k] = static_cast<T>(scale * static_cast<float>(value_at(w.dtype, block, r, k)));
    block += block_bytes(w.dtype, columns);
  }
}
template void dequantise_row<float>(const QuantisedWeight&, int64_t, float*);
template void dequantise_row<double>(const QuantisedWeight&, int64_t, double*);

void QuantisedRows::fill(int64_t row, const float* x, bool past_caches) const {
  for (int64_t b = 0; b < blocks_of(k); b++, x += quantised_block)
    make_row(&at(row, b), 1, past_caches, [&](QuantisedRecord* record) {
      const int64_t columns = block_columns(k, b), valid = std::min(columns, k - b * quantised_block);
      const float most = largest_magnitude(x, valid), inverse = most > 0 ? largest / most : 0.0f;
      record->scale = most / largest;
      int32_t start = 0;
      for (int64_t i = 0; i < columns; i += quantised_group) {
        LanesOf<float>::mask total = {};
        for (int64_t j = i; j < i + quantised_group; j += lanes) {
          const int64_t left = valid - j;
          const Lanes<float> part = left >= lanes ? load<float>(x + j) : load_first<float>(x + j, std::max<int64_t>(0, left));
          const auto n = nearest(part * inverse);
          typedef int8_t Bytes __attribute__((vector_size(16)));
          const Bytes bytes = __builtin_convertvector(n, Bytes);
          std::memcpy(record->values + j, &bytes, sizeof bytes);
          total += n << 24 >> 24;  // of the bytes: a NaN makes n too large to add up
        }
        const int32_t sum = fold(total, std::plus{});
        record->sums[i / quantised_group] = static_cast<float>(sum);
        start -= 128 * sum;
      }
      record->start = start;
    });
}

namespace {

// One panel of multiply_panels; before(row, rows) is called for each strip, in rows of the product, when all but its last block is multiplied, and
// after(row, rows, tile) when its sums are complete.
template <class Before, class After>
void multiply_strips(const QuantisedRows& x, const QuantisedPiece& piece, const QuantisedWeight& w, int64_t panel, const uint8_t* next, float* tile,
                     uint8_t* scratch, Before&& before, After&& after) {
  const uint8_t* block = w.panel(panel);
  const int64_t blocks = blocks_of(w.k), m = piece.product->m;
  if (blocks == 0) {
    std::fill_n(tile, piece.rows() * quantised_rows, 0.0f);
    return after(piece.begin(), piece.rows(), tile);
  }
  int64_t begins[piece_strips + 1];  // of the strips, in rows of the product
  for (int64_t strip = piece.strip0; strip <= piece.strip1; strip++) begins[strip - piece.strip0] = strip_begin(m, strip);
  const int64_t strips = piece.strip1 - piece.strip0;
  const bool follows_streams = has_full_width();
  QuantisedTile t;
  for (int64_t b = 0; b < blocks; b++) {
    const bool last = b + 1 == blocks;
    const int64_t columns = block_columns(w.k, b);
    const uint8_t* end = block + block_bytes(w.dtype, columns);
    // Far ahead one line is enough: what takes long there is to find the page. Prefetchers that follow several streams lose the one they are at by it.
    for (const uint8_t* page = block; page < end && !follows_streams; page += 4096) __builtin_prefetch(page + far_ahead, 0, 1);
    t.k = columns;
    t.accumulate = b > 0;
    t.scales = scales_of(w.dtype, columns, block);
    t.block = prepare_block(w.dtype, columns, piece.rows(), block, scratch);
    // The next block is fetched in equal parts while the strips are multiplied: memory takes only so many requests at a time.
    const int64_t fetched = block_columns(w.k, last ? 0 : b + 1) / quantised_group * group_bytes(w.dtype);
    const int64_t multiplied = strips * columns / quantised_group * group_bytes(t.block.dtype);
    t.ahead = !last ? end : next != nullptr ? next : block;
    t.pace = (64 * fetched + multiplied - 1) / multiplied;
    const int64_t fetched_by_strip = fetched / strips;
    for (int64_t strip = 0; strip < strips; strip++) {
      const int64_t row = begins[strip], first = piece.product->first + row;
      t.rows = static_cast<int>(begins[strip + 1] - row);
      t.x = &x.at(first, b);
      t.c = tile + (row - begins[0]) * quantised_rows;
      if (last) before(row, t.rows);
      multiply_tile(t);
      if (last) after(row, t.rows, t.c);
      t.ahead += fetched_by_strip;
    }
    block = end;
  }
}

}  // namespace

void multiply_panels(const QuantisedRows& x, const QuantisedPiece& piece, const QuantisedWeight& w, int64_t panel, int64_t end, const uint8_t* next,
                     float* tiles, uint8_t* scratch, int64_t twin, float* twin_tiles) {
  if (piece.rows() == 1 && multiply_row(x, piece.product->first + piece.begin(), w, panel, end, twin, tiles, twin_tiles)) return;
  auto multiply_run = [&](int64_t begin, const uint8_t* after, float* to) {
    for (int64_t i = 0; i < end - panel; i++, to += piece.rows() * quantised_rows)
      multiply_strips(x, piece, w, begin + i, begin + i + 1 < begin + end - panel ? w.panel(begin + i + 1) : after, to, scratch, [](auto...) {}, [](auto...) {});
  };
  multiply_run(panel, twin > 0 ? w.panel(panel + twin) : next, tiles);
  if (twin > 0) multiply_run(panel + twin, next, twin_tiles);
}

void fetch_panel(const QuantisedWeight& w, int64_t panel, int64_t rows) {
  if (blocks_of(w.k) == 0 || rows == 1) return;
  const uint8_t* block = w.panel(panel);
  for (int64_t line = 0; line < block_bytes(w.dtype, block_columns(w.k, 0)); line += 64) __builtin_prefetch(block + line);
}

QuantisedRows quantise_rows(Pool& pool, const Tensor& x, int64_t first, int64_t rows, void* workspace, const int32_t* index) {
  const QuantisedRows given(x.data, x.rows(), x.columns()), made(workspace, rows, x.columns());
  const bool integers = x.encoding == Encoding::rows;
  if (integers && (index == nullptr || rows == 1)) return given.from(index != nullptr ? index[0] : first);
  for_rows(pool, rows, given.k, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row++) {
      const int64_t from = index != nullptr ? index[row] : first + row;
      if (integers) made.copy(row, given, from);
      else made.fill(row, x.as<float>() + from * given.k, pool.apart());
    }
  });
  return made;
}

namespace {

// Whether results pass by the caches: threads share none, or all of them together are larger than those of one core.
bool streams(const Pool& pool, const QuantisedProduct* products, int64_t count) {
  constexpr int64_t cached = 1 << 18;  // numbers
  int64_t numbers = 0;
  bool aligned = true;
  for (const QuantisedProduct* p = products; p < products + count; p++) {
    numbers += p->m * p->w.n;
    aligned = aligned && reinterpret_cast<uintptr_t>(p->c) % 64 == 0 && p->c_stride % lanes == 0;
  }
  return aligned && (pool.apart() || numbers > cached);
}

}  // namespace

void multiply(Pool& pool, const QuantisedRows& x, const QuantisedProduct* products, int64_t count) {
  const bool past_caches = streams(pool, products, count);
  for_runs(pool, products, count, [&](const QuantisedPiece& piece, int64_t panel, int64_t end, int thread) {
    const QuantisedProduct& p = *piece.product;
    fetch_panel(p.w, panel, piece.rows());
    auto& [tile, twin, block] = QuantisedScratch::of(pool, thread);
    auto columns_of = [&](int64_t i) { return std::min(quantised_rows, p.w.n - i * quantised_rows); };
    auto place = [&](int64_t row, int64_t i) { return p.c + (p.index != nullptr ? p.index[row] : row) * p.c_stride + i * quantised_rows; };
    auto finish = [&](int64_t row, int64_t i, float* sum) {
      if (p.index != nullptr) map_lanes<float>(sum, sum, columns_of(i), [factor = p.factor[p.index[row]]](Lanes<float> y) { return factor * y; });
      else if (p.bias != nullptr) map_lanes<float>(sum, p.bias + i * quantised_rows, sum, columns_of(i), std::plus{});
      if (past_caches && columns_of(i) == quantised_rows)
        for (int64_t j = 0; j < quantised_rows; j += lanes) stream(place(row, i) + j, load(sum + j));
      else
        map_lanes<float>(sum, place(row, i), columns_of(i), [](Lanes<float> y) { return y; });
    };
    while (piece.rows() == 1 && panel < end) {
      const int64_t stop = std::min(end, panel + tile_elements / quantised_rows);
      multiply_panels(x, piece, p.w, panel, stop, stop < p.panels ? p.w.panel(stop) : nullptr, tile, block);
      for (float* sum = tile; panel < stop; panel++, sum += quantised_rows) finish(piece.begin(), panel, sum);
    }
    for (; panel < end; panel++)
      multiply_strips(
          x, piece, p.w, panel, panel + 1 < p.panels ? p.w.panel(panel + 1) : nullptr, tile, block,
          [&](int64_t row, int64_t rows) {
            for (int64_t i = row; i < row + rows && !past_caches; i++)
              for (int64_t line = 0; line < quantised_rows; line += lanes) __builtin_prefetch(place(i, panel) + line, 1);
          },
          [&](int64_t row, int64_t rows, float* sum) {
            for (int64_t i = row; i < row + rows; i++, sum += quantised_rows) finish(i, panel, sum);
          });
  });
}

}  // namespace zaya::ZAYA_ISA
