// Scripts of events, one thread and some, through each version of the interface: what the ring holds afterwards.
//   scripts_test PLUGIN VERSION
#include <sys/wait.h>

#include <algorithm>
#include <thread>

#include "../check.h"
#include "fake_nccl.h"
#include "ring_reader.h"

using namespace shardprof::test;
using shardprof::nccl::Kind;

namespace {

constexpr uint32_t everything = abi::collective | abi::point_to_point | abi::proxy_op | abi::proxy_step |
                                abi::kernel_channel | abi::collective_call | abi::point_to_point_call |
                                abi::copy_engine_collective;

template <int version>
class Scripts {
 public:
  Scripts(const Library& library, RingReader& reader, FakeNccl<version>& nccl)
      : library_(library), reader_(reader), nccl_(nccl) {}

  void run() {
    tells_its_communicator();
    a_collective_ends_with_its_last_channel();
    channels_may_end_before_the_enqueue_does();
    one_without_known_channels_is_held();
    a_point_to_point();
    a_send_to_oneself_is_over_at_once();
    calls_and_graphs();
    copy_engines();
    proxies_and_their_steps();
    what_comes_too_late_is_counted();
    what_nobody_asked_for_gets_no_handle();
    those_that_hang_keep_their_slots();
    more_in_flight_than_slots();
    a_full_ring_drops();
    a_forked_child_is_silent();
    reload();
    finalizing_gives_up_what_is_left();
    CHECK(nccl_.result() == 0);
  }

 private:
  static constexpr bool knows_channels = version >= 4;
  static constexpr bool has_times = version >= 4;

  void tells_its_communicator() {
    CHECK(reader_.header().interface == version);
    CHECK(reader_.header().magic == shardprof::nccl::magic);
    const std::vector<Seen> inits = of_kind(reader_.take(), Kind::communicator_init);
    CHECK(inits.size() == (version == 3 ? 0 : 1));
    if (!inits.empty()) check_communicator(inits[0].communicator);
  }

  void check_communicator(uint16_t place) {
    const auto& communicator = reader_.communicator(place);
    CHECK(communicator.hash == 0xfeed);
    CHECK(communicator.rank == 0);
    if (version == 3) return;
    CHECK(communicator.ranks == 2);
    CHECK(std::string(communicator.name) == "the group");
  }

  // A collective whose channels run from begin_ns + their number to end_ns + their number.
  void play(const Collective& what, uint64_t begin_ns, uint64_t end_ns, void* call = nullptr) {
    void* operation = nccl_.begin_collective(what, call);
    nccl_.stop(operation);
    std::vector<void*> channels;
    for (uint8_t i = 0; i < what.channels; ++i) channels.push_back(nccl_.begin_channel(operation, i, begin_ns + i));
    for (uint8_t i = 0; i < what.channels; ++i) nccl_.end_channel(channels[i], end_ns + i);
  }

  // Of one kind, without what only served to push others out.
  std::vector<Seen> of_kind(const std::vector<Seen>& records, Kind kind) {
    std::vector<Seen> found;
    for (const Seen& record : records) {
      if (record.kind == kind && reader_.string(record.function) != "Pushes") found.push_back(record);
    }
    return found;
  }

  // The collectives that are done; version 3 is sure of that only when their slots are needed or the end comes.
  std::vector<Seen> collectives() {
    if (!knows_channels) push_out();
    return of_kind(reader_.take(), Kind::collective);
  }

  void push_out() {
    for (uint32_t i = 0; i < shardprof::nccl::in_flight_slots; ++i) {
      void* operation = nccl_.begin_collective({.function = "Pushes", .channels = 1});
      nccl_.stop(operation);
      nccl_.end_channel(nccl_.begin_channel(operation, 0, 1), 2);
    }
  }

