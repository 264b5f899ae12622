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

// Zeroed and 64-byte aligned (2 MiB aligned and offered to huge pages from 4 MiB on). Null when there is no memory.
void* allocate(size_t bytes);
// The same, but holding anything: what is large becomes memory only when it is written.
void* allocate_untouched(size_t bytes);
void release(void* data, size_t bytes);
MemoryUse memory_use();
// Starts a new peak at what is allocated now.
void reset_peak();

}  // namespace zaya
