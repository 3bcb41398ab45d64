// The bytes that the NCCL plugin leaves, defined once: the plugin writes them, shardprof reads them, also while the job
// runs and after it was killed.
//
// A file a process, all of it in place from the start: Header, strings, communicators, in-flight slots, ring. Numbers
// are little-endian. Times are nanoseconds since the Unix epoch, those named `gpu` of the GPU's own globaltimer; 0 is
// "not known". Strings are places in the table of strings, 0 is none.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace shardprof::nccl {

constexpr std::array<char, 8> magic{'S', 'P', 'N', 'C', 'C', 'L', '0', '1'};
constexpr uint32_t string_slots = 256;
constexpr uint32_t communicator_slots = 1024;
constexpr uint32_t in_flight_slots = 4096;
constexpr uint32_t ring_slots = 32768;
constexpr uint16_t no_communicator = 0xffff;  // of a record for whose communicator the table had no room

enum class Kind : uint8_t {
  none = 0,
  collective = 1,             // Record::operation
  point_to_point = 2,         // Record::operation
  call = 3,                   // Record::operation: that the program asked for one of them, and for how long
  proxy = 4,                  // Record::proxy
  communicator_init = 5,      // no more than its communicator and when
  communicator_finalize = 6,  // the same
};

enum Flag : uint8_t {
  graph_captured = 1,  // the call put it into a CUDA graph: it runs when the graph does
  copy_engine = 2,     // moved by copy engines, not by a kernel
  incomplete = 4,      // its slot was needed before all of its channels had ended: the times that are there hold
  sends = 8,           // of a proxy operation, which receives otherwise
  foreign = 16,        // a proxy operation for another process (PXN): what it belongs to is known there
};

// A collective or point-to-point of one communicator.
struct Operation {
  uint64_t sequence;  // counted by function and communicator, as NCCL does
  uint64_t count;     // elements, in the sense of the NCCL function
  uint64_t stream;
  uint64_t call_begin_ns;
  uint64_t enqueue_begin_ns;     // 0 in the record of a call
  uint64_t enqueue_end_ns;       // in the record of a call its return
  uint64_t host_begin_ns;        // when the first begin of a channel (or proxy operation) was seen; later than it was
  uint64_t host_end_ns;          // the same of the last end
  uint64_t gpu_begin_ns;         // of the first channel to begin
  uint64_t gpu_end_ns;           // of the last channel to end
  uint32_t gpu_begin_spread_ns;  // from the first channel's begin to the last one's
  uint32_t gpu_end_spread_ns;
  int32_t root_or_peer;
  uint8_t algorithm;
  uint8_t protocol;
  uint8_t channels_ended;
  uint8_t reserved[17];
};

// What the proxy thread did for one channel of an operation, all steps together.
struct Proxy {
  uint64_t sequence;  // of the operation
  uint64_t begin_ns;
  uint64_t end_ns;
  uint64_t moved_bytes;
  uint64_t gpu_wait_ns;      // for the GPU to fill or take a buffer
  uint64_t peer_wait_ns;     // for the other side's room
  uint64_t network_wait_ns;  // for the network to send or receive
  int32_t peer;
  int32_t steps;
  int32_t chunk_bytes;
  int32_t pid;
  uint8_t channel;
  uint8_t reserved[39];
};

// Of `stamp` see Header::head; `at_ns` is when it was written.
struct Record {
  std::atomic<uint64_t> stamp;
  Kind kind;
  uint8_t flags;
  uint16_t communicator;
  uint8_t function;
  uint8_t datatype;
  uint8_t channels;
  uint8_t warps;
  union {
    Operation operation;
    Proxy proxy;
    uint64_t at_ns;
  };
};

struct String {
  char text[32];  // ends with a 0
};

struct Communicator {
  std::atomic<uint32_t> state;  // 0 is free, 1 is being filled, 2 is there
  int32_t rank;
  int32_t ranks;  // 0 is "not known", as with interface v3
  int32_t nodes;
  uint64_t hash;
  char name[104];
};

// Something that has begun. The bits of `state`, from the highest: 32 of generation, 8 of how many channels have ended,
// 1 that is set where nobody knows how many there will be, 7 of Phase, 16 of how many ends are awaited.
struct InFlight {
  std::atomic<uint64_t> state;
  std::atomic<uint64_t> enqueue_end_ns;
  std::atomic<uint64_t> host_begin_ns;
  std::atomic<uint64_t> host_end_ns;
  std::atomic<uint64_t> gpu_first_begin_ns;
  std::atomic<uint64_t> gpu_last_begin_ns;
  std::atomic<uint64_t> gpu_first_end_ns;
  std::atomic<uint64_t> gpu_last_end_ns;
  Record record;
};

enum class Phase : uint8_t {
  free = 0,
  owned = 1,  // one thread fills or empties it
  live = 2,
  held = 3,  // nothing is awaited, but nobody knows whether more comes; its record holds
};

// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): writers and reader have cache lines of their own
struct Header {
  std::array<char, 8> magic;
  uint32_t record_bytes;
  uint32_t interface;  // the ncclProfiler_vN that NCCL took
  uint64_t strings_offset;
  uint64_t communicators_offset;
  uint64_t in_flight_offset;
  uint64_t ring_offset;
  uint64_t begun_ns;
  int32_t pid;
  uint32_t events;  // the mask that NCCL was given
  // How many records were ever begun; record i lies in ring slot i % ring_slots and is whole once its stamp is i + 1.
  alignas(128) std::atomic<uint64_t> head;
  // How many of them the reader has taken: their slots may be written again.
  alignas(128) std::atomic<uint64_t> tail;
  alignas(128) std::atomic<uint64_t> dropped;  // records that found the ring full
  std::atomic<uint64_t> unslotted;             // events that found no slot to be in flight in
  std::atomic<uint64_t> evicted;               // operations whose slot was needed before their end was seen
  std::atomic<uint64_t> stale;                 // ends of what was in flight no more
  std::atomic<uint64_t> untabled;              // strings and communicators that found their table full
};

static_assert(sizeof(Operation) == 112 && sizeof(Proxy) == 112 && sizeof(Record) == 128);
static_assert(sizeof(String) == 32 && sizeof(Communicator) == 128 && sizeof(InFlight) == 192);
static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<uint32_t>::is_always_lock_free);

// Where the parts of a file lie.
constexpr uint64_t strings_offset = 4096;
constexpr uint64_t communicators_offset = strings_offset + string_slots * sizeof(String);
constexpr uint64_t in_flight_offset = communicators_offset + communicator_slots * sizeof(Communicator);
constexpr uint64_t ring_offset = in_flight_offset + in_flight_slots * sizeof(InFlight);
constexpr uint64_t file_bytes = ring_offset + uint64_t{ring_slots} * sizeof(Record);
static_assert(sizeof(Header) <= strings_offset && ring_offset % 128 == 0);

}  // namespace shardprof::nccl