  void a_collective_ends_with_its_last_channel() {
    play({.function = "ReduceScatter", .sequence = 7, .count = 1234, .channels = 3, .root = 1}, 1000, 5000);
    const std::vector<Seen> found = collectives();
    if (!CHECK(found.size() == 1)) return;
    const Seen& record = found[0];
    CHECK(reader_.string(record.function) == "ReduceScatter");
    CHECK(reader_.string(record.datatype) == "ncclBfloat16");
    CHECK(reader_.string(record.operation.algorithm) == "RING");
    CHECK(reader_.string(record.operation.protocol) == "SIMPLE");
    CHECK(record.operation.sequence == 7);
    CHECK(record.operation.count == 1234);
    CHECK(record.operation.root_or_peer == 1);
    CHECK(record.channels == (knows_channels ? 3 : 0));
    CHECK(record.warps == 16);
    CHECK(record.operation.channels_ended == 3);
    CHECK(record.flags == 0);
    check_communicator(record.communicator);
    CHECK(record.operation.enqueue_begin_ns <= record.operation.enqueue_end_ns);
    CHECK(record.operation.enqueue_end_ns <= record.operation.host_begin_ns);
    CHECK(record.operation.host_begin_ns <= record.operation.host_end_ns);
    CHECK(record.operation.gpu_begin_ns == (has_times ? 1000 : 0));
    CHECK(record.operation.gpu_end_ns == (has_times ? 5002 : 0));
    CHECK(record.operation.gpu_begin_spread_ns == (has_times ? 2 : 0));
    CHECK(record.operation.gpu_end_spread_ns == (has_times ? 2 : 0));
  }

  void channels_may_end_before_the_enqueue_does() {
    void* operation = nccl_.begin_collective({.sequence = 8, .channels = 1});
    nccl_.end_channel(nccl_.begin_channel(operation, 0, 10), 20);
    CHECK(of_kind(reader_.take(), Kind::collective).empty());
    nccl_.stop(operation);
    const std::vector<Seen> found = collectives();
    if (CHECK(found.size() == 1)) CHECK(found[0].operation.gpu_end_ns == (has_times ? 20 : 0));
  }

  void one_without_known_channels_is_held() {
    void* operation = nccl_.begin_collective({.sequence = 9, .channels = 0});
    nccl_.stop(operation);
    nccl_.end_channel(nccl_.begin_channel(operation, 0, 10), 20);
    nccl_.end_channel(nccl_.begin_channel(operation, 1, 11), 30);
    CHECK(of_kind(reader_.take(), Kind::collective).empty());
    if (knows_channels) CHECK(reader_.in_flight() == 1);
    push_out();
    const std::vector<Seen> found = of_kind(reader_.take(), Kind::collective);
    if (!CHECK(found.size() == 1)) return;
    CHECK(found[0].operation.sequence == 9);
    CHECK(found[0].flags == 0);
    CHECK(found[0].operation.channels_ended == 2);
    CHECK(found[0].operation.gpu_end_ns == (has_times ? 30 : 0));
  }

  void a_point_to_point() {
    void* operation = nccl_.begin_point_to_point("Send", 5, 99, 2);
    nccl_.stop(operation);
    void* first = nccl_.begin_channel(operation, 0, 100);
    void* second = nccl_.begin_channel(operation, 1, 101);
    nccl_.end_channel(first, 200);
    nccl_.end_channel(second, 201);
    if (version < 5) push_out();
    const std::vector<Seen> found = of_kind(reader_.take(), Kind::point_to_point);
    if (!CHECK(found.size() == 1)) return;
    CHECK(reader_.string(found[0].function) == "Send");
    CHECK(found[0].operation.root_or_peer == 5);
    CHECK(found[0].operation.count == 99);
    CHECK(found[0].channels == (version >= 5 ? 2 : 0));
    CHECK(found[0].operation.gpu_end_ns == (has_times ? 201 : 0));
  }

  // It runs in no channel: nothing but its enqueue is ever told.
  void a_send_to_oneself_is_over_at_once() {
    const int before = reader_.in_flight();
    nccl_.stop(nccl_.begin_point_to_point("Send", 0, 7, 2));
    const std::vector<Seen> found = of_kind(reader_.take(), Kind::point_to_point);
    if (CHECK(found.size() == 1)) CHECK(found[0].flags == 0 && found[0].operation.root_or_peer == 0);
    CHECK(reader_.in_flight() <= before);
  }

