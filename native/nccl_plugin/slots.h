// What has begun and not ended: a slot each, taken and given back without a lock.
//
// A handle is no address: it names the slot and which use of it is meant, so that an end that comes too late (NCCL
// keeps some handles for ever) is told from one that is due, whatever the slot holds by now.
#pragma once

#include <optional>

#include "ring_file.h"

namespace shardprof::nccl {

// A number where NCCL wants an address that it hands back and never follows.
inline void* as_address(uint64_t number) {
  return reinterpret_cast<void*>(number);  // NOLINT(performance-no-int-to-ptr)
}

// What NCCL keeps as `void*`; 0 is none.
struct Handle {
  enum class What : uint8_t { none = 0, operation = 1, call = 2, channel = 3, proxy = 4, step = 5, group = 6 };

  What what = What::none;
  uint32_t generation = 0;
  uint16_t slot = 0;
  uint8_t step = 0;  // of a proxy step, modulo 8

  [[nodiscard]] Handle as(What other, uint8_t its_step = 0) const { return {other, generation, slot, its_step}; }
  [[nodiscard]] void* pack() const;
  static Handle unpack(void* packed);
};

class Slots {
 public:
  explicit Slots(RingFile& file) : file_(file) {}

  // A slot to fill in; nobody else touches it until it is started. Where those that are tried are all in use the oldest
  // is given up: its record goes out as it is. Null where another thread is just busy with that one.
  InFlight* take(Handle::What what, Handle& handle);

  // From now on it waits for so many ends; where it is `open`, also for those of which nobody knows how many will come.
  static void start(InFlight& slot, uint16_t ends, bool open);

  // The slot that a handle means; null where that use of it is over.
  [[nodiscard]] InFlight* find(const Handle& handle) const;

  // One more, or one less to wait for. False where that use of the slot is over. The last end completes it, unless it
  // is open.
  static bool wait_for_more(InFlight& slot, const Handle& handle);
  bool end(InFlight& slot, const Handle& handle);

  // A channel has begun: one more to wait for where it was not counted before.
  static bool channel_begins(InFlight& slot, const Handle& handle);

  // Gives up what is left of a communicator.
  void give_up_all_of(uint16_t communicator);

 private:
  // Which records go out before their last end: those that may be whole, which nobody can tell; also those that are
  // not, where there is no room or no communicator any more.
  enum class GivenUp : uint8_t { held, evicted, with_communicator };

  void skip_to(uint32_t turn);
  InFlight* own(uint32_t place, GivenUp otherwise);
  void complete(InFlight& slot, uint8_t flags);
  bool give_up(InFlight& slot, uint64_t word, GivenUp why);

  RingFile& file_;
  std::atomic<uint32_t> next_{0};
};

}  // namespace shardprof::nccl
