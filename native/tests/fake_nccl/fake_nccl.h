// NCCL as the plugin meets it: loads the built plugin as NCCL does and calls it through one version of the interface.
// What a descriptor does not say is filled with garbage, as it is in NCCL's own.
#pragma once

#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "abi.h"

namespace shardprof::test {

namespace abi = nccl::abi;

template <int version>
struct Interface;
template <>
struct Interface<3> {
  using Profiler = abi::ProfilerV3;
  using Event = abi::EventV3;
  using Arguments = abi::StateArgsV3;
};
template <>
struct Interface<4> {
  using Profiler = abi::ProfilerV4;
  using Event = abi::EventV4;
  using Arguments = abi::StateArgsV4;
};
template <>
struct Interface<5> {
  using Profiler = abi::ProfilerV5;
  using Event = abi::EventV5;
  using Arguments = abi::StateArgsV4;
};
template <>
struct Interface<6> {
  using Profiler = abi::ProfilerV6;
  using Event = abi::EventV6;
  using Arguments = abi::StateArgsV4;
};

struct Library {
  explicit Library(const char* path) : handle(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (handle == nullptr) {
      std::fprintf(stderr, "%s\n", dlerror());
      std::exit(1);
    }
  }
  ~Library() { dlclose(handle); }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  void* handle;
};

struct Collective {
  const char* function = "AllGather";
  uint64_t sequence = 0;
  size_t count = 0;
  uint8_t channels = 2;
  const char* datatype = "ncclBfloat16";
  const char* algorithm = "RING";
  const char* protocol = "SIMPLE";
  int root = 0;
};

// One communicator of one rank.
template <int version>
class FakeNccl {
 public:
  using Event = typename Interface<version>::Event;
  using Arguments = typename Interface<version>::Arguments;

  explicit FakeNccl(const Library& library, uint64_t hash = 0xfeed, int rank = 0, int ranks = 2)
      : hash_(hash), rank_(rank) {
    const std::string symbol = "ncclProfiler_v" + std::to_string(version);
    profiler_ = static_cast<typename Interface<version>::Profiler*>(dlsym(library.handle, symbol.c_str()));
    if (profiler_ == nullptr) std::exit(1);
    if constexpr (version == 3) {
      result_ = profiler_->init(&context_, &mask_);
    } else if constexpr (version == 4) {
      result_ = profiler_->init(&context_, &mask_, "the group", hash, 1, ranks, rank, nullptr);
    } else {
      result_ = profiler_->init(&context_, hash, &mask_, "the group", 1, ranks, rank, nullptr);
    }
  }

  [[nodiscard]] int result() const { return result_; }
  [[nodiscard]] int mask() const { return mask_; }

  void finalize() { result_ |= profiler_->finalize(context_); }
  void stop(void* handle) {
    if (handle != nullptr) result_ |= profiler_->stopEvent(handle);
  }

  void* begin_call(const Collective& what, bool captured = false) requires(version >= 5) {
    Event event = blank(abi::collective_call, nullptr);
    event.collApi.func = what.function;
    event.collApi.count = what.count;
    event.collApi.datatype = what.datatype;
    event.collApi.root = what.root;
    event.collApi.stream = reinterpret_cast<void*>(0x5000);
    event.collApi.graphCaptured = captured;
    return start(event);
  }

  // Before version 5 NCCL tells of what is in a group only where the group was given a handle.
  bool tells_of_groups() {
    void* group = begin_other(abi::group);
    stop(group);
    return version >= 5 || group != nullptr;
  }

  void* begin_collective(const Collective& what, void* parent = nullptr) {
    if (!tells_of_groups()) return nullptr;
    Event event = blank(abi::collective, parent);
    auto& coll = event.coll;
    if constexpr (version == 3) {
      coll.name = nullptr;
      coll.commHash = hash_;
      coll.nMaxChannels = what.channels;
    } else {
      coll.nChannels = what.channels;
    }
    coll.seqNumber = what.sequence;
    coll.func = what.function;
    coll.count = what.count;
    coll.root = what.root;
    coll.datatype = what.datatype;
    coll.nWarps = 16;
    coll.algo = what.algorithm;
    coll.proto = what.protocol;
    return start(event);
  }

  void* begin_point_to_point(const char* function, int peer, size_t count, uint8_t channels) {
    if (!tells_of_groups()) return nullptr;
    Event event = blank(abi::point_to_point, nullptr);
    auto& p2p = event.p2p;
    if constexpr (version == 3) {
      p2p.name = nullptr;
      p2p.commHash = hash_;
    } else if constexpr (version >= 5) {
      p2p.nChannels = channels;
    }
    p2p.func = function;
    p2p.count = count;
    p2p.datatype = "ncclFloat32";
    p2p.peer = peer;
    return start(event);
  }

  void* begin_copy_engines(const Collective& what, void* parent) requires(version >= 6) {
    Event event = blank(abi::copy_engine_collective, parent);
    event.ceColl.seqNumber = what.sequence;
    event.ceColl.func = what.function;
    event.ceColl.count = what.count;
    event.ceColl.root = what.root;
    event.ceColl.datatype = what.datatype;
    event.ceColl.stream = reinterpret_cast<void*>(0x5000);
    return start(event);
  }

  void* begin_channel(void* parent, uint8_t channel, [[maybe_unused]] uint64_t gpu_ns) {
    Event event = blank(abi::kernel_channel, parent);
    event.kernelCh.channelId = channel;
    if constexpr (version >= 4) event.kernelCh.pTimer = gpu_ns;
    return start(event);
  }

  void end_channel(void* handle, [[maybe_unused]] uint64_t gpu_ns) {
    if constexpr (version >= 4) {
      Arguments arguments{};
      arguments.kernelCh.pTimer = gpu_ns;
      if (handle != nullptr) result_ |= profiler_->recordEventState(handle, abi::kernel_channel_stop, &arguments);
    }
    stop(handle);
  }

  void* begin_proxy(void* parent, pid_t pid, uint8_t channel, int peer, int steps, bool sends) {
    Event event = blank(abi::proxy_op, parent);
    event.proxyOp = {
        .pid = pid, .channelId = channel, .peer = peer, .nSteps = steps, .chunkSize = 1 << 19, .isSend = sends};
    return start(event);
  }

  void* begin_step(void* proxy, int step) {
    Event event = blank(abi::proxy_step, proxy);
    event.proxyStep.step = step;
    return start(event);
  }

  void step_state(void* step, int state, [[maybe_unused]] size_t bytes) {
    Arguments arguments{};
    if constexpr (version >= 4) arguments.proxyStep.transSize = bytes;
    if (step != nullptr) result_ |= profiler_->recordEventState(step, state, &arguments);
  }

  // Something that the plugin did not ask for, or that only a later NCCL has.
  void* begin_other(uint32_t type) {
    Event event = blank(type, nullptr);
    return start(event);
  }

 private:
  Event blank(uint32_t type, void* parent) const {
    Event event;
    std::memset(static_cast<void*>(&event), 0xab, sizeof event);
    event.type = static_cast<decltype(event.type)>(type);
    event.parentObj = parent;
    event.rank = rank_;
    return event;
  }

  void* start(Event& event) {
    void* handle = reinterpret_cast<void*>(0xdead);  // NCCL hands in what was there before
    result_ |= profiler_->startEvent(context_, &handle, &event);
    return handle;
  }

  typename Interface<version>::Profiler* profiler_;
  void* context_ = nullptr;
  int mask_ = 0;
  std::atomic<int> result_{0};
  uint64_t hash_;
  int rank_;
};

}  // namespace shardprof::test
