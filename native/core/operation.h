// What an operation is to the native side: a name, a kernel, and the workspace the kernel wants.
// One source serves every instruction set: the files in ops/ are compiled once for each, with ZAYA_ISA naming the
// namespace (portable, avx2, avx512); the registry keeps one table for each.
#pragma once
#include <cstring>

#include "core/pool.h"
#include "core/status.h"
#include "core/tensor.h"

#ifndef ZAYA_ISA
#define ZAYA_ISA portable
#endif

namespace zaya {

struct Arguments {
  const Tensor* in = nullptr;  // in the order of the operation's TypeScript definition; absent ones have rank -1
  int num_in = 0;
  const Tensor* out = nullptr;
  int num_out = 0;
  const double* attribute = nullptr;  // in the order of the TypeScript definition's `attributes`
  uint8_t* workspace = nullptr;       // 64-byte aligned, as many bytes as the workspace function asked for
  Pool* pool = nullptr;

  int64_t integer(int i) const { return static_cast<int64_t>(attribute[i]); }
  bool flag(int i) const { return attribute[i] != 0; }
};

using Kernel = Status (*)(const Arguments&);

// Bytes of workspace for tensors of these shapes (the plan's maxima; data pointers are null) on pool->threads() threads.
// Must not shrink when a shape grows; a run at sizes that want more than was planned is refused.
using Workspace = size_t (*)(const Arguments&);

struct OperationEntry {
  const char* name;
  Kernel kernel;
  Workspace workspace;
};

// portable: what every processor has (on x86-64, SSE2). avx2: x86-64-v3, with fused multiply-adds. avx512: x86-64-v4 with BF16 and VNNI.
enum class Isa : int32_t { portable = 0, avx2 = 1, avx512 = 2 };
constexpr int num_isas = 3;

void register_operation(Isa isa, const OperationEntry& entry);
int num_operations(Isa isa);
const OperationEntry& operation_at(Isa isa, int index);
// The best set this processor has; ZAYA_ISA in the environment lowers it.
Isa choose_isa(const char* wanted, Status* status);
const char* name_of(Isa isa);

inline size_t no_workspace(const Arguments&) { return 0; }
inline size_t align64(size_t bytes) { return (bytes + 63) & ~size_t(63); }

struct Registration {
  Registration(Isa isa, const char* name, Kernel kernel, Workspace workspace) { register_operation(isa, {name, kernel, workspace}); }
};

}  // namespace zaya

// At the end of an operation's .cpp, inside namespace zaya::ZAYA_ISA:
//   ZAYA_OPERATION(rms_norm)                 kernel function `rms_norm`, no workspace
//   ZAYA_OPERATION_WITH_WORKSPACE(linear)    and `linear_workspace`
#define ZAYA_OPERATION(name) static const ::zaya::Registration registration_##name(::zaya::Isa::ZAYA_ISA, #name, name, ::zaya::no_workspace);
#define ZAYA_OPERATION_WITH_WORKSPACE(name) \
  static const ::zaya::Registration registration_##name(::zaya::Isa::ZAYA_ISA, #name, name, name##_workspace);
