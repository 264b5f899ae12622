// A file of weights, mapped into memory read-only: its pages are those of the system's cache of files, shared by all processes that map it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/status.h"

namespace zaya {

class Mapping {
 public:
  // Maps the whole file, which must have `bytes` at least.
  static Status open(const char* path, size_t bytes, std::shared_ptr<Mapping>* mapping);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  // Whether it is the file at this path.
  bool is_at(const char* path) const;

  // Brings [begin, begin + bytes) into memory.
  void populate(size_t begin, size_t bytes) const;

  // Brings it into huge pages as far as it lies in small ones, as it does after a copy or a download: the kernel moves it where it can, else that
  // part of the file leaves the cache and is read again. Where no page became huge by reading, that is not tried again.
  void populate_huge(size_t begin, size_t bytes);

  // How much of it is mapped by huge pages; -1 where the system does not tell (Linux before 6.7).
  int64_t huge_bytes(size_t begin, size_t bytes) const;

 private:
  Mapping(int file, void* data, size_t bytes) : file_(file), data_(static_cast<uint8_t*>(data)), bytes_(bytes) {}
  void read_again(size_t begin, size_t end);

  int file_;
  uint8_t* data_;
  size_t bytes_;
  bool reads_again_ = true;
};

}  // namespace zaya
