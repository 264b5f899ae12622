#include "core/processor.h"

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

}  // namespace zaya
