// What an event costs the thread that tells of it:  stress PLUGIN [MILLIONS OF EVENTS] [THREADS]
//
// A thread plays collectives of one channel: call, launch, channel, each begun and ended, and the channel's end time,
// which is seven events. A reader beside empties the ring, as it does where shardprof records.
#include <chrono>
#include <thread>

#include "fake_nccl.h"
#include "ring_reader.h"

using namespace shardprof::test;

namespace {

constexpr uint64_t events_a_collective = 7;
constexpr uint64_t million = 1'000'000;

void play(const Library& library, uint64_t communicator, uint64_t collectives) {
  FakeNccl<5> nccl(library, communicator);
  for (uint64_t i = 0; i < collectives; ++i) {
    const Collective what{.sequence = i, .count = i, .channels = 1};
    void* call = nccl.begin_call(what);
    nccl.stop(call);
    void* operation = nccl.begin_collective(what, call);
    nccl.stop(operation);
    nccl.end_channel(nccl.begin_channel(operation, 0, i), i + 1);
  }
  nccl.finalize();
}

}  // namespace

int main(int count, char** arguments) {
  const uint64_t events = (count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 100) * million;
  const int threads = count > 3 ? std::atoi(arguments[3]) : 1;
  const Folder folder(abi::collective | abi::kernel_channel | abi::collective_call);
  const Library library(arguments[1]);
  FakeNccl<5> first(library, 1);
  RingReader reader(folder.files().at(0));
  std::atomic<bool> done{false};
  uint64_t records = 0;
  std::thread looker([&] {
    while (!done.load()) {
      records += reader.take().size();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  const uint64_t each = events / events_a_collective / static_cast<uint64_t>(threads);
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::thread> players;
  players.reserve(static_cast<size_t>(threads));
  for (int i = 0; i < threads; ++i)
    players.emplace_back([&, i] { play(library, 100 + static_cast<uint64_t>(i), each); });
  for (std::thread& player : players) player.join();
  const std::chrono::duration<double, std::nano> lasted = std::chrono::steady_clock::now() - begin;
  done.store(true);
  looker.join();
  records += reader.take().size();
  const uint64_t played = each * events_a_collective;
  const uint64_t dropped = reader.header().dropped.load();
  std::printf("%lu events a thread on %d threads: %.1f ns an event; %lu records, %lu dropped, %lu without a slot\n",
              played, threads, lasted.count() / static_cast<double>(played), records, dropped,
              reader.header().unslotted.load());
  const uint64_t told = (2 * each + 2) * static_cast<uint64_t>(threads) + 1;
  return records + dropped == told ? 0 : 1;
}
