// What the plugin remembers of NCCL's events, whatever the version of the interface that they come through.
//
// Every function may be called from any thread, and none locks, allocates or enters the kernel once the first
// communicator is there. What cannot be recorded is counted (Header) and otherwise forgotten.
#pragma once

#include <optional>

#include "slots.h"
#include "tables.h"

namespace shardprof::nccl {

// A collective, a point-to-point, or a call for one. `channels` is 0 where nobody knows how many it uses.
struct OperationFacts {
  Kind kind = Kind::none;
  uint8_t flags = 0;
  uint8_t channels = 0;
  uint8_t warps = 0;
  bool runs_in_no_channel = false;
  int root_or_peer = 0;
  uint64_t sequence = 0;
  uint64_t count = 0;
  const void* stream = nullptr;
  const char* function = nullptr;
  const char* datatype = nullptr;
  const char* algorithm = nullptr;
  const char* protocol = nullptr;
};

struct ProxyFacts {
  uint8_t channel = 0;
  bool sends = false;
  int peer = 0;
  int steps = 0;
  int chunk_bytes = 0;
  int pid = 0;
};

// What a proxy step does from now on.
enum class StepState : uint8_t { none, gpu_wait, peer_wait, network_wait };

class Recorder {
 public:
  // That of this process; made with the first call. Null where nothing is to be recorded, or can be.
  static Recorder* of_process(uint32_t interface);

  // Which events NCCL is to tell of: the same at every call, since kernel channels must be told of always or never
  // (their times come to the wrong operation otherwise).
  [[nodiscard]] uint32_t events() const { return events_; }

  uint16_t open_communicator(uint64_t hash, int rank, int ranks, int nodes, const char* name);
  void close_communicator(uint16_t communicator);
  uint16_t communicator_of_event(uint64_t hash, int rank, const char* name);

  void* begin_call(uint16_t communicator, const OperationFacts& facts);
  void* begin_operation(uint16_t communicator, const OperationFacts& facts, void* call);
  void* begin_channel(void* operation, uint64_t gpu_ns);
  void* begin_proxy(uint16_t communicator, const ProxyFacts& facts, void* operation);
  void* begin_step(void* proxy, int step);

  void channel_ended(void* channel, uint64_t gpu_ns);
  void step_does(void* step, StepState state, uint64_t moved_bytes);

  void end(void* handle);

 private:
  // Of a call, by its slot: read when what it asked for begins, which is when the call is over.
  struct CallNote {
    std::atomic<uint32_t> generation{0};
    std::atomic<uint64_t> begin_ns{0};
    std::atomic<uint64_t> stream{0};
    std::atomic<bool> captured{false};
  };
  // Of the steps of a proxy operation, by its slot; only the thread that drives it touches them.
  struct StepNote {
    uint64_t since_ns = 0;
    StepState state = StepState::none;
  };
  static constexpr size_t steps_at_once = 8;

  Recorder(RingFile& file, uint32_t events);
  static Recorder* make(uint32_t interface);

  InFlight* begin(Handle::What what, Handle& handle, uint16_t communicator, const OperationFacts& facts);
  void ask_call(Operation& operation, uint8_t& flags, void* call) const;
  void end_enqueued(const Handle& handle);
  void end_channel(const Handle& handle);
  void end_proxy(const Handle& handle);
  void close_step(const Handle& handle, StepState next, uint64_t moved_bytes);
  void note(Kind kind, uint16_t communicator);
  void too_late();

  RingFile& file_;
  uint32_t events_;
  int pid_;  // asking for it enters the kernel
  Slots slots_;
  StringTable strings_;
  CommunicatorTable communicators_;
  std::array<CallNote, in_flight_slots> calls_{};
  std::array<std::array<StepNote, steps_at_once>, in_flight_slots> steps_{};
  std::array<std::atomic<void*>, in_flight_slots> parents_{};  // of proxy operations: the operation's handle
};

}  // namespace shardprof::nccl
