// Strings and communicators, each kept once and known by a small number afterwards. Any thread may ask; nothing locks.
#pragma once

#include <array>
#include <atomic>

#include "ring_file.h"

namespace shardprof::nccl {

// NCCL's strings are constants of its own, so that the address tells which one it is.
class StringTable {
 public:
  explicit StringTable(RingFile& file) : file_(file) {}

  // The place of `text` in the file; 0 for null, for an empty one, and where the table is full.
  uint8_t place_of(const char* text);

 private:
  RingFile& file_;
  std::array<std::atomic<const char*>, string_slots> addresses_{};
};

class CommunicatorTable {
 public:
  explicit CommunicatorTable(RingFile& file) : file_(file) {}

  // The place of the communicator of this hash and rank; a new one gets what else is told of it. no_communicator where
  // the table is full.
  uint16_t place_of(uint64_t hash, int rank, int ranks, int nodes, const char* name);

 private:
  RingFile& file_;
};

}  // namespace shardprof::nccl
