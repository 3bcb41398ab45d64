// The doors that NCCL looks for, one a version of its interface, all of the same recorder. Whatever happens behind
// them, NCCL is told that all is well.
#include <type_traits>

#include "abi.h"
#include "recorder.h"

namespace shardprof::nccl {
namespace {

constexpr int success = 0;
constexpr uintptr_t unknown_communicator = uintptr_t{1} << 32;  // a context of interface v3, whose events tell it

void* as_context(uint16_t communicator) { return as_address(unknown_communicator | communicator); }

uint16_t communicator_of(void* context) { return static_cast<uint16_t>(reinterpret_cast<uintptr_t>(context)); }

std::atomic<Recorder*> made{nullptr};  // by the first init, before any event

Recorder* recorder() { return made.load(std::memory_order_acquire); }

template <typename Event>
constexpr bool tells_its_communicator = requires(Event event) {
  event.coll.commHash;
};

template <typename Event>
constexpr bool has_calls = requires(Event event) {
  event.collApi;
};

template <typename Event>
constexpr bool has_copy_engines = requires(Event event) {
  event.ceColl;
};

template <typename Event, typename Part>
uint16_t communicator_of(void* context, const Event& event, const Part& part) {
  if constexpr (tells_its_communicator<Event>) {
    return recorder()->communicator_of_event(part.commHash, event.rank, part.name);
  } else {
    return communicator_of(context);
  }
}

template <typename Part>
uint8_t channels_of(const Part& part) {
  if constexpr (requires { part.nMaxChannels; }) {
    return 0;  // at most so many, which is not how many
  } else {
    return part.nChannels;
  }
}

template <typename Event>
void* begin_collective(void* context, const Event& event) {
  const auto& coll = event.coll;
  const OperationFacts facts{.kind = Kind::collective,
                             .channels = channels_of(coll),
                             .warps = coll.nWarps,
                             .root_or_peer = coll.root,
                             .sequence = coll.seqNumber,
                             .count = coll.count,
                             .function = coll.func,
                             .datatype = coll.datatype,
                             .algorithm = coll.algo,
                             .protocol = coll.proto};
  return recorder()->begin_operation(communicator_of(context, event, coll), facts, event.parentObj);
}

template <typename Event>
void* begin_point_to_point(void* context, const Event& event) {
  const auto& p2p = event.p2p;
  OperationFacts facts{.kind = Kind::point_to_point,
                       .root_or_peer = p2p.peer,
                       .count = p2p.count,
                       .function = p2p.func,
                       .datatype = p2p.datatype};
  // Version 3 does not tell the channels, and NCCL 2.28's way of serving version 4 leaves them unset.
  if constexpr (has_calls<Event>) facts.channels = p2p.nChannels;
  facts.runs_in_no_channel = p2p.peer == event.rank;  // a copy in the kernel, of which no channel is told
  return recorder()->begin_operation(communicator_of(context, event, p2p), facts, event.parentObj);
}

template <typename Call>
void* begin_call(void* context, const Call& call) {
  OperationFacts facts{
      .kind = Kind::call, .count = call.count, .stream = call.stream, .function = call.func, .datatype = call.datatype};
  if (call.graphCaptured) facts.flags = graph_captured;
  if constexpr (requires { call.root; }) facts.root_or_peer = call.root;
  return recorder()->begin_call(communicator_of(context), facts);
}

void* begin_copy_engines(void* context, const abi::EventV6& event) {
  const abi::CeColl& coll = event.ceColl;
  const OperationFacts facts{.kind = Kind::collective,
                             .flags = copy_engine,
                             .root_or_peer = coll.root,
                             .sequence = coll.seqNumber,
                             .count = coll.count,
                             .stream = coll.stream,
                             .function = coll.func,
                             .datatype = coll.datatype};
  return recorder()->begin_operation(communicator_of(context), facts, event.parentObj);
}

template <typename Event>
void* begin_channel(const Event& event) {
  if constexpr (requires { event.kernelCh.pTimer; }) {
    return recorder()->begin_channel(event.parentObj, event.kernelCh.pTimer);
  } else {
    return recorder()->begin_channel(event.parentObj, 0);
  }
}

void* begin_proxy(void* context, void* operation, const abi::ProxyOp& proxy) {
  const ProxyFacts facts{.channel = proxy.channelId,
                         .sends = proxy.isSend != 0,
                         .peer = proxy.peer,
                         .steps = proxy.nSteps,
                         .chunk_bytes = proxy.chunkSize,
                         .pid = proxy.pid};
  return recorder()->begin_proxy(communicator_of(context), facts, operation);
}

// NCCL 2.26 and 2.27 tell of nothing inside a group that was given no handle. Nothing is kept of groups themselves.
void* group_handle() { return Handle{.what = Handle::What::group}.pack(); }

// What only some versions have; not groups of calls and launches, which NCCL tells of because of what is inside them.
template <typename Event>
void* begin_newer([[maybe_unused]] void* context, [[maybe_unused]] const Event& event) {
  if constexpr (has_calls<Event>) {
    if (event.type == abi::collective_call) return begin_call(context, event.collApi);
    if (event.type == abi::point_to_point_call) return begin_call(context, event.p2pApi);
  }
  if constexpr (has_copy_engines<Event>) {
    if (event.type == abi::copy_engine_collective) return begin_copy_engines(context, event);
  }
  return nullptr;
}

template <typename Event>
void* begin(void* context, const Event& event) {
  switch (static_cast<uint32_t>(event.type)) {
    case abi::collective:
      return begin_collective(context, event);
    case abi::point_to_point:
      return begin_point_to_point(context, event);
    case abi::group:
      return group_handle();
    case abi::kernel_channel:
      return begin_channel(event);
    case abi::proxy_op:
      return begin_proxy(context, event.parentObj, event.proxyOp);
    case abi::proxy_step:
      return recorder()->begin_step(event.parentObj, event.proxyStep.step);
    default:
      return begin_newer(context, event);
  }
}

template <typename Event>
int start_event(void* context, void** handle, Event* event) {
  *handle = recorder() == nullptr ? nullptr : begin(context, *event);
  return success;
}

int stop_event(void* handle) {
  if (recorder() != nullptr) recorder()->end(handle);
  return success;
}

StepState step_state(int state) {
  switch (state) {
    case abi::step_send_gpu_wait:
    case abi::step_receive_gpu_wait:
    case abi::step_receive_flush_wait:
      return StepState::gpu_wait;
    case abi::step_send_peer_wait:
      return StepState::peer_wait;
    case abi::step_send_wait:
    case abi::step_receive_wait:
      return StepState::network_wait;
    default:
      return StepState::none;
  }
}

// A step tells what it moves when it has handed it to the network, or has it from there.
template <typename Arguments>
uint64_t moved_bytes([[maybe_unused]] int state, [[maybe_unused]] const Arguments* arguments) {
  if constexpr (requires { arguments->proxyStep; }) {
    const bool moves = state == abi::step_send_wait || state == abi::step_receive_flush_wait;
    return moves && arguments != nullptr ? arguments->proxyStep.transSize : 0;
  } else {
    return 0;
  }
}

template <typename Arguments>
int record_state(void* handle, int state, Arguments* arguments) {
  if (recorder() == nullptr || handle == nullptr) return success;
  constexpr bool tells_times = requires { arguments->kernelCh; };
  if constexpr (tells_times) {
    if (state == abi::kernel_channel_stop && arguments != nullptr) {
      recorder()->channel_ended(handle, arguments->kernelCh.pTimer);
      return success;
    }
  }
  if (const StepState does = step_state(state); does != StepState::none) {
    recorder()->step_does(handle, does, moved_bytes(state, arguments));
  }
  return success;
}

int finalize(void* context) {
  if (recorder() != nullptr) recorder()->close_communicator(communicator_of(context));
  return success;
}

uint32_t events_of(uint32_t interface) {
  constexpr uint32_t since_v5 = abi::group_call | abi::collective_call | abi::point_to_point_call | abi::kernel_launch;
  constexpr uint32_t since_v6 = abi::copy_engine_collective;
  uint32_t events = recorder()->events();
  if (interface < 5) events &= ~since_v5;
  if (interface < 6) events &= ~since_v6;
  return events;
}

// NCCL may make several communicators at once.
bool open(uint32_t interface, void** context, int* mask) {
  Recorder* known = Recorder::of_process(interface);
  made.store(known, std::memory_order_release);
  *mask = known == nullptr ? 0 : static_cast<int>(events_of(interface));
  *context = as_context(no_communicator);
  return known != nullptr;
}

int init_v3(void** context, int* mask) {
  open(3, context, mask);
  return success;
}

int init_v4(void** context, int* mask, const char* name, uint64_t hash, int nodes, int ranks, int rank,
            abi::DebugLogger /*logger*/) {
  if (open(4, context, mask)) *context = as_context(recorder()->open_communicator(hash, rank, ranks, nodes, name));
  return success;
}

template <uint32_t interface>
int init_v5(void** context, uint64_t hash, int* mask, const char* name, int nodes, int ranks, int rank,
            abi::DebugLogger /*logger*/) {
  if (open(interface, context, mask)) {
    *context = as_context(recorder()->open_communicator(hash, rank, ranks, nodes, name));
  }
  return success;
}

constexpr const char* name = "shardprof";

}  // namespace
}  // namespace shardprof::nccl

// NCCL's names for them.
// NOLINTBEGIN(readability-identifier-naming)
using namespace shardprof::nccl;
#define SHARDPROF_EXPORT extern "C" __attribute__((visibility("default")))
SHARDPROF_EXPORT const abi::ProfilerV3 ncclProfiler_v3{
    name, init_v3, start_event<abi::EventV3>, stop_event, record_state<abi::StateArgsV3>, finalize};
SHARDPROF_EXPORT const abi::ProfilerV4 ncclProfiler_v4{
    name, init_v4, start_event<abi::EventV4>, stop_event, record_state<abi::StateArgsV4>, finalize};
SHARDPROF_EXPORT const abi::ProfilerV5 ncclProfiler_v5{
    name, init_v5<5>, start_event<abi::EventV5>, stop_event, record_state<abi::StateArgsV4>, finalize};
SHARDPROF_EXPORT const abi::ProfilerV6 ncclProfiler_v6{
    name, init_v5<6>, start_event<abi::EventV6>, stop_event, record_state<abi::StateArgsV4>, finalize};
// NOLINTEND(readability-identifier-naming)
