#include "core/mapping.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/memory.h"

namespace zaya {
namespace {

// linux/fs.h and linux/mman.h of Linux 6.7, which many a system's headers are older than.
constexpr int collapse_advice = 25;  // MADV_COLLAPSE
constexpr uint64_t is_huge = 1 << 6;  // PAGE_IS_HUGE
struct PageRegion {
  uint64_t start, end, categories;
};
struct ScanArguments {
  uint64_t size, flags, start, end, walk_end, regions, num_regions, max_pages, inverted, mask, any_of, returned;
};
#define ZAYA_PAGEMAP_SCAN _IOWR('f', 16, ScanArguments)

// Calls fn(first, last) for every run of [begin, end) that huge pages map, in ascending order. False where the system cannot tell.
template <class F> bool for_huge_runs(const uint8_t* begin, const uint8_t* end, F&& fn) {
  const int pages = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (pages < 0) return false;
  PageRegion regions[64];
  ScanArguments scan = {};
  scan.size = sizeof scan;
  scan.start = reinterpret_cast<uint64_t>(begin), scan.end = reinterpret_cast<uint64_t>(end);
  scan.regions = reinterpret_cast<uint64_t>(regions), scan.num_regions = std::size(regions);
  scan.mask = scan.returned = is_huge;
  int found = 0;
  while (scan.start < scan.end && (found = ioctl(pages, ZAYA_PAGEMAP_SCAN, &scan)) >= 0) {
    for (const PageRegion* r = regions; r < regions + found; r++) fn(reinterpret_cast<uint8_t*>(r->start), reinterpret_cast<uint8_t*>(r->end));
    scan.start = scan.walk_end;
  }
  close(pages);
  return found >= 0;
}

}  // namespace

Status Mapping::open(const char* path, size_t bytes, std::shared_ptr<Mapping>* mapping) {
  const int file = ::open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return error("cannot open %s: %s", path, std::strerror(errno));
  struct stat info;
  if (fstat(file, &info) != 0 || static_cast<size_t>(info.st_size) < bytes) {
    close(file);
    return error("%s is shorter than the %zu bytes its header promises", path, bytes);
  }
  const auto size = static_cast<size_t>(info.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
  if (data == MAP_FAILED) {
    const int reason = errno;
    close(file);
    return error("cannot map %s: %s", path, std::strerror(reason));
  }
  madvise(data, size, MADV_HUGEPAGE);
  mapping->reset(new Mapping(file, data, size));
  return {};
}

Mapping::~Mapping() {
  munmap(data_, bytes_);
  close(file_);
}

bool Mapping::is_at(const char* path) const {
  struct stat own, other;
  return fstat(file_, &own) == 0 && stat(path, &other) == 0 && own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

void Mapping::populate(size_t begin, size_t bytes) const {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t first = begin / page * page, end = begin + bytes;
#if defined(MADV_POPULATE_READ)
  if (madvise(data_ + first, end - first, MADV_POPULATE_READ) == 0) return;
#endif
  // Kernels before 5.14: touch every page.
  volatile uint8_t sink = 0;
  for (size_t i = first; i < end; i += page) sink = data_[i];
  (void)sink;
}

void Mapping::populate_huge(size_t begin, size_t bytes) {
  populate(begin, bytes);
  // The whole huge pages that it reaches into. A mapping that does not begin at one has none.
  const size_t first = begin / huge_page * huge_page, end = std::min((begin + bytes + huge_page - 1) / huge_page, bytes_ / huge_page) * huge_page;
  if (first >= end || reinterpret_cast<uintptr_t>(data_) % huge_page != 0) return;
  size_t small = first;
  const bool told = for_huge_runs(data_ + first, data_ + end, [&](const uint8_t* from, const uint8_t* to) {
    read_again(small, static_cast<size_t>(from - data_));
    small = static_cast<size_t>(to - data_);
  });
  if (told) read_again(small, end);
  else madvise(data_ + first, end - first, collapse_advice);
}

// Small pages of the cache become huge ones. Both ends are those of huge pages.
void Mapping::read_again(size_t begin, size_t end) {
  if (begin >= end || madvise(data_ + begin, end - begin, collapse_advice) == 0 || !reads_again_) return;
  fdatasync(file_);  // what is not on the disk yet stays in the cache
  madvise(data_ + begin, end - begin, MADV_DONTNEED);
  posix_fadvise(file_, static_cast<off_t>(begin), static_cast<off_t>(end - begin), POSIX_FADV_DONTNEED);
  populate(begin, end - begin);
  reads_again_ = huge_bytes(begin, end - begin) > 0;
}

int64_t Mapping::huge_bytes(size_t begin, size_t bytes) const {
  int64_t total = 0;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), first = begin / page * page, end = (begin + bytes + page - 1) / page * page;
  const uint8_t *from = data_ + begin, *to = from + bytes;
  const bool told = for_huge_runs(data_ + first, data_ + end, [&](const uint8_t* a, const uint8_t* b) { total += std::min(b, to) - std::max(a, from); });
  return told ? total : -1;
}

}  // namespace zaya
