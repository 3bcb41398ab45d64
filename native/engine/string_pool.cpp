#include "shardprof/string_pool.h"

#include <cstring>
#include <random>

namespace shardprof {
namespace {

constexpr size_t first_slots = 256;

// Another one each run, so that nobody can write a trace whose names all collide.
uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32 | device()) | 1;
}

uint64_t mixed(uint64_t a, uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint32_t hash_of(std::string_view text) {
  static const uint64_t seed = random_seed();
  constexpr uint64_t odd = 0x9e3779b97f4a7c15;  // the golden ratio's bits
  uint64_t hash = seed ^ text.size();
  uint64_t word = 0;
  size_t at = 0;
  for (; at + sizeof word <= text.size(); at += sizeof word) {
    std::memcpy(&word, text.data() + at, sizeof word);
    hash = mixed(hash ^ word, odd);
  }
  word = 0;
  if (at < text.size()) std::memcpy(&word, text.data() + at, text.size() - at);
  return static_cast<uint32_t>(mixed(hash ^ word, seed ^ odd));
}

}  // namespace

uint32_t StringPool::intern(std::string_view text) {
  if (2 * strings_.size() >= slots_.size()) grow();
  const uint32_t hash = hash_of(text);
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask;; at = (at + 1) & mask) {
    Slot& slot = slots_[at];
    if (slot.id_plus_one == 0) {
      strings_.emplace_back(text);
      slot = {hash, static_cast<uint32_t>(strings_.size())};
      return slot.id_plus_one - 1;
    }
    if (slot.hash == hash && strings_[slot.id_plus_one - 1] == text) return slot.id_plus_one - 1;
  }
}

void StringPool::grow() {
  std::vector<Slot> old = std::move(slots_);
  slots_.assign(old.empty() ? first_slots : 2 * old.size(), Slot{});
  const size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.id_plus_one == 0) continue;
    size_t at = slot.hash & mask;
    while (slots_[at].id_plus_one != 0) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

}  // namespace shardprof
