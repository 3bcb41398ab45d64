// Every offset and size of the interface on x86-64 (and aarch64, whose layout is the same), per version.
#include <cstddef>

#include "abi.h"

// NOLINTBEGIN(bugprone-macro-parentheses): types and members stand in no expression
#define LIES(type, member, offset, size) \
  static_assert(offsetof(type, member) == (offset) && sizeof(type::member) == (size))
#define LIES_IN(type, part, member, offset, size)                                            \
  static_assert(offsetof(type, part) + offsetof(decltype(type::part), member) == (offset) && \
                sizeof(decltype(type::part)::member) == (size))
// NOLINTEND(bugprone-macro-parentheses)

namespace shardprof::nccl::abi {

static_assert(sizeof(EventV3) == 120);
LIES(EventV3, type, 0, 1);
LIES(EventV3, parentObj, 8, 8);
LIES(EventV3, rank, 16, 4);
LIES_IN(EventV3, coll, name, 24, 8);
LIES_IN(EventV3, coll, commHash, 32, 8);
LIES_IN(EventV3, coll, seqNumber, 40, 8);
LIES_IN(EventV3, coll, func, 48, 8);
LIES_IN(EventV3, coll, sendBuff, 56, 8);
LIES_IN(EventV3, coll, recvBuff, 64, 8);
LIES_IN(EventV3, coll, count, 72, 8);
LIES_IN(EventV3, coll, root, 80, 4);
LIES_IN(EventV3, coll, datatype, 88, 8);
LIES_IN(EventV3, coll, nMaxChannels, 96, 1);
LIES_IN(EventV3, coll, nWarps, 97, 1);
LIES_IN(EventV3, coll, algo, 104, 8);
LIES_IN(EventV3, coll, proto, 112, 8);
LIES_IN(EventV3, p2p, peer, 72, 4);
LIES_IN(EventV3, proxyOp, pid, 24, 4);
LIES_IN(EventV3, proxyOp, channelId, 28, 1);
LIES_IN(EventV3, proxyOp, peer, 32, 4);
LIES_IN(EventV3, proxyOp, nSteps, 36, 4);
LIES_IN(EventV3, proxyOp, chunkSize, 40, 4);
LIES_IN(EventV3, proxyOp, isSend, 44, 4);
LIES_IN(EventV3, proxyStep, step, 24, 4);
LIES_IN(EventV3, kernelCh, channelId, 24, 1);
LIES_IN(EventV3, netPlugin, id, 24, 8);
LIES_IN(EventV3, netPlugin, data, 32, 8);

static_assert(sizeof(StateArgsV3) == 16);

static_assert(sizeof(EventV4) == 104);
LIES(EventV4, type, 0, 1);
LIES(EventV4, parentObj, 8, 8);
LIES(EventV4, rank, 16, 4);
LIES_IN(EventV4, coll, seqNumber, 24, 8);
LIES_IN(EventV4, coll, func, 32, 8);
LIES_IN(EventV4, coll, sendBuff, 40, 8);
LIES_IN(EventV4, coll, recvBuff, 48, 8);
LIES_IN(EventV4, coll, count, 56, 8);
LIES_IN(EventV4, coll, root, 64, 4);
LIES_IN(EventV4, coll, datatype, 72, 8);
LIES_IN(EventV4, coll, nChannels, 80, 1);
LIES_IN(EventV4, coll, nWarps, 81, 1);
LIES_IN(EventV4, coll, algo, 88, 8);
LIES_IN(EventV4, coll, proto, 96, 8);
LIES_IN(EventV4, p2p, func, 24, 8);
LIES_IN(EventV4, p2p, buff, 32, 8);
LIES_IN(EventV4, p2p, datatype, 40, 8);
LIES_IN(EventV4, p2p, count, 48, 8);
LIES_IN(EventV4, p2p, peer, 56, 4);
LIES_IN(EventV4, p2p, nChannels, 60, 1);
LIES_IN(EventV4, proxyOp, pid, 24, 4);
LIES_IN(EventV4, proxyOp, channelId, 28, 1);
LIES_IN(EventV4, proxyOp, peer, 32, 4);
LIES_IN(EventV4, proxyOp, nSteps, 36, 4);
LIES_IN(EventV4, proxyOp, chunkSize, 40, 4);
LIES_IN(EventV4, proxyOp, isSend, 44, 4);
LIES_IN(EventV4, proxyStep, step, 24, 4);
LIES_IN(EventV4, kernelCh, channelId, 24, 1);
LIES_IN(EventV4, kernelCh, pTimer, 32, 8);
LIES_IN(EventV4, netPlugin, id, 24, 8);
LIES_IN(EventV4, netPlugin, data, 32, 8);

static_assert(sizeof(StateArgsV4) == 8);

static_assert(sizeof(EventV5) == 112);
LIES(EventV5, type, 0, 8);
LIES(EventV5, parentObj, 8, 8);
LIES(EventV5, rank, 16, 4);
LIES_IN(EventV5, coll, seqNumber, 24, 8);
LIES_IN(EventV5, coll, func, 32, 8);
LIES_IN(EventV5, coll, sendBuff, 40, 8);
LIES_IN(EventV5, coll, recvBuff, 48, 8);
LIES_IN(EventV5, coll, count, 56, 8);
LIES_IN(EventV5, coll, root, 64, 4);
LIES_IN(EventV5, coll, datatype, 72, 8);
LIES_IN(EventV5, coll, nChannels, 80, 1);
LIES_IN(EventV5, coll, nWarps, 81, 1);
LIES_IN(EventV5, coll, algo, 88, 8);
LIES_IN(EventV5, coll, proto, 96, 8);
LIES_IN(EventV5, p2p, func, 24, 8);
LIES_IN(EventV5, p2p, buff, 32, 8);
LIES_IN(EventV5, p2p, datatype, 40, 8);
LIES_IN(EventV5, p2p, count, 48, 8);
LIES_IN(EventV5, p2p, peer, 56, 4);
LIES_IN(EventV5, p2p, nChannels, 60, 1);
LIES_IN(EventV5, proxyOp, pid, 24, 4);
LIES_IN(EventV5, proxyOp, channelId, 28, 1);
LIES_IN(EventV5, proxyOp, peer, 32, 4);
LIES_IN(EventV5, proxyOp, nSteps, 36, 4);
LIES_IN(EventV5, proxyOp, chunkSize, 40, 4);
LIES_IN(EventV5, proxyOp, isSend, 44, 4);
LIES_IN(EventV5, proxyStep, step, 24, 4);
LIES_IN(EventV5, kernelCh, channelId, 24, 1);
LIES_IN(EventV5, kernelCh, pTimer, 32, 8);
LIES_IN(EventV5, netPlugin, id, 24, 8);
LIES_IN(EventV5, netPlugin, data, 32, 8);
LIES_IN(EventV5, coll, parentGroup, 104, 8);
LIES_IN(EventV5, p2p, parentGroup, 64, 8);
LIES_IN(EventV5, groupApi, graphCaptured, 24, 1);
LIES_IN(EventV5, groupApi, groupDepth, 28, 4);
LIES_IN(EventV5, collApi, func, 24, 8);
LIES_IN(EventV5, collApi, count, 32, 8);
LIES_IN(EventV5, collApi, datatype, 40, 8);
LIES_IN(EventV5, collApi, root, 48, 4);
LIES_IN(EventV5, collApi, stream, 56, 8);
LIES_IN(EventV5, collApi, graphCaptured, 64, 1);
LIES_IN(EventV5, p2pApi, func, 24, 8);
LIES_IN(EventV5, p2pApi, count, 32, 8);
LIES_IN(EventV5, p2pApi, datatype, 40, 8);
LIES_IN(EventV5, p2pApi, stream, 48, 8);
LIES_IN(EventV5, p2pApi, graphCaptured, 56, 1);
LIES_IN(EventV5, kernelLaunch, stream, 24, 8);

static_assert(sizeof(EventV6) == 112);
LIES(EventV6, type, 0, 8);
LIES(EventV6, parentObj, 8, 8);
LIES(EventV6, rank, 16, 4);
LIES_IN(EventV6, coll, seqNumber, 24, 8);
LIES_IN(EventV6, coll, func, 32, 8);
LIES_IN(EventV6, coll, sendBuff, 40, 8);
LIES_IN(EventV6, coll, recvBuff, 48, 8);
LIES_IN(EventV6, coll, count, 56, 8);
LIES_IN(EventV6, coll, root, 64, 4);
LIES_IN(EventV6, coll, datatype, 72, 8);
LIES_IN(EventV6, coll, nChannels, 80, 1);
LIES_IN(EventV6, coll, nWarps, 81, 1);
LIES_IN(EventV6, coll, algo, 88, 8);
LIES_IN(EventV6, coll, proto, 96, 8);
LIES_IN(EventV6, p2p, func, 24, 8);
LIES_IN(EventV6, p2p, buff, 32, 8);
LIES_IN(EventV6, p2p, datatype, 40, 8);
LIES_IN(EventV6, p2p, count, 48, 8);
LIES_IN(EventV6, p2p, peer, 56, 4);
LIES_IN(EventV6, p2p, nChannels, 60, 1);
LIES_IN(EventV6, proxyOp, pid, 24, 4);
LIES_IN(EventV6, proxyOp, channelId, 28, 1);
LIES_IN(EventV6, proxyOp, peer, 32, 4);
LIES_IN(EventV6, proxyOp, nSteps, 36, 4);
LIES_IN(EventV6, proxyOp, chunkSize, 40, 4);
LIES_IN(EventV6, proxyOp, isSend, 44, 4);
LIES_IN(EventV6, proxyStep, step, 24, 4);
LIES_IN(EventV6, kernelCh, channelId, 24, 1);
LIES_IN(EventV6, kernelCh, pTimer, 32, 8);
LIES_IN(EventV6, netPlugin, id, 24, 8);
LIES_IN(EventV6, netPlugin, data, 32, 8);
LIES_IN(EventV6, coll, parentGroup, 104, 8);
LIES_IN(EventV6, p2p, parentGroup, 64, 8);
LIES_IN(EventV6, groupApi, graphCaptured, 24, 1);
LIES_IN(EventV6, groupApi, groupDepth, 28, 4);
LIES_IN(EventV6, collApi, func, 24, 8);
LIES_IN(EventV6, collApi, count, 32, 8);
LIES_IN(EventV6, collApi, datatype, 40, 8);
LIES_IN(EventV6, collApi, root, 48, 4);
LIES_IN(EventV6, collApi, stream, 56, 8);
LIES_IN(EventV6, collApi, graphCaptured, 64, 1);
LIES_IN(EventV6, p2pApi, func, 24, 8);
LIES_IN(EventV6, p2pApi, count, 32, 8);
LIES_IN(EventV6, p2pApi, datatype, 40, 8);
LIES_IN(EventV6, p2pApi, stream, 48, 8);
LIES_IN(EventV6, p2pApi, graphCaptured, 56, 1);
LIES_IN(EventV6, kernelLaunch, stream, 24, 8);
LIES_IN(EventV6, ceColl, seqNumber, 24, 8);
LIES_IN(EventV6, ceColl, func, 32, 8);
LIES_IN(EventV6, ceColl, sendBuff, 40, 8);
LIES_IN(EventV6, ceColl, recvBuff, 48, 8);
LIES_IN(EventV6, ceColl, count, 56, 8);
LIES_IN(EventV6, ceColl, root, 64, 4);
LIES_IN(EventV6, ceColl, datatype, 72, 8);
LIES_IN(EventV6, ceColl, syncStrategy, 80, 8);
LIES_IN(EventV6, ceColl, intraBatchSync, 88, 1);
LIES_IN(EventV6, ceColl, batchSize, 92, 4);
LIES_IN(EventV6, ceColl, numBatches, 96, 4);
LIES_IN(EventV6, ceColl, ceSeqNum, 100, 4);
LIES_IN(EventV6, ceColl, stream, 104, 8);
LIES_IN(EventV6, ceCollSync, isComplete, 24, 1);
LIES_IN(EventV6, ceCollSync, nRanks, 28, 4);
LIES_IN(EventV6, ceCollBatch, numOps, 24, 4);
LIES_IN(EventV6, ceCollBatch, totalBytes, 32, 8);
LIES_IN(EventV6, ceCollBatch, useIntraSync, 40, 1);

static_assert(sizeof(ProfilerV3) == 48);
static_assert(sizeof(ProfilerV4) == 48);

static_assert(sizeof(ProfilerV5) == 48);

static_assert(sizeof(ProfilerV6) == 48);

}  // namespace shardprof::nccl::abi
