#include "recorder.h"

#include <pthread.h>
#include <unistd.h>

#include <cstdlib>
#include <new>

#include "abi.h"
#include "clock.h"

namespace shardprof::nccl {
namespace {

constexpr const char* folder_variable = "SHARDPROF_NCCL_FOLDER";
constexpr const char* events_variable = "SHARDPROF_NCCL_EVENTS";
constexpr int number_base = 0;  // as C writes numbers

// A forked child shares the mapping: it must not write into its parent's records.
std::atomic<bool> silent{false};

uint32_t wanted_events() {
  const char* told = std::getenv(events_variable);
  return told == nullptr ? 0 : static_cast<uint32_t>(std::strtoul(told, nullptr, number_base));
}

void keep_first(std::atomic<uint64_t>& time, uint64_t seen) {
  uint64_t known = time.load(std::memory_order_relaxed);
  while ((known == 0 || seen < known) && !time.compare_exchange_weak(known, seen, std::memory_order_relaxed)) {
  }
}

void keep_last(std::atomic<uint64_t>& time, uint64_t seen) {
  uint64_t known = time.load(std::memory_order_relaxed);
  while (seen > known && !time.compare_exchange_weak(known, seen, std::memory_order_relaxed)) {
  }
}

}  // namespace

Recorder::Recorder(RingFile& file, uint32_t events)
    : file_(file), events_(events), pid_(getpid()), slots_(file), strings_(file), communicators_(file) {}

Recorder* Recorder::of_process(uint32_t interface) {
  static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;
  static Recorder* made = nullptr;
  if (silent.load(std::memory_order_relaxed)) return nullptr;
  pthread_mutex_lock(&making);
  if (made == nullptr) made = make(interface);
  Recorder* known = made;
  pthread_mutex_unlock(&making);
  return known;
}

// For as long as the process lives: NCCL comes and goes.
Recorder* Recorder::make(uint32_t interface) {
  const char* folder = std::getenv(folder_variable);
  const uint32_t events = wanted_events();
  if (folder == nullptr || *folder == '\0' || events == 0) return nullptr;
  RingFile* file = RingFile::make(folder, interface, events);
  if (file == nullptr) return nullptr;
  pthread_atfork(nullptr, nullptr, [] { silent.store(true, std::memory_order_relaxed); });
  return new (std::nothrow) Recorder(*file, events);
}

uint16_t Recorder::open_communicator(uint64_t hash, int rank, int ranks, int nodes, const char* name) {
  const uint16_t place = communicators_.place_of(hash, rank, ranks, nodes, name);
  note(Kind::communicator_init, place);
  return place;
}

void Recorder::close_communicator(uint16_t communicator) {
  if (silent.load(std::memory_order_relaxed)) return;
  if (communicator != no_communicator) slots_.give_up_all_of(communicator);
  note(Kind::communicator_finalize, communicator);
}

uint16_t Recorder::communicator_of_event(uint64_t hash, int rank, const char* name) {
  return communicators_.place_of(hash, rank, 0, 0, name);
}

void Recorder::note(Kind kind, uint16_t communicator) {
  Record record{};
  record.kind = kind;
  record.communicator = communicator;
  record.at_ns = now_ns();
  file_.push(record);
}

InFlight* Recorder::begin(Handle::What what, Handle& handle, uint16_t communicator, const OperationFacts& facts) {
  if (silent.load(std::memory_order_relaxed)) return nullptr;
  InFlight* slot = slots_.take(what, handle);
  if (slot == nullptr) return nullptr;
  Record& record = slot->record;
  record.kind = facts.kind;
  record.flags = facts.flags;
  std::atomic_ref(record.communicator).store(communicator, std::memory_order_relaxed);
  record.function = strings_.place_of(facts.function);
  record.datatype = strings_.place_of(facts.datatype);
  record.channels = facts.channels;
  record.warps = facts.warps;
  Operation& operation = record.operation;
  operation.sequence = facts.sequence;
  operation.count = facts.count;
  operation.stream = reinterpret_cast<uint64_t>(facts.stream);
  operation.root_or_peer = facts.root_or_peer;
  operation.algorithm = strings_.place_of(facts.algorithm);
  operation.protocol = strings_.place_of(facts.protocol);
  return slot;
}

void* Recorder::begin_call(uint16_t communicator, const OperationFacts& facts) {
  Handle handle;
  InFlight* slot = begin(Handle::What::call, handle, communicator, facts);
  if (slot == nullptr) return nullptr;
  const uint64_t begin_ns = now_ns();
  slot->record.operation.call_begin_ns = begin_ns;
  CallNote& call = calls_[handle.slot];
  call.begin_ns.store(begin_ns, std::memory_order_relaxed);
  call.stream.store(slot->record.operation.stream, std::memory_order_relaxed);
  call.captured.store((facts.flags & graph_captured) != 0, std::memory_order_relaxed);
  call.generation.store(handle.generation, std::memory_order_release);
  Slots::start(*slot, 1, false);
  return handle.pack();
}

void* Recorder::begin_operation(uint16_t communicator, const OperationFacts& facts, void* call) {
  Handle handle;
  InFlight* slot = begin(Handle::What::operation, handle, communicator, facts);
  if (slot == nullptr) return nullptr;
  ask_call(slot->record.operation, slot->record.flags, call);
  slot->record.operation.enqueue_begin_ns = now_ns();
  const bool timed =
      (events_ & abi::kernel_channel) != 0 && (facts.flags & copy_engine) == 0 && !facts.runs_in_no_channel;
  Slots::start(*slot, static_cast<uint16_t>(1 + (timed ? facts.channels : 0)), timed && facts.channels == 0);
  return handle.pack();
}

// A replayed graph's operation has no call of its own: that of the capture is long over.
void Recorder::ask_call(Operation& operation, uint8_t& flags, void* call) const {
  const Handle handle = Handle::unpack(call);
  const CallNote& known = calls_[handle.slot];
  if (handle.what != Handle::What::call || known.generation.load(std::memory_order_acquire) != handle.generation) {
    return;
  }
  if (known.captured.load(std::memory_order_relaxed)) {
    flags |= graph_captured;
  } else {
    operation.call_begin_ns = known.begin_ns.load(std::memory_order_relaxed);
  }
  if (operation.stream == 0) operation.stream = known.stream.load(std::memory_order_relaxed);
}

void* Recorder::begin_channel(void* operation, uint64_t gpu_ns) {
  const Handle parent = Handle::unpack(operation);
  if (parent.what != Handle::What::operation || silent.load(std::memory_order_relaxed)) return nullptr;
  InFlight* slot = slots_.find(parent);
  if (slot == nullptr) {
    too_late();
    return nullptr;
  }
  keep_first(slot->host_begin_ns, now_ns());
  if (gpu_ns != 0) {
    keep_first(slot->gpu_first_begin_ns, gpu_ns);
    keep_last(slot->gpu_last_begin_ns, gpu_ns);
  }
  if (!Slots::channel_begins(*slot, parent)) {
    too_late();
    return nullptr;
  }
  return parent.as(Handle::What::channel).pack();
}

void Recorder::channel_ended(void* channel, uint64_t gpu_ns) {
  const Handle handle = Handle::unpack(channel);
  if (handle.what != Handle::What::channel || gpu_ns == 0) return;
  InFlight* slot = slots_.find(handle);
  if (slot == nullptr) return;  // end() counts it
  keep_first(slot->gpu_first_end_ns, gpu_ns);
  keep_last(slot->gpu_last_end_ns, gpu_ns);
}

void* Recorder::begin_proxy(uint16_t communicator, const ProxyFacts& facts, void* operation) {
  Handle handle;
  // One for another process has that one's context.
  const bool is_own = facts.pid == pid_;
  InFlight* slot = begin(Handle::What::proxy, handle, is_own ? communicator : no_communicator, {.kind = Kind::proxy});
  if (slot == nullptr) return nullptr;
  Record& record = slot->record;
  record.proxy = {};
  record.proxy.begin_ns = now_ns();
  record.proxy.peer = facts.peer;
  record.proxy.steps = facts.steps;
  record.proxy.chunk_bytes = facts.chunk_bytes;
  record.proxy.pid = facts.pid;
  record.proxy.channel = facts.channel;
  if (facts.sends) record.flags |= sends;
  steps_[handle.slot] = {};
  const Handle parent = is_own ? Handle::unpack(operation) : Handle{};
  InFlight* owner = parent.what == Handle::What::operation ? slots_.find(parent) : nullptr;
  if (!is_own) record.flags |= foreign;
  if (owner != nullptr && Slots::wait_for_more(*owner, parent)) {
    record.function = owner->record.function;
    record.proxy.sequence = owner->record.operation.sequence;
    keep_first(owner->host_begin_ns, record.proxy.begin_ns);
    parents_[handle.slot].store(operation, std::memory_order_relaxed);
  } else {
    parents_[handle.slot].store(nullptr, std::memory_order_relaxed);
  }
  Slots::start(*slot, 1, false);
  return handle.pack();
}

void* Recorder::begin_step(void* proxy, int step) {
  const Handle parent = Handle::unpack(proxy);
  if (parent.what != Handle::What::proxy || slots_.find(parent) == nullptr) return nullptr;
  const auto place = static_cast<uint8_t>(static_cast<unsigned>(step) % steps_at_once);
  steps_[parent.slot][place] = {};
  return parent.as(Handle::What::step, place).pack();
}

void Recorder::step_does(void* step, StepState state, uint64_t moved_bytes) {
  const Handle handle = Handle::unpack(step);
  if (handle.what == Handle::What::step) close_step(handle, state, moved_bytes);
}

void Recorder::close_step(const Handle& handle, StepState next, uint64_t moved_bytes) {
  InFlight* slot = slots_.find(handle);
  if (slot == nullptr) return;
  StepNote& step = steps_[handle.slot][handle.step];
  Proxy& proxy = slot->record.proxy;
  const uint64_t time_ns = now_ns();
  const uint64_t lasted_ns = step.since_ns == 0 ? 0 : time_ns - step.since_ns;
  if (step.state == StepState::gpu_wait) proxy.gpu_wait_ns += lasted_ns;
  if (step.state == StepState::peer_wait) proxy.peer_wait_ns += lasted_ns;
  if (step.state == StepState::network_wait) proxy.network_wait_ns += lasted_ns;
  proxy.moved_bytes += moved_bytes;
  step = {time_ns, next};
}

void Recorder::end(void* handle) {
  if (handle == nullptr || silent.load(std::memory_order_relaxed)) return;
  const Handle known = Handle::unpack(handle);
  switch (known.what) {
    case Handle::What::operation:
    case Handle::What::call:
      return end_enqueued(known);
    case Handle::What::channel:
      return end_channel(known);
    case Handle::What::proxy:
      return end_proxy(known);
    case Handle::What::step:
      return close_step(known, StepState::none, 0);
    case Handle::What::group:
    case Handle::What::none:
      return;
  }
}

void Recorder::end_enqueued(const Handle& handle) {
  InFlight* slot = slots_.find(handle);
  if (slot == nullptr) return too_late();
  slot->enqueue_end_ns.store(now_ns(), std::memory_order_relaxed);
  if (!slots_.end(*slot, handle)) too_late();
}

void Recorder::end_channel(const Handle& handle) {
  InFlight* slot = slots_.find(handle);
  if (slot == nullptr) return too_late();
  keep_last(slot->host_end_ns, now_ns());
  if (!slots_.end(*slot, handle)) too_late();
}

void Recorder::end_proxy(const Handle& handle) {
  InFlight* slot = slots_.find(handle);
  if (slot == nullptr) return too_late();
  const uint64_t time_ns = now_ns();
  slot->record.proxy.end_ns = time_ns;
  const Handle parent = Handle::unpack(parents_[handle.slot].load(std::memory_order_relaxed));
  if (!slots_.end(*slot, handle)) return too_late();
  InFlight* owner = parent.what == Handle::What::operation ? slots_.find(parent) : nullptr;
  if (owner == nullptr) return;
  keep_last(owner->host_end_ns, time_ns);
  if (!slots_.end(*owner, parent)) too_late();
}

void Recorder::too_late() { file_.header().stale.fetch_add(1, std::memory_order_relaxed); }

}  // namespace shardprof::nccl