  void calls_and_graphs() {
    if constexpr (version >= 5) {
      void* call = nccl_.begin_call({.sequence = 1, .count = 55});
      nccl_.stop(call);
      play({.sequence = 1, .count = 55}, 1, 2, call);
      std::vector<Seen> records = reader_.take();
      std::vector<Seen> calls = of_kind(records, Kind::call);
      std::vector<Seen> found = of_kind(records, Kind::collective);
      if (!CHECK(calls.size() == 1 && found.size() == 1)) return;
      CHECK(calls[0].operation.count == 55);
      CHECK(calls[0].operation.stream == 0x5000);
      CHECK(calls[0].operation.call_begin_ns <= calls[0].operation.enqueue_end_ns);
      CHECK(found[0].operation.call_begin_ns == calls[0].operation.call_begin_ns);
      CHECK(found[0].operation.stream == 0x5000);

      // Captured once, replayed twice, from the thread that CUDA calls back on.
      void* captured = nccl_.begin_call({.sequence = 2}, true);
      nccl_.stop(captured);
      nccl_.stop(captured);  // as NCCL 2.28 does
      std::thread([&] {
        play({.sequence = 2}, 1, 2, captured);
        play({.sequence = 2}, 3, 4, captured);
      }).join();
      records = reader_.take();
      calls = of_kind(records, Kind::call);
      found = of_kind(records, Kind::collective);
      if (!CHECK(calls.size() == 1 && found.size() == 2)) return;
      CHECK(calls[0].flags == shardprof::nccl::graph_captured);
      CHECK(found[1].flags == shardprof::nccl::graph_captured);
      CHECK(found[1].operation.call_begin_ns == 0);
    }
  }

  void copy_engines() {
    if constexpr (version >= 6) {
      void* call = nccl_.begin_call({.count = 3});
      void* operation = nccl_.begin_copy_engines({.sequence = 4, .count = 3}, call);
      nccl_.stop(operation);
      nccl_.stop(call);
      const std::vector<Seen> found = collectives();
      if (!CHECK(found.size() == 1)) return;
      CHECK(found[0].flags == shardprof::nccl::copy_engine);
      CHECK(found[0].operation.count == 3);
      CHECK(found[0].operation.gpu_end_ns == 0);
    }
  }

  void proxies_and_their_steps() {
    void* operation = nccl_.begin_collective({.sequence = 11, .channels = 1});
    nccl_.stop(operation);
    void* proxy = nccl_.begin_proxy(operation, getpid(), 3, 1, 9, true);
    for (int i = 0; i < 9; ++i) {
      void* step = nccl_.begin_step(proxy, i);
      nccl_.step_state(step, abi::step_send_gpu_wait, 0);
      nccl_.step_state(step, abi::step_send_peer_wait, 0);
      nccl_.step_state(step, abi::step_send_wait, 1000);
      nccl_.stop(step);
    }
    nccl_.end_channel(nccl_.begin_channel(operation, 3, 10), 20);
    CHECK(of_kind(reader_.take(), Kind::collective).empty());  // the proxy is still at it
    nccl_.stop(proxy);
    void* foreign = nccl_.begin_proxy(reinterpret_cast<void*>(0x7f0012345678), getpid() + 1, 0, 1, 1, false);
    nccl_.stop(foreign);
    if (!knows_channels) push_out();
    const std::vector<Seen> records = reader_.take();
    const std::vector<Seen> proxies = of_kind(records, Kind::proxy);
    if (!CHECK(proxies.size() == 2)) return;
    const auto& own = proxies[0].proxy;
    CHECK(proxies[0].flags == shardprof::nccl::sends);
    CHECK(reader_.string(proxies[0].function) == "AllGather");
    CHECK(own.sequence == 11);
    CHECK(own.channel == 3);
    CHECK(own.peer == 1);
    CHECK(own.steps == 9);
    CHECK(own.moved_bytes == (version == 3 ? 0 : 9000));
    CHECK(own.gpu_wait_ns + own.peer_wait_ns + own.network_wait_ns <= own.end_ns - own.begin_ns);
    CHECK(own.network_wait_ns > 0);
    CHECK(proxies[1].flags == shardprof::nccl::foreign);
    CHECK(proxies[1].proxy.sequence == 0);
    const std::vector<Seen> found = of_kind(records, Kind::collective);
    if (CHECK(!found.empty())) CHECK(found[0].operation.host_end_ns >= own.end_ns);
  }

