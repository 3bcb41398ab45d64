// Many threads at once, with a reader beside them, and a writer that is killed in the middle: every record that is
// there is whole, and as many are there as were not dropped.
//   threads_test PLUGIN
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <map>
#include <thread>

#include "../check.h"
#include "fake_nccl.h"
#include "ring_reader.h"

using namespace shardprof::test;
using shardprof::nccl::Kind;

namespace {

constexpr uint32_t events = abi::collective | abi::kernel_channel | abi::collective_call;
constexpr uint8_t channels = 4;
constexpr int launchers = 4;
// Operations that a launcher is ahead of its proxy thread: together fewer than the slots that are tried before one is
// given up, so that none may be, however long a thread gets no core.
constexpr int ahead = 24;

// Everything in a record follows from its sequence number.
size_t count_of(uint64_t sequence) { return sequence * 31 + 7; }
uint64_t begin_of(uint64_t sequence) { return 1'000'000 + sequence * 1000; }

bool is_whole(const Seen& record) {
  const uint64_t sequence = record.operation.sequence;
  return record.operation.count == count_of(sequence) && record.operation.gpu_begin_ns == begin_of(sequence) &&
         record.operation.gpu_end_ns == begin_of(sequence) + 500 + channels - 1 &&
         record.operation.channels_ended == channels && record.channels == channels && record.flags == 0 &&
         record.operation.call_begin_ns <= record.operation.enqueue_begin_ns;
}

// A launching thread and its proxy thread, which tells of the channels.
void launch(const Library& library, uint64_t communicator, uint64_t operations) {
  FakeNccl<5> nccl(library, communicator);
  std::array<std::atomic<void*>, ahead> handed{};
  std::thread proxy([&] {
    for (uint64_t i = 0; i < operations; ++i) {
      void* operation = nullptr;
      while ((operation = handed[i % ahead].exchange(nullptr, std::memory_order_acquire)) == nullptr) {
        std::this_thread::yield();
      }
      std::array<void*, channels> begun{};
      for (uint8_t c = 0; c < channels; ++c) begun[c] = nccl.begin_channel(operation, c, begin_of(i) + c);
      for (uint8_t c = 0; c < channels; ++c) nccl.end_channel(begun[c], begin_of(i) + 500 + c);
    }
  });
  for (uint64_t i = 0; i < operations; ++i) {
    const Collective what{.sequence = i, .count = count_of(i), .channels = channels};
    void* call = nccl.begin_call(what);
    nccl.stop(call);
    void* operation = nccl.begin_collective(what, call);
    while (handed[i % ahead].load(std::memory_order_relaxed) != nullptr) std::this_thread::yield();
    handed[i % ahead].store(operation, std::memory_order_release);
    nccl.stop(operation);
  }
  proxy.join();
  nccl.finalize();
}

void several_communicators_with_a_reader(const char* plugin) {
  constexpr uint64_t operations = 20'000;
  const Folder folder(events);
  const Library library(plugin);
  FakeNccl<5> first(library, 1);  // so that the file is there
  RingReader reader(folder.files().at(0));
  std::atomic<bool> done{false};
  std::map<uint16_t, uint64_t> found;
  uint64_t broken = 0;
  uint64_t without_call = 0;
  const auto look = [&] {
    for (const Seen& record : reader.take()) {
      if (record.kind != Kind::collective) continue;
      ++found[record.communicator];
      broken += static_cast<uint64_t>(!is_whole(record));
      without_call += static_cast<uint64_t>(record.operation.call_begin_ns == 0);
    }
  };
  std::thread looker([&] {
    while (!done.load()) {
      look();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  std::vector<std::thread> threads;
  threads.reserve(launchers);
  for (int i = 0; i < launchers; ++i) threads.emplace_back([&, i] { launch(library, 100 + i, operations); });
  for (std::thread& thread : threads) thread.join();
  done.store(true);
  looker.join();
  look();
  uint64_t total = 0;
  for (const auto& [communicator, count] : found) total += count;
  CHECK(found.size() == launchers);
  CHECK(broken == 0);
  // A call is forgotten where its thread got no core until the others had come round all slots.
  CHECK(without_call <= operations * launchers * launchers / shardprof::nccl::in_flight_slots);
  CHECK(total + reader.header().dropped.load() >= launchers * operations);
  CHECK(reader.header().dropped.load() != 0 || total == launchers * operations);
  CHECK(reader.header().unslotted.load() == 0);
  CHECK(reader.header().evicted.load() == 0);
  CHECK(reader.header().stale.load() == 0);
}

void killed_in_the_middle(const char* plugin) {
  constexpr uint64_t enough = 1000;
  for (int i = 0; i < 5; ++i) {
    const Folder folder(events);
    const pid_t child = fork();
    if (child == 0) {
      const Library library(plugin);
      launch(library, 5, uint64_t{1} << 40);
    }
    std::vector<std::filesystem::path> files;
    while (files.empty()) {
      files = folder.files();
      std::this_thread::yield();
    }
    while (std::filesystem::file_size(files[0]) != shardprof::nccl::file_bytes) std::this_thread::yield();
    RingReader reader(files[0]);
    while (reader.header().head.load() < enough) std::this_thread::yield();
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    uint64_t found = 0;
    uint64_t broken = 0;
    const uint64_t begun = reader.header().head.load() - reader.header().tail.load();
    const std::vector<Seen> records = reader.take(true);
    for (const Seen& record : records) {
      if (record.kind != Kind::collective) continue;
      broken += static_cast<uint64_t>(!is_whole(record));
      ++found;
    }
    CHECK(found > 0);
    CHECK(begun - records.size() <= 2);  // each of its two threads may have been writing one
    CHECK(broken == 0);
    CHECK(reader.header().magic == shardprof::nccl::magic);
    CHECK(reader.in_flight() <= ahead + 2);
  }
}

}  // namespace

int main(int, char** arguments) {
  killed_in_the_middle(arguments[1]);  // first: a process that records has silent children
  several_communicators_with_a_reader(arguments[1]);
  return exit_code();
}
