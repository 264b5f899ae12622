// The driver of matrix products: cut into tasks, pack, multiply. Compiled once for each instruction set, like the operations.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 warns of its own AVX-512 headers (GCC bug 105593)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include "cpu/gemm.h"

#include <algorithm>
#include <utility>

#include "core/processor.h"
#include "cpu/gemm_cut.h"
#include "cpu/gemm_pack.h"
#include "cpu/gemm_tile.h"
#include "cpu/swiglu.h"

namespace zaya::ZAYA_ISA {
namespace {

constexpr size_t b_limit = size_t(16) << 20;       // packed B beyond this is packed and used piece by piece, to stay in the cache
constexpr int64_t inline_elements = 1 << 15;       // less is packed without waking anybody

constexpr size_t near_block_bytes = size_t(480) << 10;  // of packed A that a task keeps in the second-level cache
constexpr size_t near_c_bytes = size_t(256) << 10;      // of C that stay there beside it

// A thread's own memory: operands of a task, and behind them the tile of C that becomes silu(gate) · up.
constexpr size_t own_operand_bytes = Pool::own_bytes - near_c_bytes;
uint8_t* own_tile(const Pool& pool, int thread) { return pool.own(thread) + own_operand_bytes; }

// How tasks use the caches. Where vectors have their full width a tile takes half the time: memory is as far away as twice the bytes of B, and coming back to C
// for a second part of k costs more than what does not fit the second cache.
struct Reach {
  size_t block_bytes;            // of packed A that a task multiplies at a time, where its part of C is large
  int64_t first_row, other_rows; // bytes of B fetched ahead, for the rows that bring a panel in and for those that find it in the second cache
};
Reach reach() { return has_full_width() ? Reach{size_t(1) << 20, 8192, 1024} : Reach{near_block_bytes, 2048, 0}; }

// How far one packing task goes along k: long runs where k is contiguous, few rows where it is not.
int64_t pack_length(Layout layout) { return layout == Layout::rows ? 512 : 64; }

// What is fetched while something else is multiplied: pieces of two cache lines, in runs of `run` pieces that are `apart` bytes from one to the next. The next
// run lies beside the first.
struct Fetch {
  static constexpr int64_t piece_bytes = 128;
  const uint8_t* at = nullptr;
  int64_t pieces = 0, run = 1, apart = 0;

