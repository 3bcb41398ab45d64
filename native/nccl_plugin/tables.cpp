#include "tables.h"

#include <cstring>

namespace shardprof::nccl {
namespace {

enum State : uint32_t { free_slot = 0, being_filled = 1, there = 2 };

template <size_t size>
void copy(char (&to)[size], const char* from) {
  std::strncpy(to, from, size - 1);
}

void fill(Communicator& slot, uint64_t hash, int rank, int ranks, int nodes, const char* name) {
  slot.hash = hash;
  slot.rank = rank;
  slot.ranks = ranks;
  slot.nodes = nodes;
  if (name != nullptr) copy(slot.name, name);
  slot.state.store(there, std::memory_order_release);
}

}  // namespace

uint8_t StringTable::place_of(const char* text) {
  if (text == nullptr || *text == '\0') return 0;
  const size_t begin = reinterpret_cast<uintptr_t>(text) / 8;
  for (size_t i = 0; i < string_slots; ++i) {
    const size_t place = (begin + i) % string_slots;
    if (place == 0) continue;
    const char* known = addresses_[place].load(std::memory_order_acquire);
    // Two that meet at a free place: one takes it, the other finds it taken and goes on.
    if (known == nullptr && addresses_[place].compare_exchange_strong(known, text, std::memory_order_acq_rel)) {
      copy(file_.strings()[place].text, text);
      return static_cast<uint8_t>(place);
    }
    if (known == text) return static_cast<uint8_t>(place);
  }
  file_.header().untabled.fetch_add(1, std::memory_order_relaxed);
  return 0;
}

uint16_t CommunicatorTable::place_of(uint64_t hash, int rank, int ranks, int nodes, const char* name) {
  const size_t begin = hash ^ (hash >> 32);
  for (size_t i = 0; i < communicator_slots; ++i) {
    const size_t place = (begin + i) % communicator_slots;
    Communicator& slot = file_.communicators()[place];
    uint32_t state = slot.state.load(std::memory_order_acquire);
    if (state == free_slot && slot.state.compare_exchange_strong(state, being_filled, std::memory_order_acq_rel)) {
      fill(slot, hash, rank, ranks, nodes, name);
      return static_cast<uint16_t>(place);
    }
    // Another thread that is just filling it fills in another communicator: each has one thread at a time.
    if (state == there && slot.hash == hash && slot.rank == rank) return static_cast<uint16_t>(place);
  }
  file_.header().untabled.fetch_add(1, std::memory_order_relaxed);
  return no_communicator;
}

}  // namespace shardprof::nccl
