// Ways to read memory in order. Which is the fastest differs from processor to processor and with where it has placed the threads.
#pragma once
#include <cstddef>
#include <cstdint>

namespace zaya {

// Reads `bytes` (a multiple of 1 KiB; p is 64-byte aligned) and returns a number that depends on them all.
using Read = int64_t (*)(const uint8_t* p, size_t bytes);

int64_t read_in_order(const uint8_t* p, size_t bytes);
int64_t read_four_streams(const uint8_t* p, size_t bytes);             // a quarter of the memory each
int64_t read_four_streams_prefetched(const uint8_t* p, size_t bytes);  // and 2 KiB ahead of itself

}  // namespace zaya
