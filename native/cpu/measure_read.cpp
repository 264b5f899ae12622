#include "cpu/measure_read.h"

namespace zaya {
namespace {

// One line of the cache. Even in registers of 16 bytes the loads of one core outrun the memory of all.
typedef int64_t Line __attribute__((vector_size(64)));

int64_t fold(const Line& line) { return line[0] ^ line[1] ^ line[2] ^ line[3] ^ line[4] ^ line[5] ^ line[6] ^ line[7]; }

template <size_t ahead> inline int64_t read_quarters(const uint8_t* p, size_t bytes) {
  const size_t quarter = bytes / 4;
  Line total{};
  for (size_t i = 0; i < quarter; i += 64)
    for (size_t s = 0; s < 4; s++) {
      const uint8_t* line = p + s * quarter + i;
      if (ahead > 0) __builtin_prefetch(line + ahead);
      total ^= *reinterpret_cast<const Line*>(line);
    }
  return fold(total);
}

}  // namespace

int64_t read_in_order(const uint8_t* p, size_t bytes) {
  Line a{}, b{}, c{}, d{};
  for (size_t i = 0; i < bytes; i += 256) {
    const Line* line = reinterpret_cast<const Line*>(p + i);
    a ^= line[0], b ^= line[1], c ^= line[2], d ^= line[3];
  }
  return fold(a ^ b ^ c ^ d);
}

int64_t read_four_streams(const uint8_t* p, size_t bytes) { return read_quarters<0>(p, bytes); }
int64_t read_four_streams_prefetched(const uint8_t* p, size_t bytes) { return read_quarters<2048>(p, bytes); }

}  // namespace zaya
