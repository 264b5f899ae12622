#include "core/processor.h"

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace zaya {

std::vector<const char*> missing_features([[maybe_unused]] Isa isa) {
  std::vector<const char*> missing;
#if defined(__x86_64__)
  __builtin_cpu_init();
#define ZAYA_NEEDS(feature) \
  if (!__builtin_cpu_supports(feature)) missing.push_back(feature)
  if (isa >= Isa::avx2) {
    ZAYA_NEEDS("avx2");
    ZAYA_NEEDS("fma");
    ZAYA_NEEDS("bmi");
    ZAYA_NEEDS("bmi2");
    ZAYA_NEEDS("x86-64-v3");
  }
  if (isa == Isa::avx512) {
    ZAYA_NEEDS("avx512f");
    ZAYA_NEEDS("avx512bw");
    ZAYA_NEEDS("avx512cd");
    ZAYA_NEEDS("avx512dq");
    ZAYA_NEEDS("avx512vl");
    ZAYA_NEEDS("avx512bf16");
    ZAYA_NEEDS("avx512vnni");
  }
#undef ZAYA_NEEDS
#else
  if (isa != Isa::portable) missing.push_back("x86-64");
#endif
  return missing;
}

bool has_full_width() {
#if defined(__x86_64__)
  static const bool full = [] {
    if (const char* told = std::getenv("ZAYA_FULL_WIDTH")) return std::strcmp(told, "0") != 0;
    constexpr unsigned performance_leaf = 0x8000001a, fp512 = 1 << 3;  // AMD64 Architecture Programmer's Manual, volume 3, appendix E
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(performance_leaf, &a, &b, &c, &d) != 0 && (a & fp512) != 0;
  }();
  return full;
#else
  return false;
#endif
}

}  // namespace zaya
