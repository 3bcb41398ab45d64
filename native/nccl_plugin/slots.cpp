#include "slots.h"

#include <algorithm>
#include <limits>

namespace shardprof::nccl {
namespace {

constexpr int generation_shift = 32;
constexpr int ended_shift = 24;
constexpr int open_shift = 23;
constexpr int phase_shift = 16;
constexpr uint64_t most_ends = 0xffff;

// Slots that are tried before one is given up: the next ones, then some that lie evenly over all, since those that hang
// may lie side by side.
constexpr uint32_t near = 64;
constexpr uint32_t far = 64;
constexpr uint32_t most_tried = near + far;

uint32_t turn_of(uint32_t first, uint32_t tried) {
  constexpr uint32_t apart = in_flight_slots / (far + 1);
  if (tried == most_tried) return first;
  return tried < near ? first + tried : first + (tried - near + 1) * apart;
}

constexpr int slot_bits = 12;
constexpr int step_bits = 3;
constexpr int handle_generation_shift = 16;
constexpr int what_shift = 56;
static_assert(in_flight_slots == 1 << slot_bits);

struct State {
  uint32_t generation;
  uint8_t ended;
  bool open;
  Phase phase;
  uint16_t ends;

  static State of(uint64_t word) {
    return {.generation = static_cast<uint32_t>(word >> generation_shift),
            .ended = static_cast<uint8_t>(word >> ended_shift),
            .open = (word >> open_shift & 1) != 0,
            .phase = static_cast<Phase>(word >> phase_shift & 0x7f),
            .ends = static_cast<uint16_t>(word & most_ends)};
  }
  [[nodiscard]] uint64_t word() const {
    return uint64_t{generation} << generation_shift | uint64_t{ended} << ended_shift | uint64_t{open} << open_shift |
           static_cast<uint64_t>(phase) << phase_shift | ends;
  }
  [[nodiscard]] bool runs(uint32_t its_generation) const { return generation == its_generation && runs(); }
  [[nodiscard]] bool runs() const { return phase == Phase::live || phase == Phase::held; }
};

uint32_t spread(uint64_t first, uint64_t last) {
  return static_cast<uint32_t>(std::min<uint64_t>(last - first, std::numeric_limits<uint32_t>::max()));
}

void reset(InFlight& slot) {
  for (std::atomic<uint64_t>* time :
       {&slot.enqueue_end_ns, &slot.host_begin_ns, &slot.host_end_ns, &slot.gpu_first_begin_ns, &slot.gpu_last_begin_ns,
        &slot.gpu_first_end_ns, &slot.gpu_last_end_ns}) {
    time->store(0, std::memory_order_relaxed);
  }
  slot.record.kind = Kind::none;
  slot.record.flags = 0;
  std::atomic_ref(slot.record.communicator).store(no_communicator, std::memory_order_relaxed);
  slot.record.function = slot.record.datatype = slot.record.channels = slot.record.warps = 0;
  slot.record.operation = {};
}

// What was gathered beside the record while several threads wrote, into the record.
void gather(InFlight& slot) {
  Operation& operation = slot.record.operation;
  operation.enqueue_end_ns = slot.enqueue_end_ns.load(std::memory_order_relaxed);
  operation.host_begin_ns = slot.host_begin_ns.load(std::memory_order_relaxed);
  operation.host_end_ns = slot.host_end_ns.load(std::memory_order_relaxed);
  operation.gpu_begin_ns = slot.gpu_first_begin_ns.load(std::memory_order_relaxed);
  operation.gpu_end_ns = slot.gpu_last_end_ns.load(std::memory_order_relaxed);
  operation.gpu_begin_spread_ns =
      spread(operation.gpu_begin_ns, slot.gpu_last_begin_ns.load(std::memory_order_relaxed));
  operation.gpu_end_spread_ns = spread(slot.gpu_first_end_ns.load(std::memory_order_relaxed), operation.gpu_end_ns);
  operation.channels_ended = State::of(slot.state.load(std::memory_order_relaxed)).ended;
}

}  // namespace

void* Handle::pack() const {
  const uint64_t word = static_cast<uint64_t>(what) << what_shift | uint64_t{generation} << handle_generation_shift |
                        static_cast<uint64_t>(step) << slot_bits | slot;
  return as_address(word);
}

Handle Handle::unpack(void* packed) {
  const auto word = reinterpret_cast<uint64_t>(packed);
  return {static_cast<What>(word >> what_shift), static_cast<uint32_t>(word >> handle_generation_shift),
          static_cast<uint16_t>(word & (in_flight_slots - 1)),
          static_cast<uint8_t>(word >> slot_bits & ((1 << step_bits) - 1))};
}

InFlight* Slots::take(Handle::What what, Handle& handle) {
  const uint32_t oldest = next_.fetch_add(1, std::memory_order_relaxed);
  // One that hangs keeps its slot while others come and go.
  for (uint32_t tried = 0; tried <= most_tried; ++tried) {
    const uint32_t turn = turn_of(oldest, tried);
    const uint32_t place = turn % in_flight_slots;
    if (InFlight* slot = own(place, tried < most_tried ? GivenUp::held : GivenUp::evicted)) {
      skip_to(turn + 1);  // who comes next need not try these again
      reset(*slot);
      const State mine = State::of(slot->state.load(std::memory_order_relaxed));
      handle = {what, mine.generation, static_cast<uint16_t>(place)};
      return slot;
    }
  }
  file_.header().unslotted.fetch_add(1, std::memory_order_relaxed);
  return nullptr;
}

// Never back: whoever was long at it would send all others to slots that have just been taken.
void Slots::skip_to(uint32_t turn) {
  uint32_t next = next_.load(std::memory_order_relaxed);
  while (static_cast<int32_t>(turn - next) > 0 && !next_.compare_exchange_weak(next, turn, std::memory_order_relaxed)) {
  }
}

InFlight* Slots::own(uint32_t place, GivenUp otherwise) {
  InFlight& slot = file_.in_flight()[place];
  uint64_t word = slot.state.load(std::memory_order_acquire);
  if (State::of(word).phase != Phase::free) {
    if (!give_up(slot, word, otherwise)) return nullptr;
    word = slot.state.load(std::memory_order_acquire);
  }
  const State free = State::of(word);
  if (free.phase != Phase::free) return nullptr;
  const State mine{.generation = free.generation + 1, .ended = 0, .open = false, .phase = Phase::owned, .ends = 0};
  return slot.state.compare_exchange_strong(word, mine.word(), std::memory_order_acq_rel) ? &slot : nullptr;
}

void Slots::start(InFlight& slot, uint16_t ends, bool open) {
  State state = State::of(slot.state.load(std::memory_order_relaxed));
  state.phase = Phase::live;
  state.open = open;
  state.ends = ends;
  slot.state.store(state.word(), std::memory_order_release);
}

InFlight* Slots::find(const Handle& handle) const {
  InFlight& slot = file_.in_flight()[handle.slot];
  return State::of(slot.state.load(std::memory_order_acquire)).runs(handle.generation) ? &slot : nullptr;
}

bool Slots::wait_for_more(InFlight& slot, const Handle& handle) {
  uint64_t word = slot.state.load(std::memory_order_acquire);
  for (;;) {
    State state = State::of(word);
    if (!state.runs(handle.generation) || state.ends == most_ends) return false;
    state.phase = Phase::live;
    ++state.ends;
    if (slot.state.compare_exchange_weak(word, state.word(), std::memory_order_acq_rel)) return true;
  }
}

bool Slots::channel_begins(InFlight& slot, const Handle& handle) {
  const bool counted = !State::of(slot.state.load(std::memory_order_acquire)).open;
  return counted || wait_for_more(slot, handle);
}

bool Slots::end(InFlight& slot, const Handle& handle) {
  uint64_t word = slot.state.load(std::memory_order_acquire);
  for (;;) {
    State state = State::of(word);
    if (state.generation != handle.generation || state.phase != Phase::live || state.ends == 0) return false;
    --state.ends;
    if (handle.what == Handle::What::channel && state.ended < std::numeric_limits<uint8_t>::max()) ++state.ended;
    const bool last = state.ends == 0;
    if (last) state.phase = state.open ? Phase::held : Phase::owned;
    if (slot.state.compare_exchange_weak(word, state.word(), std::memory_order_acq_rel)) {
      if (last && !state.open) complete(slot, 0);
      return true;
    }
  }
}

void Slots::give_up_all_of(uint16_t communicator) {
  for (InFlight& slot : file_.in_flight()) {
    uint64_t word = 0;
    do {
      word = slot.state.load(std::memory_order_acquire);
    } while (std::atomic_ref(slot.record.communicator).load(std::memory_order_relaxed) == communicator &&
             State::of(word).runs() && !give_up(slot, word, GivenUp::with_communicator));
  }
}

// The use that was seen, no later one: slots come and go between two looks.
bool Slots::give_up(InFlight& slot, uint64_t word, GivenUp why) {
  State state = State::of(word);
  const bool incomplete_then = state.phase == Phase::live;
  if (state.phase != Phase::held && (!incomplete_then || why == GivenUp::held)) return false;
  state.phase = Phase::owned;
  if (!slot.state.compare_exchange_strong(word, state.word(), std::memory_order_acq_rel)) return false;
  if (incomplete_then && why == GivenUp::evicted) file_.header().evicted.fetch_add(1, std::memory_order_relaxed);
  complete(slot, incomplete_then ? incomplete : 0);
  return true;
}

void Slots::complete(InFlight& slot, uint8_t flags) {
  slot.record.flags |= flags;
  const Kind kind = slot.record.kind;
  if (kind != Kind::proxy) gather(slot);
  file_.push(slot.record);
  State state = State::of(slot.state.load(std::memory_order_relaxed));
  state.phase = Phase::free;
  state.ends = 0;
  slot.state.store(state.word(), std::memory_order_release);
}

}  // namespace shardprof::nccl
