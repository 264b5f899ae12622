#include "core/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>

namespace zaya {
namespace {

std::atomic<int64_t> current{0};
std::atomic<int64_t> peak{0};

// Blocks from here on are mapped by themselves. The sanitizer watches the ends of what the allocator gives.
#ifdef __SANITIZE_ADDRESS__
constexpr size_t least_mapped = SIZE_MAX;
#else
constexpr size_t least_mapped = 2 * huge_page;
#endif
constexpr size_t alignment = 64;

size_t padded(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// Zeroed memory on a boundary of huge pages, which become memory one by one when they are touched. Null when there is no room.
void* map_huge(size_t bytes) {
  if (bytes > SIZE_MAX - 2 * huge_page) return nullptr;
  const size_t length = padded(bytes, huge_page);
  void* mapped = mmap(nullptr, length + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* begin = static_cast<uint8_t*>(mapped);
  const size_t before = padded(reinterpret_cast<uintptr_t>(begin), huge_page) - reinterpret_cast<uintptr_t>(begin);
  if (before > 0) munmap(begin, before);
  munmap(begin + before + length, huge_page - before);
  madvise(begin + before, length, MADV_HUGEPAGE);
  return begin + before;
}

}  // namespace

void* allocate(size_t bytes) {
  void* data;
  if (bytes >= least_mapped) {
    data = map_huge(bytes);
  } else {
    data = std::aligned_alloc(alignment, padded(std::max(bytes, alignment), alignment));
    if (data != nullptr) std::memset(data, 0, bytes);
  }
  if (data == nullptr) return nullptr;
  const int64_t now = current.fetch_add(static_cast<int64_t>(bytes)) + static_cast<int64_t>(bytes);
  int64_t seen = peak.load();
  while (now > seen && !peak.compare_exchange_weak(seen, now)) {
  }
  return data;
}

void release(void* data, size_t bytes) {
  if (data == nullptr) return;
  if (bytes >= least_mapped) munmap(data, padded(bytes, huge_page));
  else std::free(data);
  current.fetch_sub(static_cast<int64_t>(bytes));
}

MemoryUse memory_use() { return {current.load(), peak.load()}; }
void reset_peak() { peak.store(current.load()); }

}  // namespace zaya
