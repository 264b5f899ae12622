#include "core/operation.h"

#include <vector>

namespace zaya {
namespace {

std::vector<OperationEntry>& table(Isa isa) {
  static std::vector<OperationEntry> tables[2];
  return tables[static_cast<int>(isa)];
}

bool has_avx512() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("avx2");
#else
  return false;
#endif
}

}  // namespace

void register_operation(Isa isa, const OperationEntry& entry) { table(isa).push_back(entry); }

const OperationEntry* find_operation(Isa isa, const char* name) {
  for (const OperationEntry& entry : table(isa))
    if (std::strcmp(entry.name, name) == 0) return &entry;
  return nullptr;
}

int num_operations(Isa isa) { return static_cast<int>(table(isa).size()); }
const OperationEntry& operation_at(Isa isa, int index) { return table(isa)[static_cast<size_t>(index)]; }

const char* name_of(Isa isa) { return isa == Isa::avx512 ? "avx512" : "portable"; }

Isa choose_isa(const char* wanted, Status* status) {
  const bool avx512 = has_avx512() && num_operations(Isa::avx512) > 0;
  if (wanted == nullptr || *wanted == 0) return avx512 ? Isa::avx512 : Isa::portable;
  if (std::strcmp(wanted, "portable") == 0) return Isa::portable;
  if (std::strcmp(wanted, "avx512") == 0 && avx512) return Isa::avx512;
  if (std::strcmp(wanted, "avx512") == 0)
    *status = error("ZAYA_ISA=avx512 was asked for, but this processor lacks AVX-512 with BF16; unset it or use portable");
  else
    *status = error("ZAYA_ISA=%s is not known; use avx512 or portable", wanted);
  return Isa::portable;
}

}  // namespace zaya
