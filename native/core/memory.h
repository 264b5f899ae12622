// Every native allocation goes through here, so one counter tells them all.
#pragma once
#include <cstddef>
#include <cstdint>

namespace zaya {

constexpr size_t huge_page = size_t(2) << 20;

struct MemoryUse {
  int64_t current_bytes;
  int64_t peak_bytes;
};

// Zeroed and 64-byte aligned. From 4 MiB on it begins with a huge page, and becomes memory as it is touched: a cache for many requests takes what those in it
// take. Null when there is no memory.
void* allocate(size_t bytes);
// bytes: as many as it was allocated with.
void release(void* data, size_t bytes);
MemoryUse memory_use();
// Starts a new peak at what is allocated now.
void reset_peak();

}  // namespace zaya
