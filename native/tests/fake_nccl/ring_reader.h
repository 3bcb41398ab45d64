// Reads what the plugin left, as shardprof does: from the file alone, while it is written or afterwards.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "shardprof/format.h"

namespace shardprof::test {

// A record without its stamp.
struct Seen {
  nccl::Kind kind;
  uint8_t flags;
  uint16_t communicator;
  uint8_t function;
  uint8_t datatype;
  uint8_t channels;
  uint8_t warps;
  union {
    nccl::Operation operation;
    nccl::Proxy proxy;
    uint64_t at_ns;
  };
};
static_assert(sizeof(Seen) + sizeof(uint64_t) == sizeof(nccl::Record));

class RingReader {
 public:
  explicit RingReader(const std::filesystem::path& file) {
    const int descriptor = open(file.c_str(), O_RDWR);
    bytes_ =
        static_cast<std::byte*>(mmap(nullptr, nccl::file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0));
    close(descriptor);
  }
  ~RingReader() { munmap(bytes_, nccl::file_bytes); }
  RingReader(const RingReader&) = delete;
  RingReader& operator=(const RingReader&) = delete;

  [[nodiscard]] nccl::Header& header() { return *reinterpret_cast<nccl::Header*>(bytes_); }

  [[nodiscard]] std::string string(uint8_t place) {
    return reinterpret_cast<nccl::String*>(bytes_ + nccl::strings_offset)[place].text;
  }
  [[nodiscard]] nccl::Communicator& communicator(uint16_t place) {
    return reinterpret_cast<nccl::Communicator*>(bytes_ + nccl::communicators_offset)[place];
  }
  [[nodiscard]] int in_flight() {
    int found = 0;
    for (uint32_t i = 0; i < nccl::in_flight_slots; ++i) {
      auto* slot = reinterpret_cast<nccl::InFlight*>(bytes_ + nccl::in_flight_offset) + i;
      const auto phase = static_cast<nccl::Phase>(slot->state.load() >> 16 & 0x7f);
      found += static_cast<int>(phase == nccl::Phase::live || phase == nccl::Phase::held);
    }
    return found;
  }

  // Those that are whole, up to the first that is not; their places are free again. Of a writer that is dead also those
  // behind one that it did not finish.
  std::vector<Seen> take(bool dead = false) {
    std::vector<Seen> records;
    nccl::Header& head = header();
    for (uint64_t place = head.tail.load(); place != head.head.load(std::memory_order_acquire); ++place) {
      nccl::Record& record = reinterpret_cast<nccl::Record*>(bytes_ + nccl::ring_offset)[place % nccl::ring_slots];
      if (record.stamp.load(std::memory_order_acquire) != place + 1) {
        if (dead) continue;
        return records;
      }
      Seen seen;
      std::memcpy(static_cast<void*>(&seen), reinterpret_cast<std::byte*>(&record) + sizeof(uint64_t), sizeof seen);
      records.push_back(seen);
      head.tail.store(place + 1, std::memory_order_release);
    }
    return records;
  }

 private:
  std::byte* bytes_;
};

// A new folder that the plugin is told to record into; gone at the end.
class Folder {
 public:
  explicit Folder(uint32_t events) {
    std::string name = std::filesystem::temp_directory_path() / "shardprof-nccl-XXXXXX";
    path_ = mkdtemp(name.data());
    setenv("SHARDPROF_NCCL_FOLDER", path_.c_str(), 1);
    setenv("SHARDPROF_NCCL_EVENTS", std::to_string(events).c_str(), 1);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  [[nodiscard]] std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) found.push_back(entry.path());
    return found;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace shardprof::test