  void what_comes_too_late_is_counted() {
    const uint64_t before = reader_.header().stale.load();
    const Collective what{.sequence = 12, .channels = 1};
    void* operation = nccl_.begin_collective(what);
    nccl_.stop(operation);
    void* channel = nccl_.begin_channel(operation, 0, 10);
    nccl_.end_channel(channel, 20);
    if (!knows_channels) push_out();
    (void)reader_.take();
    nccl_.stop(operation);
    nccl_.end_channel(channel, 30);
    CHECK(nccl_.begin_channel(operation, 0, 40) == nullptr);
    CHECK(reader_.header().stale.load() == before + 3);
    CHECK(reader_.take().empty());
    nccl_.stop(reinterpret_cast<void*>(0x1234));                             // not a handle of ours at all
    nccl_.end_channel(reinterpret_cast<void*>(uint64_t{3} << 56 | 77), 50);  // NOLINT(performance-no-int-to-ptr)
    CHECK(reader_.take().empty());
  }

  void what_nobody_asked_for_gets_no_handle() {
    for (const uint32_t type : {1U << 5, 1U << 7, 1U << 8, 1U << 11, 1U << 13, 1U << 14, 1U << 30, 0U, 3U}) {
      CHECK(nccl_.begin_other(version < 5 ? type & 0xff : type) == nullptr);
    }
    CHECK(reader_.take().empty());
  }

  void those_that_hang_keep_their_slots() {
    const uint64_t before = reader_.header().evicted.load();
    constexpr uint32_t hanging = 1000;  // side by side
    std::vector<void*> operations;
    for (uint32_t i = 0; i < hanging; ++i) {
      operations.push_back(nccl_.begin_collective({.function = "Hangs", .sequence = i, .channels = 1}));
    }
    for (uint32_t i = 0; i < 3 * shardprof::nccl::in_flight_slots; ++i) {
      play({.sequence = i, .channels = 1}, 1, 2);
      if (i % hanging == 0) (void)reader_.take();
    }
    CHECK(reader_.header().evicted.load() == before);
    (void)reader_.take();
    for (void* operation : operations) {
      nccl_.stop(operation);
      nccl_.end_channel(nccl_.begin_channel(operation, 0, 1), 2);
    }
    const std::vector<Seen> ended = collectives();
    const auto hung = [&](const Seen& record) { return reader_.string(record.function) == "Hangs"; };
    CHECK(std::count_if(ended.begin(), ended.end(), hung) == hanging);
  }

  void more_in_flight_than_slots() {
    const uint64_t before = reader_.header().evicted.load();
    constexpr uint32_t more = 100;
    std::vector<void*> operations;
    for (uint32_t i = 0; i < shardprof::nccl::in_flight_slots + more; ++i) {
      operations.push_back(nccl_.begin_collective({.sequence = i, .channels = 1}));
    }
    CHECK(reader_.header().evicted.load() == before + more);
    const std::vector<Seen> given_up = of_kind(reader_.take(), Kind::collective);
    CHECK(given_up.size() == more);
    for (uint32_t i = 0; i < given_up.size(); ++i) {
      CHECK(given_up[i].operation.sequence == i);
      CHECK(given_up[i].flags == shardprof::nccl::incomplete);
    }
    for (void* operation : operations) {
      nccl_.stop(operation);
      nccl_.end_channel(nccl_.begin_channel(operation, 0, 1), 2);
    }
    if (!knows_channels) push_out();
    CHECK(of_kind(reader_.take(), Kind::collective).size() == shardprof::nccl::in_flight_slots);
  }

  void a_full_ring_drops() {
    constexpr uint32_t more = 50;
    const uint64_t before = reader_.header().dropped.load();
    for (uint32_t i = 0; i < shardprof::nccl::ring_slots + more; ++i) {
      play({.sequence = i, .channels = 1}, 1, 2);
    }
    if (knows_channels) {
      CHECK(reader_.header().dropped.load() == before + more);
      const std::vector<Seen> kept = reader_.take();
      CHECK(kept.size() == shardprof::nccl::ring_slots);
      for (uint32_t i = 0; i < kept.size(); ++i) CHECK(kept[i].operation.sequence == i);
    } else {
      (void)reader_.take();
      push_out();
      (void)reader_.take();
    }
    play({.sequence = 1, .channels = 1}, 1, 2);
    CHECK(collectives().size() == 1);  // and goes on
  }

