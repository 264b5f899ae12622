// The flat plan: what TypeScript hands over, numbers only. Its writer is packages/kernels/src/plan.ts; both carry the version.
//
//   header     version, sizes, tensors, steps, inputs, outputs, copies, arena bytes, guard bytes
//   tensor     dtype, encoding, place (0 arena, 1 store), offset or store slot, bytes at the maximum, rank, then for each
//              dimension: size index or -1, times, plus
//   step       operation index, in the tail (0/1), workspace offset, workspace bytes, inputs, (tensor or -1)…, outputs, tensor…,
//              attributes, value…
//   inputs     tensor…      outputs  tensor…      copies  (from tensor, to store tensor)…
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/mapping.h"
#include "core/operation.h"

namespace zaya {

constexpr int plan_version = 2;
constexpr uint8_t poison = 0xFF;  // a NaN in every type of numbers with a point: what reads it shows it

struct Block {  // one tensor of the store
  uint8_t* data = nullptr;
  size_t bytes = 0;
  std::shared_ptr<Mapping> mapping;  // set when the bytes are a part of a file, which its other tensors share
};

class Store {
 public:
  Store() = default;
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  Status add(size_t bytes, int* slot);
  Status map(const char* path, size_t offset, size_t bytes, int* slot);
  // Brings a mapped tensor into memory, on demand into huge pages; the bytes of others are there.
  void prefetch(int slot, bool huge) const;
  // Bytes of mapped tensors in huge pages; -1 where the system does not tell.
  int64_t huge_bytes() const;
  void remove(int slot);
  // Grows whenever a tensor comes or goes.
  int64_t changes() const { return changes_; }
  const Block* at(int slot) const { return slot >= 0 && slot < static_cast<int>(blocks_.size()) ? &blocks_[static_cast<size_t>(slot)] : nullptr; }

 private:
  std::vector<Block> blocks_;
  int64_t changes_ = 0;
  std::vector<std::weak_ptr<Mapping>> mappings_;
};

struct DimensionRule {
  int size;  // index of the bound size, or -1
  int64_t times;
  int64_t plus;
};

struct TensorRule {
  Tensor tensor;
  bool in_store;
  bool written;  // by a step or a copy
  size_t offset;  // in the arena, or the slot in the store
  size_t max_bytes;
  DimensionRule dimension[max_rank];
};

struct Step {
  const OperationEntry* operation;
  bool in_tail;
  size_t workspace, workspace_bytes;  // in the arena
  int first_in, num_in, first_out, num_out;  // into Plan::operands
  int first_attribute, num_attributes;
};

class Plan;

// Memory for what a run computes. The plans of a device have one in common, as large as the largest of them wants: they run one at a time.
class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Makes it so large at least; where it grows, what was in it is gone.
  Status reserve(size_t bytes);
  // Frees it if it is larger than any plan wants; the next run makes it anew.
  void shrink(size_t bytes);
  uint8_t* data() const { return data_; }
  // Grows whenever it is elsewhere than before.
  int64_t moves() const { return moves_; }
  // The plan whose values are in it; null where there are none.
  const Plan* holder = nullptr;

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
  int64_t moves_ = 0;
};

class Plan {
 public:
  Plan() = default;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  Status parse(const double* code, size_t length, Isa isa);
  // Workspace of each step at the maxima; sizes must be the maxima.
  Status workspaces(const double* maxima, Pool& pool, std::vector<double>* bytes);
  size_t arena_bytes() const { return arena_bytes_; }

  // Binds the sizes, and takes the arena; then each input can be copied to input(i), `run` can be called, and output(i) be read as long as it holds the arena.
  Status bind(const double* sizes, size_t count, const Store& store, Arena& arena, Pool& pool);
  Status run(Pool& pool, const std::atomic<bool>& abort, bool* aborted);
  const Tensor& input(size_t i) const { return tensors_[inputs_[i]].tensor; }
  const Tensor& output(size_t i) const { return tensors_[outputs_[i]].tensor; }
  size_t num_inputs() const { return inputs_.size(); }
  size_t num_outputs() const { return outputs_.size(); }
  // Nanoseconds of each step in the last run, when timing is on.
  std::vector<int64_t> times;
  bool timing = false;

 private:
  void bind_shapes(const double* sizes);
  void bind_operands();
  Arguments arguments(const Step& step) const;
  // With guard bytes: the poison behind each output and the workspace, laid before a step and read after it.
  void lay_guards(const Step& step);
  Status check_guards(const Step& step) const;

  std::vector<TensorRule> tensors_;
  std::vector<Step> steps_;
  std::vector<int> operands_;
  std::vector<Tensor> bound_;  // the operands, and the sizes and the state of store and arena that they were bound for
  std::vector<double> sizes_;
  int64_t store_changes_ = -1, arena_moves_ = -1;
  std::vector<double> attributes_;
  std::vector<size_t> inputs_, outputs_;
  std::vector<std::pair<size_t, size_t>> copies_;
  size_t num_sizes_ = 0;
  uint8_t* arena_ = nullptr;  // where it was at the last bind
  size_t arena_bytes_ = 0;
  size_t guard_bytes_ = 0;
};

// Bytes of a tensor of this shape; panels round rows to 32 and columns to 2 (cpu/gemm.h), or to 32 with scales (cpu/quantised.h).
size_t bytes_of(const Tensor& tensor);

}  // namespace zaya
