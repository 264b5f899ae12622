#include "core/plan.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "core/memory.h"

namespace zaya {

Store::~Store() {
  for (int i = 0; i < static_cast<int>(blocks_.size()); i++) remove(i);
}

Status Store::add(size_t bytes, int* slot) {
  void* data = allocate(bytes);
  if (data == nullptr) return error("no memory for a tensor of %zu bytes; use a smaller model or shorter context", bytes);
  blocks_.push_back({static_cast<uint8_t*>(data), bytes, nullptr});
  changes_++;
  *slot = static_cast<int>(blocks_.size()) - 1;
  return {};
}

// A thousand tensors of a file are parts of one mapping, so that huge pages can hold several.
Status Store::map(const char* path, size_t offset, size_t bytes, int* slot) {
  if (bytes > SIZE_MAX - offset) return error("%s: no file has %zu bytes from byte %zu on", path, bytes, offset);
  std::erase_if(mappings_, [](const auto& mapping) { return mapping.expired(); });
  std::shared_ptr<Mapping> mapping;
  for (const auto& weak : mappings_)
    if (const auto known = weak.lock(); known && known->is_at(path) && known->bytes() >= offset + bytes) mapping = known;
  if (!mapping) {
    if (Status status = Mapping::open(path, offset + bytes, &mapping); !status.ok()) return status;
    mappings_.push_back(mapping);
  }
  blocks_.push_back({mapping->data() + offset, bytes, mapping});
  changes_++;
  *slot = static_cast<int>(blocks_.size()) - 1;
  return {};
}

void Store::prefetch(int slot, bool huge) const {
  const Block& block = blocks_[static_cast<size_t>(slot)];
  if (!block.mapping) return;
  const auto offset = static_cast<size_t>(block.data - block.mapping->data());
  if (huge) block.mapping->populate_huge(offset, block.bytes);
  else block.mapping->populate(offset, block.bytes);
}

int64_t Store::huge_bytes() const {
  int64_t total = 0;
  for (const Block& block : blocks_)
    if (block.mapping) {
      const int64_t bytes = block.mapping->huge_bytes(static_cast<size_t>(block.data - block.mapping->data()), block.bytes);
      if (bytes < 0) return -1;
      total += bytes;
    }
  return total;
}

void Store::remove(int slot) {
  Block& block = blocks_[static_cast<size_t>(slot)];
  if (!block.mapping) release(block.data, block.bytes);
  block = {};
  changes_++;
}

size_t bytes_of(const Tensor& tensor) {
  if (tensor.encoding == Encoding::plain) return static_cast<size_t>(tensor.size()) * size_of(tensor.dtype);
  const int64_t columns = tensor.rank > 0 ? tensor.shape[tensor.rank - 1] : 1;
  if (tensor.encoding == Encoding::rows)
    return static_cast<size_t>(tensor.rows() * ((columns + 255) / 256) * row_record_bytes);
  const int64_t rows = tensor.rank > 1 ? tensor.shape[tensor.rank - 2] : 1;
  int64_t matrices = 1;
  for (int i = 0; i + 2 < tensor.rank; i++) matrices *= tensor.shape[i];
  if (tensor.dtype == DType::int8 || tensor.dtype == DType::int6 || tensor.dtype == DType::int4) {
    const int64_t bits = tensor.dtype == DType::int8 ? 8 : tensor.dtype == DType::int6 ? 6 : 4;
    const int64_t group = 32 * 32 * bits / 8 + (bits == 8 ? 0 : 64);
    return static_cast<size_t>(matrices * ((rows + 31) / 32) * ((columns + 31) / 32 * group + (columns + 255) / 256 * 128));
  }
  return static_cast<size_t>(matrices * ((rows + 31) / 32 * 32) * ((columns + 1) / 2 * 2)) * size_of(tensor.dtype);
}

namespace {
constexpr int most_inputs = 16;  // of an operation
}

Arena::~Arena() { release(data_, bytes_); }

Status Arena::reserve(size_t bytes) {
  if (bytes <= bytes_) return {};
  shrink(0);
  data_ = static_cast<uint8_t*>(allocate(bytes));
  if (data_ == nullptr) return error("no memory for an arena of %zu bytes; use a smaller batch or model", bytes);
  bytes_ = bytes;
  moves_++;
  return {};
}

void Arena::shrink(size_t bytes) {
  if (bytes >= bytes_) return;
  release(data_, bytes_);
  data_ = nullptr;
  bytes_ = 0;
  holder = nullptr;
}

Status Plan::parse(const double* code, size_t length, Isa isa) {
  size_t at = 0;
  bool short_plan = false;
  auto next = [&]() -> double {
    if (at < length) return code[at++];
    short_plan = true;
    return 0;
  };
  auto count = [&]() -> size_t {
    const double n = next();
    if (!(n >= 0 && n <= 0x1p53)) short_plan = true;
    return short_plan ? 0 : static_cast<size_t>(n);
  };
  const int version = static_cast<int>(next());
  if (version != plan_version)
    return error("the plan has version %d, this addon reads %d; install matching versions of @zaya/kernels and its platform package", version, plan_version);
  num_sizes_ = count();
  const size_t tensors = count(), steps = count(), inputs = count(), outputs = count(), copies = count();
  arena_bytes_ = count();
  guard_bytes_ = count();
  for (size_t i = 0; i < tensors && !short_plan; i++) {
    TensorRule rule = {};
    rule.tensor.dtype = static_cast<DType>(static_cast<int>(next()));
    rule.tensor.encoding = static_cast<Encoding>(static_cast<int>(next()));
    rule.in_store = next() != 0;
    rule.offset = count();
    rule.max_bytes = count();
    rule.tensor.rank = static_cast<int>(next());
    if (rule.tensor.rank < 0 || rule.tensor.rank > max_rank) return error("the plan has a tensor of %d dimensions; at most %d", rule.tensor.rank, max_rank);
    for (int d = 0; d < rule.tensor.rank; d++) {
      rule.dimension[d].size = static_cast<int>(next());
      rule.dimension[d].times = static_cast<int64_t>(next());
      rule.dimension[d].plus = static_cast<int64_t>(next());
      if (rule.dimension[d].size >= static_cast<int>(num_sizes_)) return error("the plan names size %d of %zu", rule.dimension[d].size, num_sizes_);
    }
    tensors_.push_back(rule);
  }
  auto tensor_index = [&](bool optional) -> int {
    const int index = static_cast<int>(next());
    if (index >= static_cast<int>(tensors) || index < (optional ? -1 : 0)) short_plan = true;
    return short_plan ? -1 : index;
  };
  for (size_t i = 0; i < steps && !short_plan; i++) {
    Step step = {};
    const int operation = static_cast<int>(next());
    if (operation < 0 || operation >= num_operations(isa)) return error("the plan names operation %d of %d", operation, num_operations(isa));
    step.operation = &operation_at(isa, operation);
    step.in_tail = next() != 0;
    step.workspace = count();
    step.workspace_bytes = count();
    step.num_in = static_cast<int>(next());
    step.first_in = static_cast<int>(operands_.size());
    for (int k = 0; k < step.num_in && !short_plan; k++) operands_.push_back(tensor_index(true));
    // What a call leaves out at the end is absent, not the next operand.
    for (int k = step.num_in; k < most_inputs; k++) operands_.push_back(-1);
    step.num_out = static_cast<int>(next());
    step.first_out = static_cast<int>(operands_.size());
    for (int k = 0; k < step.num_out && !short_plan; k++) operands_.push_back(tensor_index(false));
    step.num_attributes = static_cast<int>(next());
    step.first_attribute = static_cast<int>(attributes_.size());
    for (int k = 0; k < step.num_attributes && !short_plan; k++) attributes_.push_back(next());
    steps_.push_back(step);
  }
  for (size_t i = 0; i < inputs && !short_plan; i++) inputs_.push_back(static_cast<size_t>(tensor_index(false)));
  for (size_t i = 0; i < outputs && !short_plan; i++) outputs_.push_back(static_cast<size_t>(tensor_index(false)));
  for (size_t i = 0; i < copies && !short_plan; i++) {
    const auto from = static_cast<size_t>(tensor_index(false));
    copies_.emplace_back(from, static_cast<size_t>(tensor_index(false)));
  }
  if (short_plan || at != length) return error("the plan is malformed at number %zu of %zu", at, length);
  for (const Step& step : steps_)
    for (int k = 0; k < step.num_out; k++) tensors_[static_cast<size_t>(operands_[static_cast<size_t>(step.first_out + k)])].written = true;
  for (const auto& copy : copies_) tensors_[copy.second].written = true;
  return {};
}

void Plan::bind_shapes(const double* sizes) {
  for (TensorRule& rule : tensors_)
    for (int d = 0; d < rule.tensor.rank; d++) {
      const DimensionRule& dimension = rule.dimension[d];
      rule.tensor.shape[d] = dimension.size < 0 ? dimension.plus : dimension.times * static_cast<int64_t>(sizes[dimension.size]) + dimension.plus;
    }
}

void Plan::bind_operands() {
  bound_.assign(operands_.size(), Tensor{});
  for (size_t i = 0; i < operands_.size(); i++)
    if (operands_[i] >= 0) bound_[i] = tensors_[static_cast<size_t>(operands_[i])].tensor;
}

Arguments Plan::arguments(const Step& step) const {
  Arguments call;
  call.in = bound_.data() + step.first_in;
  call.num_in = step.num_in;
  call.out = bound_.data() + step.first_out;
  call.num_out = step.num_out;
  call.attribute = attributes_.data() + step.first_attribute;
  return call;
}

Status Plan::workspaces(const double* maxima, Pool& pool, std::vector<double>* bytes) {
  bind_shapes(maxima);
  bind_operands();
  for (const Step& step : steps_) {
    Arguments call = arguments(step);
    call.pool = &pool;
    bytes->push_back(static_cast<double>(step.operation->workspace(call)));
  }
  return {};
}

Status Plan::bind(const double* sizes, size_t count, const Store& store, Arena& arena, Pool& pool) {
  if (count != num_sizes_) return error("the plan binds %zu sizes, received %zu", num_sizes_, count);
  if (Status status = arena.reserve(arena_bytes_); !status.ok()) return status;
  arena.holder = nullptr;
  // Generation binds the same sizes step after step: what is bound already stays.
  if (store_changes_ == store.changes() && arena_moves_ == arena.moves() && std::equal(sizes, sizes + count, sizes_.begin(), sizes_.end())) {
    arena.holder = this;
    return {};
  }
  store_changes_ = -1;
  arena_ = arena.data();
  bind_shapes(sizes);
  for (TensorRule& rule : tensors_) {
    const size_t bytes = bytes_of(rule.tensor);
    if (bytes > rule.max_bytes) return error("a tensor wants %zu bytes where %zu were planned", bytes, rule.max_bytes);
    const Block* block = rule.in_store ? store.at(static_cast<int>(rule.offset)) : nullptr;
    if (rule.in_store && (block == nullptr || block->data == nullptr || block->bytes < bytes))
      return error("tensor %zu of the store is gone or too small", rule.offset);
    if (rule.in_store && rule.written && block->mapping) return error("tensor %zu of the store is mapped from a file and cannot be written", rule.offset);
    rule.tensor.data = rule.in_store ? block->data : arena_ + rule.offset;
  }
  bind_operands();
  for (const Step& step : steps_) {
    Arguments call = arguments(step);
    call.pool = &pool;
    const size_t bytes = step.operation->workspace(call);
    if (bytes > step.workspace_bytes) return error("[%s] wants a workspace of %zu bytes where %zu were planned", step.operation->name, bytes, step.workspace_bytes);
  }
  sizes_.assign(sizes, sizes + count);
  store_changes_ = store.changes();
  arena_moves_ = arena.moves();
  arena.holder = this;
  return {};
}

void Plan::lay_guards(const Step& step) {
  for (int k = 0; k < step.num_out; k++) {
    const TensorRule& rule = tensors_[static_cast<size_t>(operands_[static_cast<size_t>(step.first_out + k)])];
    if (!rule.in_store) std::memset(arena_ + rule.offset + rule.max_bytes, poison, guard_bytes_);
  }
  if (step.workspace_bytes > 0) std::memset(arena_ + step.workspace + step.workspace_bytes, poison, guard_bytes_);
}

Status Plan::check_guards(const Step& step) const {
  auto broken = [&](size_t end) {
    for (size_t i = 0; i < guard_bytes_; i++)
      if (arena_[end + i] != poison) return true;
    return false;
  };
  for (int k = 0; k < step.num_out; k++) {
    const TensorRule& rule = tensors_[static_cast<size_t>(operands_[static_cast<size_t>(step.first_out + k)])];
    if (!rule.in_store && broken(rule.offset + rule.max_bytes)) return error("[%s] wrote past the end of output %d", step.operation->name, k);
  }
  if (step.workspace_bytes > 0 && broken(step.workspace + step.workspace_bytes)) return error("[%s] wrote past the end of its workspace", step.operation->name);
  return {};
}

Status Plan::run(Pool& pool, const std::atomic<bool>& abort, bool* aborted) {
  *aborted = false;
  if (timing) times.assign(steps_.size(), 0);
  for (size_t i = 0; i < steps_.size(); i++) {
    const Step& step = steps_[i];
    if (!step.in_tail && abort.load(std::memory_order_relaxed)) {
      *aborted = true;
      return {};
    }
    Arguments call = arguments(step);
    call.workspace = arena_ + step.workspace;
    call.pool = &pool;
    if (guard_bytes_ > 0) lay_guards(step);
    pool.look_around(std::chrono::steady_clock::now());
    const auto start = std::chrono::steady_clock::now();
    const Status status = step.operation->kernel(call);
    if (!status.ok()) return status;
    if (timing) times[i] = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count();
    if (guard_bytes_ > 0) {
      const Status guarded = check_guards(step);
      if (!guarded.ok()) return guarded;
    }
  }
  for (const auto& [from, to] : copies_) std::memcpy(tensors_[to].tensor.data, tensors_[from].tensor.data, bytes_of(tensors_[from].tensor));
  return {};
}

}  // namespace zaya
