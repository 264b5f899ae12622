#include "core/operation.h"

#include <vector>

#include "core/processor.h"

namespace zaya {
namespace {

struct InstructionSet {
  const char* name;
  const char* needs;  // what a processor must have
};
constexpr InstructionSet sets[num_isas] = {{"portable", "nothing"}, {"avx2", "AVX2 with FMA (x86-64-v3)"}, {"avx512", "AVX-512 with BF16 and VNNI"}};

std::vector<OperationEntry>& table(Isa isa) {
  static std::vector<OperationEntry> tables[num_isas];
  return tables[static_cast<int>(isa)];
}

bool available(Isa isa) { return num_operations(isa) > 0 && missing_features(isa).empty(); }

}  // namespace

void register_operation(Isa isa, const OperationEntry& entry) { table(isa).push_back(entry); }

int num_operations(Isa isa) { return static_cast<int>(table(isa).size()); }
const OperationEntry& operation_at(Isa isa, int index) { return table(isa)[static_cast<size_t>(index)]; }

const char* name_of(Isa isa) { return sets[static_cast<int>(isa)].name; }

Isa choose_isa(const char* wanted, Status* status) {
  const bool any = wanted == nullptr || *wanted == 0;
  for (int i = num_isas - 1; i >= 0; i--) {
    const Isa isa = static_cast<Isa>(i);
    if (!any && std::strcmp(wanted, sets[i].name) != 0) continue;
    if (available(isa)) return isa;
    if (!any) {
      *status = error("the instruction set %s needs %s, which this processor lacks; leave it out or use %s", wanted, sets[i].needs,
                      name_of(choose_isa(nullptr, status)));
      return Isa::portable;
    }
  }
  *status = error("the instruction set (ZAYA_ISA) is avx512, avx2 or portable, received %s", wanted);
  return Isa::portable;
}

}  // namespace zaya
