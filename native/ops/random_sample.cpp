// random_sample(table [65536], place int32 [4]) -> y [rows, columns]: each element is a random entry of the table, in the type of y.
//
//   w0 … w3 = philox4x32-10(counter (b mod 2^32, b / 2^32, stream, 0), key seed);  b = first + i / 8;  place = (seed, seed / 2^32, stream, first)
//   y[i] = table[low half of w(e/2) for even e = i % 8, high half for odd e]
//
// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011. Every element is a function of its place alone, so any part can be
// made anywhere. Sixteen counters are turned at a time. packages/model/src/philox.ts is the same generator.
#include "cpu/lanes.h"

namespace zaya::ZAYA_ISA {
namespace {

constexpr int64_t elements_per_block = 8;
constexpr int64_t elements_per_turn = lanes * elements_per_block;

struct Place {
  uint32_t key0, key1, stream, first;
};

// Words of the counters block … block + 15, word w of counter l at words[w][l].
void philox(const Place& place, uint64_t block, uint32_t (&words)[4][lanes]) {
  uint32_t(&a)[lanes] = words[0], (&b)[lanes] = words[1], (&c)[lanes] = words[2], (&d)[lanes] = words[3];
  for (int l = 0; l < lanes; l++) {
    const uint64_t counter = block + static_cast<uint64_t>(l);
    a[l] = static_cast<uint32_t>(counter), b[l] = static_cast<uint32_t>(counter >> 32), c[l] = place.stream, d[l] = 0;
  }
  uint32_t key0 = place.key0, key1 = place.key1;
  for (int round = 0; round < 10; round++, key0 += 0x9e3779b9u, key1 += 0xbb67ae85u) {
    for (int l = 0; l < lanes; l++) {
      const uint64_t product0 = uint64_t{0xd2511f53u} * a[l], product1 = uint64_t{0xcd9e8d57u} * c[l];
      a[l] = static_cast<uint32_t>(product1 >> 32) ^ b[l] ^ key0;
      b[l] = static_cast<uint32_t>(product1);
      c[l] = static_cast<uint32_t>(product0 >> 32) ^ d[l] ^ key1;
      d[l] = static_cast<uint32_t>(product0);
    }
  }
}

template <class T> void sample(const Arguments& a) {
  const T* table = a.in[0].as<T>();
  const uint32_t* p = a.in[1].as<uint32_t>();
  const Place place = {p[0], p[1], p[2], p[3]};
  T* y = a.out[0].as<T>();
  const int64_t total = a.out[0].size();
  a.pool->run_ranges(total, 256 * elements_per_turn, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i += elements_per_turn) {
      uint32_t words[4][lanes];
      philox(place, uint64_t{place.first} + static_cast<uint64_t>(i / elements_per_block), words);
      const int64_t count = end - i < elements_per_turn ? end - i : elements_per_turn;
      for (int64_t e = 0; e < count; e++) {
        const uint32_t word = words[e % elements_per_block / 2][e / elements_per_block];
        y[i + e] = table[e & 1 ? word >> 16 : word & 0xffff];
      }
    }
  });
}

Status random_sample(const Arguments& a) {
  switch (a.out[0].dtype) {
    case DType::bfloat16: sample<bfloat16>(a); break;
    case DType::float64: sample<double>(a); break;
    default: sample<float>(a);
  }
  return {};
}

}  // namespace

ZAYA_OPERATION(random_sample)

}  // namespace zaya::ZAYA_ISA
