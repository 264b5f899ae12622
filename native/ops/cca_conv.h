// The forward pass of cca_conv, a group of H channels and a block of rows at a time; the operation and the fused cca_heads share it.
//
// The grouped convolution is a matrix product of each group: row t of A holds y[t−1, h], y[t, h] for h = 0, 1, …, 2H wide, and B is the
// group's weight [H, 2H], in panels (cpu/gemm.h) as stored or packed here. Accumulation: an element starts from its bias and takes the
// columns of A in order, as every product of cpu/gemm.h does.
#pragma once
#include "cpu/panel_product.h"
#include "cpu/ragged.h"
#include "cpu/vector.h"

namespace zaya::ZAYA_ISA {

// The depthwise convolution of the channels first … first + width − 1: y[t] = older · z[t−1] + newer · z[t] + bias.
template <class T> class Depthwise {
 public:
  static size_t bytes(int64_t width) { return align64(static_cast<size_t>(5 * width) * sizeof(T)); }

  Depthwise(const RaggedRows<T>& columns, const Tensor& weight, const Tensor& bias, int64_t first, int64_t width, uint8_t* scratch)
      : columns_(columns), first_(first), width_(width), older_(reinterpret_cast<T*>(scratch)), newer_(older_ + width), bias_(newer_ + width),
        zeros_(bias_ + width) {
    T* taps = zeros_;  // of two elements a channel: room that is zeroed afterwards
    read_elements<T>(weight, 2 * first, 2 * width, taps);
    for (int64_t h = 0; h < width; h++) {
      older_[h] = taps[2 * h];
      newer_[h] = taps[2 * h + 1];
    }
    read_elements<T>(bias, first, width, bias_);
    std::fill(zeros_, zeros_ + width, T(0));
  }

  const T* older() const { return older_; }
  const T* newer() const { return newer_; }
  // z[t − back] of sequence s, zeros before its first column.
  const T* row(int64_t s, int64_t t, int64_t back) const {
    const T* found = columns_.row(s, t, back, first_);
    return found == nullptr ? zeros_ : found;
  }

  // y[t−1] to before + i · stride and y[t] to now + i · stride, for row t = begin + i up to end; the rows belong to sequences.
  void pairs(int64_t begin, int64_t end, T* before, T* now, int64_t stride) const {
    int64_t s = begin < end ? columns_.ragged.owner(begin) : 0;
    for (int64_t t = begin; t < end; t++, before += stride, now += stride) {
      while (t >= columns_.ragged.end(s)) s++;
      if (t == begin || t == columns_.ragged.begin(s)) convolve(row(s, t, 2), row(s, t, 1), before);
      else std::copy(now - stride, now - stride + width_, before);
      convolve(row(s, t, 1), row(s, t, 0), now);
    }
  }

 private:
  void convolve(const T* z_before, const T* z_now, T* y) const {
#pragma GCC ivdep
    for (int64_t h = 0; h < width_; h++) y[h] = older_[h] * z_before[h] + newer_[h] * z_now[h] + bias_[h];
  }

  const RaggedRows<T>& columns_;
  int64_t first_, width_;
  T *older_, *newer_, *bias_, *zeros_;
};

// Both convolutions of one group. The vectors and, unless it lies in panels already, the matrix are read once, when it is made.
template <class T> class GroupConvolution {
 public:
  static constexpr int64_t block_rows = 8 * tile_height;  // their pairs stay in the second-level cache

  static bool in_place(const Tensor& grouped) { return PanelWeight<T>::in_place(grouped); }
  static size_t bytes(const Tensor& grouped) {
    const int64_t width = grouped.shape[1];
    return Depthwise<T>::bytes(width) + align64(static_cast<size_t>(width) * sizeof(T)) + tile_bytes(width) + pairs_bytes(width) +
           (in_place(grouped) ? 0 : align64(static_cast<size_t>(packed_elements(width, 2 * width)) * size_of(PanelWeight<T>::packed(grouped.dtype))));
  }

  // vectors: depthwise_w, depthwise_b, grouped_w, grouped_b
  GroupConvolution(const RaggedRows<T>& columns, const Tensor* weights, int64_t group, uint8_t* scratch)
      : rows_(columns.ragged.rows()), width_(weights[2].shape[1]), depthwise_(columns, weights[0], weights[1], group * width_, width_, scratch) {
    const Tensor& grouped = weights[2];
    const int64_t depth = 2 * width_;
    scratch += Depthwise<T>::bytes(width_);
    bias_ = reinterpret_cast<T*>(scratch);
    read_elements<T>(weights[3], group * width_, width_, bias_);
    scratch += align64(static_cast<size_t>(width_) * sizeof(T));
    tile_ = reinterpret_cast<T*>(scratch);
    scratch += tile_bytes(width_);
    pairs_ = reinterpret_cast<T*>(scratch);
    scratch += pairs_bytes(width_);
    const bool panels = grouped.encoding == Encoding::panels;
    const int64_t elements = panels ? packed_elements(width_, depth) : width_ * depth;
    const uint8_t* matrix = grouped.as<uint8_t>() + static_cast<size_t>(group * elements) * size_of(grouped.dtype);
    matrix_ = {PanelWeight<T>::packed(grouped.dtype), in_place(grouped) ? matrix : scratch, width_, depth};
    if (in_place(grouped)) return;
    const Operand source{matrix, grouped.dtype, panels ? Layout::panels : Layout::rows, depth};
    for (int64_t panel = 0; panel < panels_of(width_); panel++)
      pack_panel({source, width_, depth, panel * panel_columns, panel_columns, scratch + panel * matrix_.panel_bytes()}, matrix_.dtype, 0, depth);
  }

  // Rows begin … end − 1, at most block_rows, to out(t); rows that belong to no sequence are zeros.
  void run(int64_t begin, int64_t end, T* out, int64_t stride) const {
    const int64_t owned = std::min(end, std::max(begin, rows_)), count = owned - begin, tiles = (count + tile_height - 1) / tile_height;
    for (int64_t i = 0; i < end - begin; i++) {
      if (i < count) std::copy(bias_, bias_ + width_, out + i * stride);
      else std::fill_n(out + i * stride, width_, T(0));
    }
    for (int64_t i = 0; i < tiles; i++) {
      // y[t−1] of all rows above y[t] of all rows: packed as one panel they are the columns of A in order.
      const int64_t first = i * tile_height, height = std::min<int64_t>(tile_height, count - first);
      depthwise_.pairs(begin + first, begin + first + height, tile_, tile_ + height * width_, width_);
      pack_panel({{tile_, dtype_of<T>(), Layout::rows, width_}, 2 * height, width_, 0, 2 * height, pairs_ + i * tile_elements(width_)}, dtype_of<T>(), 0,
                 even(width_));
    }
    multiply_strips(pairs_, tile_elements(width_), count, matrix_, 0, panels_of(width_), out, stride, true);
  }

 private:
  static int64_t tile_elements(int64_t width) { return 2 * tile_height * even(width); }
  static size_t tile_bytes(int64_t width) { return align64(static_cast<size_t>(2 * tile_height * width) * sizeof(T)); }
  static size_t pairs_bytes(int64_t width) { return align64(static_cast<size_t>(block_rows / tile_height * tile_elements(width)) * sizeof(T)); }

  int64_t rows_, width_;
  Depthwise<T> depthwise_;
  T *bias_, *tile_, *pairs_;
  PanelWeight<T> matrix_;
};

}  // namespace zaya::ZAYA_ISA