  void a_forked_child_is_silent() {
    const pid_t child = fork();
    if (child == 0) {
      play({.sequence = 13}, 1, 2);
      FakeNccl<version> of_child(library_, 0xbeef);
      _exit(of_child.mask() == 0 && of_child.result() == 0 ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
    CHECK(reader_.take().empty());
    play({.sequence = 14}, 1, 2);
    CHECK(collectives().size() == 1);
  }

  void reload() {
    // NCCL closes the library with its last communicator, and may open it again.
    const Library again(std::getenv("SHARDPROF_TEST_PLUGIN"));
    FakeNccl<version> second(again, 0xcafe, 1);
    CHECK(second.mask() == nccl_.mask());
    void* operation = second.begin_collective({.sequence = 1, .channels = 1});
    second.stop(operation);
    second.end_channel(second.begin_channel(operation, 0, 1), 2);
    second.finalize();
    const std::vector<Seen> found = of_kind(reader_.take(), Kind::collective);
    if (CHECK(found.size() == (version == 3 ? 0 : 1)) && version != 3) {
      CHECK(reader_.communicator(found[0].communicator).hash == 0xcafe);
      CHECK(reader_.communicator(found[0].communicator).rank == 1);
    }
    CHECK(second.result() == 0);
    if (version == 3) push_out();
    (void)reader_.take();
  }

  void finalizing_gives_up_what_is_left() {
    void* operation = nccl_.begin_collective({.sequence = 15});
    CHECK(reader_.in_flight() >= 1);
    nccl_.finalize();
    const std::vector<Seen> records = reader_.take();
    CHECK(of_kind(records, Kind::communicator_finalize).size() == 1);
    if (version == 3) return;  // its contexts stand for no communicator
    const std::vector<Seen> found = of_kind(records, Kind::collective);
    if (CHECK(found.size() == 1)) CHECK(found[0].flags == shardprof::nccl::incomplete);
    CHECK(reader_.in_flight() == 0);
    nccl_.stop(operation);
    CHECK(reader_.take().empty());
  }

  const Library& library_;
  RingReader& reader_;
  FakeNccl<version>& nccl_;
};

template <int version>
void run(const char* plugin) {
  const Folder folder(everything);
  const Library library(plugin);
  FakeNccl<version> nccl(library);
  const auto files = folder.files();
  if (!CHECK(files.size() == 1)) return;
  RingReader reader(files[0]);
  Scripts<version>(library, reader, nccl).run();
  CHECK(folder.files().size() == 1);
}

// Without a folder, without events or where nothing can be written it is as if it were not there.
void nothing_to_record(const char* plugin) {
  unsetenv("SHARDPROF_NCCL_FOLDER");
  const Library library(plugin);
  for (const char* folder : {static_cast<const char*>(nullptr), "/proc/nothing", ""}) {
    if (folder != nullptr) setenv("SHARDPROF_NCCL_FOLDER", folder, 1);
    setenv("SHARDPROF_NCCL_EVENTS", "2", 1);
    FakeNccl<5> nccl(library);
    CHECK(nccl.mask() == 0);
    CHECK(nccl.begin_collective({}) == nullptr);
    nccl.stop(reinterpret_cast<void*>(0x1234));
    nccl.finalize();
    CHECK(nccl.result() == 0);
  }
}

}  // namespace

int main(int, char** arguments) {
  const char* plugin = arguments[1];
  setenv("SHARDPROF_TEST_PLUGIN", plugin, 1);
  nothing_to_record(plugin);
  switch (std::atoi(arguments[2])) {
    case 3:
      run<3>(plugin);
      break;
    case 4:
      run<4>(plugin);
      break;
    case 5:
      run<5>(plugin);
      break;
    default:
      run<6>(plugin);
      break;
  }
  return exit_code();
}
