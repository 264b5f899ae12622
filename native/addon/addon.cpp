// The only C++ that knows JavaScript. One Device object owns a pool, a store and a dispatcher thread; `run` hands a plan to
// the dispatcher and resolves a promise when it is done. TypeScript starts one run at a time (packages/kernels/src/device.ts).
#include <napi.h>

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "core/memory.h"
#include "core/operation.h"
#include "core/plan.h"
#include "core/processor.h"
#include "cpu/measure.h"
#include "cpu/measure_products.h"

namespace {

using zaya::Plan;
using zaya::Status;

// An argument of another kind than expected has raised its own error already.
Napi::Value raise(Napi::Env env, const char* message) {
  if (!env.IsExceptionPending()) Napi::Error::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

struct Bytes {
  uint8_t* data;
  size_t size;
};

// Of a typed array over any memory, shared between threads of JavaScript as well. (Napi::TypedArray knows ArrayBuffers only.)
Bytes bytes_of(const Napi::Value& value) {
  void* data = nullptr;
  napi_get_typedarray_info(value.Env(), value, nullptr, nullptr, &data, nullptr, nullptr);
  return {static_cast<uint8_t*>(data), value.As<Napi::TypedArray>().ByteLength()};
}

bool within(size_t offset, size_t size, size_t bytes) { return offset <= bytes && size <= bytes - offset; }

class Device : public Napi::ObjectWrap<Device> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Device",
                       {
                           InstanceMethod<&Device::operations>("operations"),
                           InstanceMethod<&Device::add>("add"),
                           InstanceMethod<&Device::map>("map"),
                           InstanceMethod<&Device::prefetch>("prefetch"),
                           InstanceMethod<&Device::huge_bytes>("hugeBytes"),
                           InstanceMethod<&Device::remove>("remove"),
                           InstanceMethod<&Device::write>("write"),
                           InstanceMethod<&Device::read>("read"),
                           InstanceMethod<&Device::workspaces>("workspaces"),
                           InstanceMethod<&Device::compile>("compile"),
                           InstanceMethod<&Device::drop>("drop"),
                           InstanceMethod<&Device::run>("run"),
                           InstanceMethod<&Device::read_output>("readOutput"),
                           InstanceMethod<&Device::abort>("abort"),
                           InstanceMethod<&Device::times>("times"),
                           InstanceMethod<&Device::measure>("measure"),
                           InstanceMethod<&Device::measure_reads>("measureReads"),
                           InstanceMethod<&Device::close>("close"),
                       });
  }

  // new Device(threads, isa or "", shared cache or undefined)
  explicit Device(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Device>(info) {
    const Napi::Env env = info.Env();
    const std::string wanted = info[1].As<Napi::String>();
    Status status;
    isa_ = zaya::choose_isa(wanted.c_str(), &status);
    if (!status.ok()) {
      raise(env, status.message);
      return;
    }
    Value().Set("isa", Napi::String::New(env, zaya::name_of(isa_)));
    const std::optional<bool> shared_cache = info[2].IsBoolean() ? std::optional<bool>(info[2].As<Napi::Boolean>()) : std::nullopt;
    pool_ = std::make_unique<zaya::Pool>(info[0].As<Napi::Number>().Int32Value(), shared_cache);
    if (!pool_->has_memory()) {
      raise(env, "there is no memory for the threads of a device");
      return;
    }
    settled_ = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), "zaya", 0, 1);
    settled_.Unref(env);
    dispatcher_ = std::thread([this] { dispatch(); });
    napi_add_env_cleanup_hook(env, on_exit, this);
    hooked_ = true;
  }

  ~Device() { shut(); }

 private:
  // What the dispatcher does while JavaScript waits.
  struct Job {
    std::function<Status(bool* aborted)> work;
    std::function<napi_value(napi_env)> result = [](napi_env env) { return null_of(env); };
    napi_deferred deferred = nullptr;
    Status status;
    bool aborted = false;
  };

  static napi_value null_of(napi_env env) {
    napi_value null = nullptr;
    napi_get_null(env, &null);
    return null;
  }

  void dispatch() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return job_ != nullptr || closing_; });
      if (job_ == nullptr) return;
      Job* job = job_;
      job_ = nullptr;
      lock.unlock();
      job->status = job->work(&job->aborted);
      settled_.BlockingCall(job, [this](Napi::Env env, Napi::Function, Job* done) { settle(env, done); });
    }
  }

  // In plain Node-API, whose calls may fail: a worker thread of JavaScript can end at any time, and nobody waits for the answer then.
  void settle(napi_env env, Job* done) {
    const std::unique_ptr<Job> job(done);
    if (env == nullptr) return;
    running_ = false;
    running_plan_ = nullptr;
    settled_.Unref(env);
    if (job->status.ok()) {
      napi_value value = job->aborted ? null_of(env) : job->result(env);
      if (value != nullptr) napi_resolve_deferred(env, job->deferred, value);
    } else {
      napi_value message = nullptr, error = nullptr;
      napi_create_string_utf8(env, job->status.message, NAPI_AUTO_LENGTH, &message);
      if (napi_create_error(env, nullptr, message, &error) == napi_ok) napi_reject_deferred(env, job->deferred, error);
    }
  }

  Napi::Value start(Napi::Env env, std::unique_ptr<Job> job) {
    napi_value promise = nullptr;
    if (napi_create_promise(env, &job->deferred, &promise) != napi_ok) return {};
    running_ = true;
    settled_.Ref(env);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      job_ = job.release();
    }
    wake_.notify_one();
    return {env, promise};
  }

  static void on_exit(void* self) {
    auto* device = static_cast<Device*>(self);
    device->hooked_ = false;
    device->shut();
  }

  void shut() {
    if (!dispatcher_.joinable()) return;
    if (hooked_) napi_remove_env_cleanup_hook(Env(), on_exit, this);
    abort_.store(true);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      closing_ = true;
    }
    wake_.notify_one();
    dispatcher_.join();
    settled_.Release();
    plans_.clear();
    arena_.shrink(0);
    buffer_.give_back();
    store_.reset();
    pool_.reset();
  }

  Napi::Value operations(const Napi::CallbackInfo& info) {
    auto names = Napi::Array::New(info.Env());
    for (int i = 0; i < zaya::num_operations(isa_); i++) names.Set(static_cast<uint32_t>(i), zaya::operation_at(isa_, i).name);
    return names;
  }

  Napi::Value slot(Napi::Env env, const Status& status, int slot) {
    return status.ok() ? Napi::Number::New(env, slot).As<Napi::Value>() : raise(env, status.message);
  }

  Napi::Value add(const Napi::CallbackInfo& info) {  // (bytes) → slot
    int index = 0;
    const Status status = store_->add(static_cast<size_t>(info[0].As<Napi::Number>().Int64Value()), &index);
    return slot(info.Env(), status, index);
  }

  Napi::Value map(const Napi::CallbackInfo& info) {  // (path, offset, bytes) → slot
    int index = 0;
    const std::string path = info[0].As<Napi::String>();
    if (info.Env().IsExceptionPending()) return info.Env().Undefined();
    const Status status = store_->map(path.c_str(), static_cast<size_t>(info[1].As<Napi::Number>().Int64Value()),
                                      static_cast<size_t>(info[2].As<Napi::Number>().Int64Value()), &index);
    return slot(info.Env(), status, index);
  }

  Napi::Value prefetch(const Napi::CallbackInfo& info) {  // (slot, huge pages) → promise of null, when its bytes are in memory
    if (running_) return raise(info.Env(), "a run is in progress");
    const int index = info[0].As<Napi::Number>().Int32Value();
    if (store_->at(index) == nullptr) return raise(info.Env(), "no such tensor of the store");
    const bool huge = info[1].As<Napi::Boolean>();
    auto job = std::make_unique<Job>();
    job->work = [this, index, huge](bool*) {
      store_->prefetch(index, huge);
      return Status{};
    };
    return start(info.Env(), std::move(job));
  }

  Napi::Value huge_bytes(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), static_cast<double>(store_->huge_bytes())); }

  void remove(const Napi::CallbackInfo& info) {
    if (store_) store_->remove(info[0].As<Napi::Number>().Int32Value());
  }

  void write(const Napi::CallbackInfo& info) {  // (slot, offset, typed array)
    const zaya::Block* block = store_->at(info[0].As<Napi::Number>().Int32Value());
    const auto offset = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
    const Bytes from = bytes_of(info[2]);
    if (block == nullptr || block->mapping != nullptr || !within(offset, from.size, block->bytes)) {
      raise(info.Env(), "write outside of a tensor of the store, or into a mapped file");
      return;
    }
    if (from.size > 0) std::memcpy(block->data + offset, from.data, from.size);
  }

  void read(const Napi::CallbackInfo& info) {  // (slot, offset, typed array to fill)
    const zaya::Block* block = store_->at(info[0].As<Napi::Number>().Int32Value());
    const auto offset = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
    const Bytes to = bytes_of(info[2]);
    if (block == nullptr || !within(offset, to.size, block->bytes)) {
      raise(info.Env(), "read outside of a tensor of the store");
      return;
    }
    if (to.size > 0) std::memcpy(to.data, block->data + offset, to.size);
  }

  std::unique_ptr<Plan> parse(const Napi::CallbackInfo& info) {
    const auto code = info[0].As<Napi::Float64Array>();
    auto plan = std::make_unique<Plan>();
    const Status status = plan->parse(code.Data(), code.ElementLength(), isa_);
    if (status.ok()) return plan;
    raise(info.Env(), status.message);
    return nullptr;
  }

  Napi::Value workspaces(const Napi::CallbackInfo& info) {  // (plan without offsets, maxima) → bytes of each step
    auto plan = parse(info);
    if (!plan) return info.Env().Undefined();
    std::vector<double> bytes;
    plan->workspaces(info[1].As<Napi::Float64Array>().Data(), *pool_, &bytes);
    auto result = Napi::Float64Array::New(info.Env(), bytes.size());
    std::copy(bytes.begin(), bytes.end(), result.Data());
    return result;
  }

  Napi::Value compile(const Napi::CallbackInfo& info) {  // (plan) → id
    auto plan = parse(info);
    if (!plan) return info.Env().Undefined();
    // A lack of memory is told now, unless the arena is in use; then the run tells it.
    if (!running_ && arena_.holder == nullptr)
      if (const Status status = arena_.reserve(plan->arena_bytes()); !status.ok()) return raise(info.Env(), status.message);
    plans_[next_plan_] = std::move(plan);
    return Napi::Number::New(info.Env(), next_plan_++);
  }

  void drop(const Napi::CallbackInfo& info) {
    const auto found = plans_.find(info[0].As<Napi::Number>().Int32Value());
    if (found == plans_.end()) return;
    if (arena_.holder == found->second.get()) arena_.holder = nullptr;
    plans_.erase(found);
    size_t largest = 0;
    for (const auto& [_, plan] : plans_) largest = std::max(largest, plan->arena_bytes());
    if (!running_) arena_.shrink(largest);
  }

  // (id, sizes, inputs, timing, outputs) → promise of the buffers of the outputs with these indices, or of null when it was aborted
  Napi::Value run(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto found = plans_.find(info[0].As<Napi::Number>().Int32Value());
    if (running_ || found == plans_.end()) return raise(env, running_ ? "a run is in progress" : "no such plan");
    Plan* plan = found->second.get();
    const auto sizes = info[1].As<Napi::Float64Array>();
    const Status status = plan->bind(sizes.Data(), sizes.ElementLength(), *store_, arena_, *pool_);
    if (!status.ok()) return raise(env, status.message);
    const auto inputs = info[2].As<Napi::Array>();
    if (inputs.Length() != plan->num_inputs()) return raise(env, "the run has another number of inputs than the plan");
    for (uint32_t i = 0; i < inputs.Length(); i++) {
      const Napi::Value input = inputs.Get(i);
      if (input.IsEmpty()) return {};  // the worker thread ends
      const Bytes from = bytes_of(input);
      const zaya::Tensor& to = plan->input(i);
      if (from.size != zaya::bytes_of(to)) return raise(env, "an input has the wrong number of bytes");
      if (from.size > 0) std::memcpy(to.data, from.data, from.size);
    }
    plan->timing = info[3].As<Napi::Boolean>();
    const auto wanted = info[4].As<Napi::Uint32Array>();
    std::vector<uint32_t> outputs(wanted.Data(), wanted.Data() + wanted.ElementLength());
    for (const uint32_t output : outputs)
      if (output >= plan->num_outputs()) return raise(env, "no such output");
    abort_.store(false);
    running_plan_ = plan;
    auto job = std::make_unique<Job>();
    job->work = [this, plan](bool* aborted) { return plan->run(*pool_, abort_, aborted); };
    job->result = [plan, outputs](napi_env environment) {
      napi_value results = nullptr;
      bool made = napi_create_array_with_length(environment, outputs.size(), &results) == napi_ok;
      for (size_t i = 0; made && i < outputs.size(); i++) {
        const zaya::Tensor& output = plan->output(outputs[i]);
        const size_t bytes = zaya::bytes_of(output);
        void* data = nullptr;
        napi_value buffer = nullptr;
        made = napi_create_arraybuffer(environment, bytes, &data, &buffer) == napi_ok;
        if (made && bytes > 0) std::memcpy(data, output.data, bytes);
        made = made && napi_set_element(environment, results, static_cast<uint32_t>(i), buffer) == napi_ok;
      }
      return made ? results : nullptr;
    };
    return start(env, std::move(job));
  }

  void read_output(const Napi::CallbackInfo& info) {  // (id, output, offset, typed array to fill)
    const auto found = plans_.find(info[0].As<Napi::Number>().Int32Value());
    const auto index = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
    const auto offset = static_cast<size_t>(info[2].As<Napi::Number>().Int64Value());
    const Bytes to = bytes_of(info[3]);
    if (found == plans_.end() || found->second.get() == running_plan_ || index >= found->second->num_outputs()) {
      raise(info.Env(), "no such output, or its run is in progress");
      return;
    }
    const zaya::Tensor& output = found->second->output(index);
    if (arena_.holder != found->second.get()) {
      raise(info.Env(), "the outputs are gone: there was no run yet, or another executable of the device has run since");
      return;
    }
    if (!within(offset, to.size, zaya::bytes_of(output))) {
      raise(info.Env(), "read outside of an output");
      return;
    }
    if (to.size > 0) std::memcpy(to.data, output.as<uint8_t>() + offset, to.size);
  }

  void abort(const Napi::CallbackInfo&) { abort_.store(true); }

  Napi::Value times(const Napi::CallbackInfo& info) {  // (id) → nanoseconds of each step
    const auto found = plans_.find(info[0].As<Napi::Number>().Int32Value());
    if (found == plans_.end()) return raise(info.Env(), "no such plan");
    const auto& times = found->second->times;
    auto result = Napi::Float64Array::New(info.Env(), times.size());
    for (size_t i = 0; i < times.size(); i++) result[i] = static_cast<double>(times[i]);
    return result;
  }

  // ("float32" | "bfloat16" | "int8" | "read", milliseconds, keep the buffer) → promise of 10⁹ operations/s or GB/s on all threads
  Napi::Value measure(const Napi::CallbackInfo& info) {
    const std::string what = info[0].As<Napi::String>();
    const double milliseconds = info[1].As<Napi::Number>();
    return start_measuring(info, [this, what, milliseconds](double* value) { return zaya::measure(what.c_str(), milliseconds, isa_, *pool_, buffer_, value); });
  }

  // (bytes of each piece, milliseconds, keep the buffer) → promise of GB/s on all threads
  Napi::Value measure_reads(const Napi::CallbackInfo& info) {
    const auto sizes = info[0].As<Napi::Float64Array>();
    const std::vector<size_t> pieces(sizes.Data(), sizes.Data() + sizes.ElementLength());
    const double milliseconds = info[1].As<Napi::Number>();
    return start_measuring(info, [this, pieces, milliseconds](double* value) { return zaya::measure_reads(pieces, milliseconds, *pool_, buffer_, value); });
  }

  Napi::Value start_measuring(const Napi::CallbackInfo& info, std::function<Status(double* value)> measurement) {
    const Napi::Env env = info.Env();
    const bool keep = info[2].As<Napi::Boolean>();
    if (running_ || env.IsExceptionPending()) return raise(env, "a run is in progress");
    auto value = std::make_shared<double>(0);
    auto job = std::make_unique<Job>();
    job->work = [this, value, measurement, keep](bool*) {
      const Status status = measurement(value.get());
      if (!keep) buffer_.give_back();
      return status;
    };
    job->result = [value](napi_env environment) {
      napi_value number = nullptr;
      napi_create_double(environment, *value, &number);
      return number;
    };
    return start(env, std::move(job));
  }

  void close(const Napi::CallbackInfo&) { shut(); }

  zaya::Isa isa_ = zaya::Isa::portable;
  std::unique_ptr<zaya::Pool> pool_;
  std::unique_ptr<zaya::Store> store_ = std::make_unique<zaya::Store>();
  std::map<int, std::unique_ptr<Plan>> plans_;
  zaya::Arena arena_;
  zaya::ReadBuffer buffer_;  // of measurements
  int next_plan_ = 1;
  Napi::ThreadSafeFunction settled_;
  std::thread dispatcher_;
  std::mutex mutex_;
  std::condition_variable wake_;
  Job* job_ = nullptr;
  bool closing_ = false;
  bool running_ = false;
  const Plan* running_plan_ = nullptr;
  bool hooked_ = false;
  std::atomic<bool> abort_{false};
};

