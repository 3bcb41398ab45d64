#include "ring_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <new>

#include "clock.h"

namespace shardprof::nccl {
namespace {

constexpr int most_files_a_process = 100;  // a process id comes again where containers restart
constexpr int permissions = 0644;

int create_in(const char* folder) {
  for (int number = 0; number < most_files_a_process; ++number) {
    std::array<char, 4096> path{};
    const int length = number == 0
                           ? std::snprintf(path.data(), path.size(), "%s/nccl.%d.ring", folder, getpid())
                           : std::snprintf(path.data(), path.size(), "%s/nccl.%d-%d.ring", folder, getpid(), number);
    if (length < 0 || static_cast<size_t>(length) >= path.size()) return -1;
    const int descriptor = open(path.data(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, permissions);
    if (descriptor >= 0 || errno != EEXIST) return descriptor;
  }
  return -1;
}

}  // namespace

RingFile* RingFile::make(const char* folder, uint32_t interface, uint32_t events) {
  const int descriptor = create_in(folder);
  if (descriptor < 0) return nullptr;
  void* mapped = MAP_FAILED;
  // A store into a mapped hole of a full disk would kill the job.
  if (posix_fallocate(descriptor, 0, file_bytes) == 0) {
    mapped = mmap(nullptr, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor, 0);
  }
  close(descriptor);
  if (mapped == MAP_FAILED) return nullptr;
  auto* file = new (std::nothrow) RingFile(static_cast<std::byte*>(mapped));
  if (file == nullptr) return nullptr;
  Header& header = file->header();
  header.record_bytes = sizeof(Record);
  header.interface = interface;
  header.strings_offset = strings_offset;
  header.communicators_offset = communicators_offset;
  header.in_flight_offset = in_flight_offset;
  header.ring_offset = ring_offset;
  header.begun_ns = now_ns();
  header.pid = getpid();
  header.events = events;
  std::atomic_thread_fence(std::memory_order_release);
  header.magic = magic;  // now it can be read
  return file;
}

void RingFile::push(const Record& record) {
  Header& to = header();
  uint64_t place = to.head.load(std::memory_order_relaxed);
  do {
    if (place - to.tail.load(std::memory_order_acquire) >= ring_slots) {
      to.dropped.fetch_add(1, std::memory_order_relaxed);
      return;
    }
  } while (!to.head.compare_exchange_weak(place, place + 1, std::memory_order_relaxed));
  Record& slot = part<Record, ring_slots>(ring_offset)[place % ring_slots];
  constexpr size_t body = offsetof(Record, kind);
  std::memcpy(reinterpret_cast<std::byte*>(&slot) + body, reinterpret_cast<const std::byte*>(&record) + body,
              sizeof(Record) - body);
  slot.stamp.store(place + 1, std::memory_order_release);
}

}  // namespace shardprof::nccl