  const uint8_t* piece(int64_t i) const { return at + i / run * piece_bytes + i % run * apart; }
};

struct Block {
  const MatrixProduct* product;
  Formats formats;
  uint8_t* a;               // the first of the row panels
  const uint8_t* b;         // the first panel of the group
  int64_t b_step;           // bytes from one panel to the next,
  int64_t up = 0;           // and from one of gate to that of up
  int64_t panel0, panels;   // column panels
  int64_t row_panel0, row_panels;
  bool packs;               // the rows of A first
  bool stream = false;      // C, past the caches
  Fetch fetch, fetch_up;    // of what is wanted next
  int64_t piece0 = 0, piece1 = 0;  // the pieces that are fetched while this block is multiplied
};

void add_bias(const Block& block, int64_t row0, int64_t row1) {
  const MatrixProduct& p = *block.product;
  const int64_t begin = block.panel0 * panel_columns, end = std::min(p.n, (block.panel0 + block.panels) * panel_columns);
  for (int64_t row = row0; row < row1; row++) {
    if (block.formats.format == Format::float64) {
      double* c = static_cast<double*>(p.c) + row * p.c_stride;
      for (int64_t j = begin; j < end; j++) c[j] += static_cast<const double*>(p.bias)[j];
    } else {
      float* c = static_cast<float*>(p.c) + row * p.c_stride;
      for (int64_t j = begin; j < end; j++) c[j] += static_cast<const float*>(p.bias)[j];
    }
  }
}

// Packs row panels [panel0, panel1) of A, or column panels of B, over [k0, k1), to where panel 0 of the operand would lie at `out`.
void pack_run(const Operand& source, int64_t rows, int64_t k, int64_t height, bool pad, DType dtype, bool round, uint8_t* out, int64_t panel0,
              int64_t panel1, int64_t k0, int64_t k1, bool stream = false) {
  const int64_t whole = pad ? panel1 : std::clamp(rows / height, panel0, panel1);
  auto pack = [&](int64_t panel, int64_t count, int64_t rows_each) {
    PanelPack p;
    p.source = source;
    p.rows = rows;
    p.k = k;
    p.first = panel * height;
    p.height = rows_each;
    p.count = count;
    p.round = round;
    p.stream = stream;
    p.panel = out + panel * height * even(k) * static_cast<int64_t>(size_of(dtype));
    pack_panel(p, dtype, k0, k1);
  };
  if (whole > panel0) pack(panel0, whole - panel0, height);
  if (whole < panel1) pack(whole, 1, rows - whole * height);
}

// Column panels [panel0, panel1) of B, the same; of gate and up one of each in turn.
void pack_columns(const MatrixProduct& p, const Formats& formats, uint8_t* out, int64_t panel0, int64_t panel1, int64_t k0, int64_t k1, bool stream = false) {
  if (!p.swiglu) return pack_run(p.b, p.n, p.k, panel_columns, true, formats.b, false, out, panel0, panel1, k0, k1, stream);
  const int64_t panel_bytes = panel_elements(p.k) * static_cast<int64_t>(size_of(formats.b)), inner = column_panels_of(p);
  for (int64_t panel = panel0; panel < panel1; panel++) {
    pack_run(p.b, p.n, p.k, panel_columns, true, formats.b, false, out + panel * panel_bytes, panel, panel + 1, k0, k1, stream);
    pack_run(p.b, p.n, p.k, panel_columns, true, formats.b, false, out + (panel + 1 - inner) * panel_bytes, inner + panel, inner + panel + 1, k0, k1, stream);
  }
}

// Where the rows of a panel lie in the packed A.
uint8_t* packed_rows_at(const MatrixProduct& p, int64_t row_panel, const Formats& formats) {
  return static_cast<uint8_t*>(p.a_packed) + row_panel * tile_height * even(p.k) * static_cast<int64_t>(size_of(formats.a));
}

// Rows times columns: k is cut so that the rows' part of A stays in the second-level cache; C is the accumulator between the cuts.
void multiply_block(const Block& block) {
  const MatrixProduct& p = *block.product;
  const int64_t a_size = static_cast<int64_t>(size_of(block.formats.a)), b_size = static_cast<int64_t>(size_of(block.formats.b));
  const int64_t c_size = block.formats.format == Format::float64 ? 8 : 4;
  const int64_t k_all = even(p.k);
  const int64_t panel_bytes = panel_columns * k_all * b_size;
  const int64_t row0 = block.row_panel0 * tile_height, row1 = std::min(p.m, (block.row_panel0 + block.row_panels) * tile_height);
  const Reach reaching = reach();
  const int last_height = static_cast<int>(row1 - row0 - (block.row_panels - 1) * tile_height);

  int64_t cuts = 1;
  if (block.row_panels > 1) {
    const bool near_c = (row1 - row0) * block.panels * panel_columns * c_size <= static_cast<int64_t>(near_c_bytes);
    cuts = std::max(ceiling((row1 - row0) * k_all * a_size, static_cast<int64_t>(near_c ? near_block_bytes : reaching.block_bytes)),
                    ceiling(panel_bytes, static_cast<int64_t>(kept_panel_bytes)));
  }
  const int64_t step = (ceiling(k_all, std::max<int64_t>(1, cuts)) + 31) / 32 * 32;  // runs of packing begin at multiples of 32
  const TileKernel full = tile_kernel(block.formats.format, tile_height);
  const TileKernel last = tile_kernel(block.formats.format, last_height);

  const bool streams = block.stream && !p.accumulate && p.bias == nullptr && step >= k_all && block.formats.format != Format::float64 &&
                       (reinterpret_cast<uintptr_t>(p.c) | static_cast<uintptr_t>(p.c_stride * c_size)) % 64 == 0;
  // The pieces are spread over all tiles, one after so many pairs.
  int64_t piece = block.piece0, every = 1;
  const int64_t pieces = block.piece1 - block.piece0, tiles = block.panels * block.row_panels * ceiling(k_all, std::max<int64_t>(1, step));
  while (pieces > 0 && std::min(step, k_all) / 2 / (2 * every) * tiles >= pieces) every *= 2;
  int64_t k0 = 0;
  do {
    const int64_t k1 = std::min(k_all, k0 + step);
    if (block.packs) {
      const int64_t length = pack_length(p.a.layout);
      for (int64_t k = k0; k < k1; k += length)
        pack_run(p.a, p.m, p.k, tile_height, false, block.formats.a, block.formats.round_a, block.a - row0 * k_all * a_size, block.row_panel0,
                 block.row_panel0 + block.row_panels, k, std::min(k1, k + length));
    }
    TileCall call;
    call.pairs = (k1 - k0) / 2;
    call.apart = block.fetch.apart, call.every = every;
    if (row1 - row0 == 1 && step >= k_all && block.b_step == panel_bytes) {
      const int64_t column = block.panel0 * panel_columns;
      call.a = block.a;
      call.b = block.b;
      call.c = static_cast<uint8_t*>(p.c) + (row0 * p.c_stride + column) * c_size;
      call.columns = std::min(block.panels * panel_columns, p.n - column);
      call.accumulate = p.accumulate;
      multiply_row(block.formats.format, call, block.panels);
      break;
    }
    // The first row panel brings a panel of B in, the others find it there.
    for (int64_t panel = 0; panel < block.panels; panel++) {
      call.b = block.b + panel * block.b_step + k0 * panel_columns * b_size;
      const int64_t column = (block.panel0 + panel) * panel_columns;
      call.columns = std::min<int64_t>(panel_columns, p.n - column);
      call.c_stride = p.c_stride;
      call.accumulate = p.accumulate || k0 > 0;
      call.stream = streams && call.columns == panel_columns;
      for (int64_t i = 0; i < block.row_panels; i++) {
        const bool ends = i + 1 == block.row_panels;
        const int64_t row = row0 + i * tile_height;
        call.rows = ends ? last_height : tile_height;
        call.a = block.a + ((row - row0) * k_all + k0 * call.rows) * a_size;
        call.c = static_cast<uint8_t*>(p.c) + (row * p.c_stride + column) * c_size;
        call.ahead = i == 0 ? reaching.first_row : reaching.other_rows;
        call.fetched = nullptr;
        if (piece < block.piece1) {
          const int64_t begin = piece / block.fetch.run * block.fetch.run, end = std::min(block.piece1, begin + block.fetch.run);
          const int64_t count = call.pairs / every;
          call.fetched = block.fetch.piece(std::max(begin, std::min(piece, end - count)));
          piece = std::min(piece + count, end);
        }
        const int64_t next_row = ends ? row0 : row + tile_height, next_column = ends ? column + panel_columns : column;
        call.next_c = call.stream ? nullptr : static_cast<uint8_t*>(p.c) + (next_row * p.c_stride + next_column) * c_size;
        (ends ? last : full)(call);
      }
    }
    k0 = k1;
  } while (k0 < k_all);
  if (p.bias != nullptr) add_bias(block, row0, row1);
}

// Rows times columns of gate and of up: as many of each as `tile` holds are multiplied into it, and activated while they are in the cache.
template <class T> void multiply_swiglu(Block block, T* tile) {
  const MatrixProduct& p = *block.product;
  const int64_t row0 = block.row_panel0 * tile_height, rows = std::min(p.m - row0, block.row_panels * tile_height);
  const int64_t most = static_cast<int64_t>(near_c_bytes / sizeof(T)) / (rows * 2 * panel_columns), end = block.panel0 + block.panels;
  const bool stream = std::exchange(block.stream, false);
  MatrixProduct half = p;
  half.n = p.n / 2;
  block.product = &half;
  for (; block.panel0 < end; block.b += block.panels * block.b_step, block.panel0 += block.panels) {
    block.panels = std::min(most, end - block.panel0);
    const int64_t column = block.panel0 * panel_columns, columns = block.panels * panel_columns;
    half.c_stride = 2 * columns;
    auto multiply_half = [&](const Block& of, T* c) {
      half.c = c - row0 * half.c_stride - column;
      multiply_block(of);
    };
    multiply_half(block, tile);
    block.packs = false;
    Block up = block;
    up.b += block.up, up.fetch = block.fetch_up;
    multiply_half(up, tile + columns);
    for (int64_t i = 0; i < rows; i++) {
      const T* gate = tile + i * 2 * columns;
      make_row(static_cast<T*>(p.c) + (row0 + i) * p.c_stride + column, columns, stream, [&](T* y) { swiglu_row(gate, gate + columns, y, columns); });
    }
  }
}

// A task.
void multiply_task(const Block& block, uint8_t* tile) {
  if (!block.product->swiglu) multiply_block(block);
  else if (block.formats.format == Format::float64) multiply_swiglu(block, reinterpret_cast<double*>(tile));
  else multiply_swiglu(block, reinterpret_cast<float*>(tile));
}

// Runs tasks, on the caller alone when there is little to do.
template <class F> void run_tasks(Pool& pool, int64_t tasks, bool little, F&& fn) {
  if (little)
    for (int64_t task = 0; task < tasks; task++) fn(task, 0);
  else
    pool.run(tasks, fn);
}

// Column panels [panel, panel + panels) of B, where they are float32 to be packed.
Fetch fetch_columns(const MatrixProduct& p, int64_t panel, int64_t panels) {
  if (p.b.dtype != DType::float32 || (p.b.layout != Layout::rows && p.b.layout != Layout::columns)) return {};
  constexpr int64_t size = sizeof(float);
  static_assert(Fetch::piece_bytes == panel_columns * size);
  const int64_t stride = p.b.stride * size, count = std::min(panels, panels_of(p.n) - panel);
  const auto* b = static_cast<const uint8_t*>(p.b.data);
  if (p.b.layout == Layout::columns) return {b + panel * Fetch::piece_bytes, count * p.k, p.k, stride};
  const int64_t pieces = count * panel_columns * stride / Fetch::piece_bytes;
  return {b + panel * panel_columns * stride, pieces, pieces, Fetch::piece_bytes};
}

// Products of which every task packs `columns` column panels of B and multiplies them with all rows. A is packed; `packed` is room for such columns a thread.
void multiply_own_columns(Pool& pool, const Formats& formats, const MatrixProduct* products, int64_t count, int64_t columns, uint8_t* packed) {
  const int64_t panels = column_panels_of(*products), parts = parts_of(*products), groups = ceiling(panels, columns);
  const int64_t b_size = static_cast<int64_t>(size_of(formats.b));
  int64_t longest = 1;
  for (int64_t i = 0; i < count; i++) longest = std::max(longest, products[i].k);
  const auto packed_bytes = static_cast<size_t>(columns * parts * panel_elements(longest) * b_size);
  pool.run(count * groups, [&](int64_t task, int thread) {
    const MatrixProduct& p = products[task / groups];
    uint8_t* own = packed_bytes <= own_operand_bytes ? pool.own(thread) : packed + static_cast<size_t>(thread) * packed_bytes;
    Block block;
    block.product = &p;
    block.formats = formats;
    block.stream = p.stream || pool.apart();
    block.packs = false;
    block.panel0 = task % groups * columns;
    block.panels = std::min(columns, panels - block.panel0);
    block.b = own;
    block.up = panel_elements(p.k) * b_size, block.b_step = parts * block.up;
    pack_columns(p, formats, own - block.panel0 * block.b_step, block.panel0, block.panel0 + block.panels, 0, even(p.k));
    const int64_t row_panels = row_panels_of(p.m), row_blocks = ceiling(row_panels, block_panels);
    if (task + 1 < count * groups) {
      const MatrixProduct& next = products[(task + 1) / groups];
      const int64_t panel = (task + 1) % groups * columns;
      block.fetch = fetch_columns(next, panel, std::min(columns, panels - panel));
      if (parts > 1) block.fetch_up = fetch_columns(next, panels + panel, std::min(columns, panels - panel));
    }
    for (int64_t r = 0; r < row_blocks; r++) {
      block.piece0 = block.fetch.pieces * r / row_blocks;
      block.piece1 = block.fetch.pieces * (r + 1) / row_blocks;
      block.row_panel0 = row_panels * r / row_blocks;
      block.row_panels = row_panels * (r + 1) / row_blocks - block.row_panel0;
      block.a = packed_rows_at(p, block.row_panel0, formats);
      multiply_task(block, own_tile(pool, thread));
    }
  });
}

// Few rows times weights that are read in place: bringing the weights is the work, so the column panels of all products are one line, of which a thread streams a range.
void multiply_few_rows(Pool& pool, const Formats& formats, MatrixProduct* products, int64_t count, uint8_t* workspace) {
  int64_t panels = 0;
  for (MatrixProduct* p = products; p < products + count; p++) {
    const bool again = p > products && p->a.data == p[-1].a.data && p->m == p[-1].m && p->k == p[-1].k;
    p->a_packed = again ? p[-1].a_packed : workspace;
    if (!again) {
      pack_run(p->a, p->m, p->k, tile_height, false, formats.a, formats.round_a, workspace, 0, 1, 0, even(p->k));
      workspace += align64(static_cast<size_t>(p->m * even(p->k)) * size_of(formats.a));
    }
    panels += column_panels_of(*p);
  }
  const int64_t few = Pool::few_panels / parts_of(*products);
  pool.run_streams(panels, few, [](int64_t end) { return end; }, [&](int64_t begin, int64_t end, int thread) {
    for (const MatrixProduct* p = products; p < products + count; p++) {
      const int64_t own = column_panels_of(*p), panel0 = std::clamp<int64_t>(begin, 0, own), panel1 = std::clamp<int64_t>(end, 0, own);
      begin -= own, end -= own;
      if (panel0 == panel1) continue;
      Block block;
      block.product = p;
      block.formats = formats;
      block.panel0 = panel0, block.panels = panel1 - panel0;
      block.row_panel0 = 0, block.row_panels = 1;
      block.packs = false;
      block.a = packed_rows_at(*p, 0, formats);
      block.b_step = panel_elements(p->k) * static_cast<int64_t>(size_of(formats.b));
      block.up = own * block.b_step;
      block.b = static_cast<const uint8_t*>(p->b.data) + panel0 * block.b_step;
      multiply_task(block, own_tile(pool, thread));
    }
  });
}

}  // namespace

DType packed_dtype(Math math, DType b) { return formats_of(math, b).b; }

int64_t packed_rows(Math math, int64_t elements) {
  const int64_t bytes = std::max<int64_t>(1, elements) * static_cast<int64_t>(size_of(formats_of(math, DType::float32).a));
  return std::max<int64_t>(block_panels * tile_height, static_cast<int64_t>(b_limit) / bytes / block_panels / tile_height * block_panels * tile_height);
}

size_t packed_a_bytes(Math math, int64_t m, int64_t k) {
  return align64(static_cast<size_t>(m * even(k)) * size_of(formats_of(math, DType::float32).a));
}

size_t packed_b_bytes(Math math, const Operand& b, int64_t n, int64_t k) {
  const DType dtype = formats_of(math, b.dtype).b;
  if (b.layout == Layout::panels && b.dtype == dtype) return 0;
  return static_cast<size_t>(packed_elements(n, k)) * size_of(dtype);
}

bool are_few_rows(Math math, const MatrixProduct* products, int64_t count) {
  int64_t elements = 0;
  return std::all_of(products, products + count, [&](const MatrixProduct& p) {
    elements += p.m * p.k;
    return p.m > 0 && p.m <= tile_height && elements <= inline_elements && p.b.layout == Layout::panels && p.b.dtype == products->b.dtype &&
           p.b.dtype == formats_of(math, p.b.dtype).b;
  });
}

size_t enough_b_bytes(size_t packed, Math math, int64_t k, int64_t parts) {
  const size_t piece = static_cast<size_t>(parts * panel_elements(k)) * (math == Math::float64 ? 8 : 4);
  return align64(std::min(packed, std::max(b_limit, piece)));
}

void multiply(Pool& pool, Math math, MatrixProduct* products, int64_t count, uint8_t* workspace, size_t workspace_bytes) {
  if (count == 0) return;
  const Operand& b = products[0].b;
  const Formats formats = formats_of(math, b.dtype);
  if (are_few_rows(math, products, count)) return multiply_few_rows(pool, formats, products, count, workspace);
  const int64_t panels = column_panels_of(*products), parts = parts_of(*products);
  const bool in_place = b.layout == Layout::panels && b.dtype == formats.b;
  const int64_t a_size = static_cast<int64_t>(size_of(formats.a)), b_size = static_cast<int64_t>(size_of(formats.b));

  // A: at the front of the workspace.
  const int64_t own_columns = in_place ? 0 : choose_own_columns(products, count, formats, pool.threads(), workspace_bytes);
  const int64_t own_rows = own_columns > 0 ? 0 : choose_own_rows(products, count, in_place, pool.threads());
  uint8_t* next = workspace;
  int64_t a_tasks = 0, a_elements = 0, longest = 0;
  const int64_t a_length = pack_length(products[0].a.layout);
  for (int64_t i = 0; i < count; i++) {
    MatrixProduct& p = products[i];
    p.a_packed = next;
    p.first_pack = a_tasks;
    next += align64(static_cast<size_t>(p.m * even(p.k) * a_size));
    if (own_rows == 0) {
      a_tasks += ceiling(row_panels_of(p.m), block_panels) * ceiling(even(p.k), a_length);
      a_elements += p.m * p.k;
    }
    longest = std::max(longest, p.k);
  }
  const size_t b_bytes = workspace_bytes - static_cast<size_t>(next - workspace);
  auto pack_a = [&](int64_t task) {
    int64_t i = count - 1;
    while (products[i].first_pack > task) i--;
    const MatrixProduct& p = products[i];
    const int64_t lengths = ceiling(even(p.k), a_length);
    const int64_t local = task - p.first_pack;
    const int64_t panel = local / lengths * block_panels, k0 = local % lengths * a_length;
    pack_run(p.a, p.m, p.k, tile_height, false, formats.a, formats.round_a, static_cast<uint8_t*>(p.a_packed), panel,
             std::min(row_panels_of(p.m), panel + block_panels), k0, std::min(even(p.k), k0 + a_length), pool.apart());
  };

  if (own_columns > 0) {
    run_tasks(pool, a_tasks, a_elements < inline_elements, [&](int64_t task, int) { pack_a(task); });
    return multiply_own_columns(pool, formats, products, count, own_columns, next);
  }

  Cut cut = own_rows > 0 ? Cut{own_rows, std::clamp<int64_t>(panels, 1, group_panels / parts)} : choose_cut(products, count, panels, pool.threads());
  const int64_t longest_panel = parts * panel_elements(longest) * b_size;
  if (!in_place)
    while (cut.columns > 1 && static_cast<size_t>(cut.columns * longest_panel) > b_bytes) cut.columns /= 2;
  // Where a task packs its own rows they are in memory of its thread's own, if they fit.
  const auto own_rows_bytes = static_cast<size_t>(own_rows * tile_height * even(longest) * a_size);
  const bool in_own = own_rows > 0 && own_rows_bytes <= own_operand_bytes;
  const int64_t groups = ceiling(panels, cut.columns);
  const int64_t b_length = pack_length(b.layout);

  // Column groups of all products in one line; as many at a time as the workspace holds.
  for (int64_t group0 = 0; group0 < count * groups;) {
    int64_t group1 = group0;
    size_t used = 0;
    while (group1 < count * groups) {
      const int64_t wide = std::min(cut.columns, panels - group1 % groups * cut.columns);
      const size_t bytes = in_place ? 0 : static_cast<size_t>(wide * parts * panel_elements(products[group1 / groups].k) * b_size);
      if (used + bytes > b_bytes && group1 > group0) break;
      used += bytes;
      group1++;
    }
    const int64_t product0 = group0 / groups, product1 = (group1 - 1) / groups;
    auto groups_of = [&](int64_t i) { return std::min(group1, (i + 1) * groups) - std::max(group0, i * groups); };
    auto first_group_of = [&](int64_t i) { return std::max(group0, i * groups) - i * groups; };
    // Where the packed panels of product i's first group in this batch lie.
    auto packed_at = [&](int64_t i) {
      uint8_t* at = next;
      for (int64_t j = product0; j < i; j++) {
        const int64_t first = first_group_of(j) * cut.columns;
        at += (std::min(panels, first + groups_of(j) * cut.columns) - first) * parts * panel_elements(products[j].k) * b_size;
      }
      return at;
    };
    auto panel_pointer = [&](int64_t i, int64_t panel) -> uint8_t* {
      const int64_t panel_bytes = panel_elements(products[i].k) * b_size;
      if (in_place) return static_cast<uint8_t*>(const_cast<void*>(products[i].b.data)) + panel * panel_bytes;
      return packed_at(i) + (panel - first_group_of(i) * cut.columns) * parts * panel_bytes;
    };

    int64_t b_tasks = 0, b_elements = 0, blocks = 0;
    if (!in_place)
      for (int64_t i = product0; i <= product1; i++) {
        b_tasks += groups_of(i) * ceiling(even(products[i].k), b_length);
        b_elements += groups_of(i) * cut.columns * parts * panel_columns * products[i].k;
      }
    auto pack_b = [&](int64_t task) {
      int64_t i = product0;
      while (task >= groups_of(i) * ceiling(even(products[i].k), b_length)) task -= groups_of(i) * ceiling(even(products[i].k), b_length), i++;
      const MatrixProduct& p = products[i];
      const int64_t lengths = ceiling(even(p.k), b_length);
      const int64_t panel = (first_group_of(i) + task / lengths) * cut.columns, k0 = task % lengths * b_length;
      uint8_t* zero = panel_pointer(i, panel) - panel * parts * panel_elements(p.k) * b_size;
      pack_columns(p, formats, zero, panel, std::min(panels, panel + cut.columns), k0, std::min(even(p.k), k0 + b_length), pool.apart());
    };
    const int64_t first = group0 == 0 ? a_tasks : 0;
    run_tasks(pool, first + b_tasks, (first > 0 ? a_elements : 0) + b_elements < inline_elements, [&](int64_t task, int) {
      if (task < first)
        pack_a(task);
      else
        pack_b(task - first);
    });

    for (int64_t i = product0; i <= product1; i++) {
      products[i].first_block = blocks;
      blocks += (own_rows > 0 ? 1 : groups_of(i)) * ceiling(row_panels_of(products[i].m), cut.rows);
    }
    pool.run(blocks, [&](int64_t task, int thread) {
      int64_t i = product1;
      while (products[i].first_block > task) i--;
      const MatrixProduct& p = products[i];
      const int64_t row_panels = row_panels_of(p.m);
      const int64_t row_blocks = ceiling(row_panels, cut.rows);
      const int64_t local = task - p.first_block;
      // Blocks of a product differ by at most one panel in height.
      const int64_t r = local % row_blocks;
      Block block;
      block.product = &p;
      block.formats = formats;
      block.stream = p.stream || pool.apart();
      block.row_panel0 = row_panels * r / row_blocks;
      block.row_panels = row_panels * (r + 1) / row_blocks - block.row_panel0;
      block.packs = own_rows > 0;
      block.a = in_own ? pool.own(thread) : packed_rows_at(p, block.row_panel0, formats);
      block.panel0 = (first_group_of(i) + local / row_blocks) * cut.columns;
      block.panels = std::min(panels - block.panel0, (block.packs ? groups_of(i) : 1) * cut.columns);
      block.b = panel_pointer(i, block.panel0);
      block.up = (in_place ? panels : 1) * panel_elements(p.k) * b_size;
      block.b_step = (in_place ? 1 : parts) * panel_elements(p.k) * b_size;
      multiply_task(block, own_tile(pool, thread));
    });
    group0 = group1;
  }
}

void pack_panels(Pool& pool, const Operand& b, int64_t n, int64_t k, DType dtype, void* panels) {
  const int64_t length = pack_length(b.layout), lengths = ceiling(even(k), length);
  constexpr int64_t together = 4;
  run_tasks(pool, ceiling(panels_of(n), together) * lengths, n * k < inline_elements, [&](int64_t task, int) {
    const int64_t panel = task / lengths * together, k0 = task % lengths * length;
    pack_run(b, n, k, panel_columns, true, dtype, false, static_cast<uint8_t*>(panels), panel, std::min(panels_of(n), panel + together), k0,
             std::min(even(k), k0 + length), pool.apart());
  });
}

namespace {

const void* matrix_of(const Tensor& w, int64_t matrix) {
  const int64_t n = w.shape[w.rank - 2], k = w.shape[w.rank - 1];
  const int64_t elements = w.encoding == Encoding::panels ? packed_elements(n, k) : n * k;
  return w.as<uint8_t>() + static_cast<size_t>(matrix * elements) * size_of(w.dtype);
}

}  // namespace

Operand weight_operand(const Tensor& w, int64_t matrix) {
  return {matrix_of(w, matrix), w.dtype, w.encoding == Encoding::panels ? Layout::panels : Layout::rows, w.columns()};
}
Operand weight_operand_transposed(const Tensor& w, int64_t matrix) {
  return {matrix_of(w, matrix), w.dtype, w.encoding == Encoding::panels ? Layout::transposed_panels : Layout::columns, w.columns()};
}

}  // namespace zaya::ZAYA_ISA