Napi::Value memory(const Napi::CallbackInfo& info) {
  const zaya::MemoryUse use = zaya::memory_use();
  auto result = Napi::Object::New(info.Env());
  result.Set("currentBytes", static_cast<double>(use.current_bytes));
  result.Set("peakBytes", static_cast<double>(use.peak_bytes));
  return result;
}

void reset_peak(const Napi::CallbackInfo&) { zaya::reset_peak(); }

// Every instruction set, the best last: its name, whether this build has kernels for it, what the processor lacks, and the instruction that
// multiplies operands of each type.
Napi::Value instruction_sets(const Napi::CallbackInfo& info) {
  auto sets = Napi::Array::New(info.Env());
  for (int i = 0; i < zaya::num_isas; i++) {
    const auto isa = static_cast<zaya::Isa>(i);
    auto missing = Napi::Array::New(info.Env());
    for (const char* feature : zaya::missing_features(isa)) missing.Set(missing.Length(), feature);
    auto set = Napi::Object::New(info.Env());
    set.Set("name", zaya::name_of(isa));
    set.Set("built", zaya::num_operations(isa) > 0);
    set.Set("missing", missing);
    auto instructions = Napi::Object::New(info.Env());
    instructions.Set("float32", zaya::product_body(isa, zaya::Product::float32).instruction);
    instructions.Set("bfloat16", zaya::product_body(isa, zaya::Product::bfloat16).instruction);
    instructions.Set("int8", zaya::product_body(isa, zaya::Product::int8).instruction);
    set.Set("instructions", instructions);
    sets.Set(static_cast<uint32_t>(i), set);
  }
  return sets;
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  exports.Set("planVersion", zaya::plan_version);
  exports.Set("Device", Device::define(env));
  exports.Set("instructionSets", Napi::Function::New(env, instruction_sets));
  exports.Set("memory", Napi::Function::New(env, memory));
  exports.Set("resetPeak", Napi::Function::New(env, reset_peak));
  return exports;
}

}  // namespace

NODE_API_MODULE(zaya, initialise)
