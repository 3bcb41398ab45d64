// The file that a process records into, mapped into memory: its parts, and putting a record into the ring.
#pragma once

#include <span>

#include "shardprof/format.h"

namespace shardprof::nccl {

class RingFile {
 public:
  // Makes the file in `folder`, with all its room on disk, so that writing to it cannot fail later. Null where that
  // cannot be. It stays mapped as long as the process lives.
  static RingFile* make(const char* folder, uint32_t interface, uint32_t events);

  [[nodiscard]] Header& header() { return *reinterpret_cast<Header*>(bytes_); }
  [[nodiscard]] std::span<String, string_slots> strings() { return part<String, string_slots>(strings_offset); }
  [[nodiscard]] std::span<Communicator, communicator_slots> communicators() {
    return part<Communicator, communicator_slots>(communicators_offset);
  }
  [[nodiscard]] std::span<InFlight, in_flight_slots> in_flight() {
    return part<InFlight, in_flight_slots>(in_flight_offset);
  }

  // Copies a record to the end of the ring; one that finds it full is counted and lost. Any thread may.
  void push(const Record& record);

 private:
  explicit RingFile(std::byte* bytes) : bytes_(bytes) {}

  template <typename T, size_t count>
  std::span<T, count> part(uint64_t offset) {
    return std::span<T, count>(reinterpret_cast<T*>(bytes_ + offset), count);
  }

  std::byte* bytes_;
};

}  // namespace shardprof::nccl
