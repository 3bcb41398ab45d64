// NCCL's profiler interface, versions 3 to 6 (NCCL 2.26 to 2.30), as far as a plugin meets it. Declared from the
// interface's facts; abi_layout.cpp holds every offset and size to them.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace shardprof::nccl::abi {

// Bits of the event mask, and the `type` of a descriptor.
enum EventType : uint32_t {
  group = 1 << 0,
  collective = 1 << 1,
  point_to_point = 1 << 2,
  proxy_op = 1 << 3,
  proxy_step = 1 << 4,
  proxy_control = 1 << 5,
  kernel_channel = 1 << 6,
  net_plugin = 1 << 7,
  group_call = 1 << 8,
  collective_call = 1 << 9,
  point_to_point_call = 1 << 10,
  kernel_launch = 1 << 11,
  copy_engine_collective = 1 << 12,
};

enum State : int {
  step_send_gpu_wait = 8,
  step_send_wait = 9,
  step_receive_wait = 10,
  step_receive_flush_wait = 11,
  step_receive_gpu_wait = 12,
  step_send_peer_wait = 20,
  kernel_channel_stop = 22,
};

// Parts that all versions share.
struct ProxyOp {
  pid_t pid;
  uint8_t channelId;
  int peer;
  int nSteps;
  int chunkSize;
  int isSend;
};

struct ProxyStep {
  int step;
};

struct NetPlugin {
  int64_t id;
  void* data;
};

struct EventV3 {
  struct Coll {
    const char* name;
    uint64_t commHash;
    uint64_t seqNumber;
    const char* func;
    const void* sendBuff;
    void* recvBuff;
    size_t count;
    int root;
    const char* datatype;
    uint8_t nMaxChannels;
    uint8_t nWarps;
    const char* algo;
    const char* proto;
  };
  struct P2p {
    const char* name;
    uint64_t commHash;
    const char* func;
    void* buff;
    const char* datatype;
    size_t count;
    int peer;
  };
  struct KernelCh {
    uint8_t channelId;
  };
  uint8_t type;
  void* parentObj;
  int rank;
  union {
    Coll coll;
    P2p p2p;
    ProxyOp proxyOp;
    ProxyStep proxyStep;
    KernelCh kernelCh;
    NetPlugin netPlugin;
  };
};

struct KernelChTimed {
  uint8_t channelId;
  uint64_t pTimer;
};

struct EventV4 {
  struct Coll {
    uint64_t seqNumber;
    const char* func;
    const void* sendBuff;
    void* recvBuff;
    size_t count;
    int root;
    const char* datatype;
    uint8_t nChannels;
    uint8_t nWarps;
    const char* algo;
    const char* proto;
  };
  struct P2p {
    const char* func;
    void* buff;
    const char* datatype;
    size_t count;
    int peer;
    uint8_t nChannels;
  };
  uint8_t type;
  void* parentObj;
  int rank;
  union {
    Coll coll;
    P2p p2p;
    ProxyOp proxyOp;
    ProxyStep proxyStep;
    KernelChTimed kernelCh;
    NetPlugin netPlugin;
  };
};

// Version 6 has these and more of its own.
struct CollV5 {
  uint64_t seqNumber;
  const char* func;
  const void* sendBuff;
  void* recvBuff;
  size_t count;
  int root;
  const char* datatype;
  uint8_t nChannels;
  uint8_t nWarps;
  const char* algo;
  const char* proto;
  void* parentGroup;
};

struct P2pV5 {
  const char* func;
  void* buff;
  const char* datatype;
  size_t count;
  int peer;
  uint8_t nChannels;
  void* parentGroup;
};

struct GroupApi {
  bool graphCaptured;
  int groupDepth;
};

struct CollApi {
  const char* func;
  size_t count;
  const char* datatype;
  int root;
  void* stream;
  bool graphCaptured;
};

struct P2pApi {
  const char* func;
  size_t count;
  const char* datatype;
  void* stream;
  bool graphCaptured;
};

struct KernelLaunch {
  void* stream;
};

struct CeColl {
  uint64_t seqNumber;
  const char* func;
  const void* sendBuff;
  void* recvBuff;
  size_t count;
  int root;
  const char* datatype;
  const char* syncStrategy;
  bool intraBatchSync;
  uint32_t batchSize;
  uint32_t numBatches;
  uint32_t ceSeqNum;
  void* stream;
};

struct CeCollSync {
  bool isComplete;
  int nRanks;
};

struct CeCollBatch {
  int numOps;
  size_t totalBytes;
  bool useIntraSync;
};

struct EventV5 {
  uint64_t type;
  void* parentObj;
  int rank;
  union {
    GroupApi groupApi;
    CollApi collApi;
    P2pApi p2pApi;
    KernelLaunch kernelLaunch;
    CollV5 coll;
    P2pV5 p2p;
    ProxyOp proxyOp;
    ProxyStep proxyStep;
    KernelChTimed kernelCh;
    NetPlugin netPlugin;
  };
};

struct EventV6 {
  uint64_t type;
  void* parentObj;
  int rank;
  union {
    GroupApi groupApi;
    CollApi collApi;
    P2pApi p2pApi;
    KernelLaunch kernelLaunch;
    CollV5 coll;
    P2pV5 p2p;
    ProxyOp proxyOp;
    ProxyStep proxyStep;
    KernelChTimed kernelCh;
    NetPlugin netPlugin;
    CeColl ceColl;
    CeCollSync ceCollSync;
    CeCollBatch ceCollBatch;
  };
};

union StateArgsV3 {
  struct {
    size_t transSize;
    int steps;
  } proxyOp;
  struct {
    int appendedProxyOps;
  } proxyCtrl;
};

union StateArgsV4 {
  struct {
    size_t transSize;
  } proxyStep;
  struct {
    int appendedProxyOps;
  } proxyCtrl;
  struct {
    void* data;
  } netPlugin;
  struct {
    uint64_t pTimer;
  } kernelCh;
};

using DebugLogger = void (*)(int level, unsigned long flags, const char* file, int line, const char* format, ...);

using InitV3 = int (*)(void** context, int* mask);
using InitV4 = int (*)(void** context, int* mask, const char* name, uint64_t hash, int nodes, int ranks, int rank,
                       DebugLogger);
using InitV5 = int (*)(void** context, uint64_t hash, int* mask, const char* name, int nodes, int ranks, int rank,
                       DebugLogger);

template <typename Init, typename Event, typename StateArgs>
struct Profiler {
  const char* name;
  Init init;
  int (*startEvent)(void* context, void** handle, Event* event);
  int (*stopEvent)(void* handle);
  int (*recordEventState)(void* handle, int state, StateArgs* arguments);
  int (*finalize)(void* context);
};

using ProfilerV3 = Profiler<InitV3, EventV3, StateArgsV3>;
using ProfilerV4 = Profiler<InitV4, EventV4, StateArgsV4>;
using ProfilerV5 = Profiler<InitV5, EventV5, StateArgsV4>;
using ProfilerV6 = Profiler<InitV5, EventV6, StateArgsV4>;

}  // namespace shardprof::nccl::abi
