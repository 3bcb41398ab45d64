// A Kineto Chrome trace as columns: one row an event with a duration (ph "X"), in the order of the file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "shardprof/column.h"
#include "shardprof/result.h"
#include "shardprof/string_pool.h"

namespace shardprof {

// Stands in integer columns where an event does not have that argument.
inline constexpr int64_t absent = INT64_MIN;

struct TraceColumns {
  Column<int64_t> begin_ns;
  Column<int64_t> end_ns;
  Column<uint32_t> name;      // into names
  Column<uint32_t> category;  // into categories
  Column<uint32_t> thread;    // into threads
  Column<int64_t> correlation;
  Column<int64_t> external_id;
  Column<int64_t> stream;
  Column<uint32_t> shape;  // a hash of the argument that ReadOptions calls a shape, as it stands in the file; 0: none

  [[nodiscard]] size_t size() const { return begin_ns.size(); }
};

// A part of the object around the events, both as they stand in the file: the key without its quotes, the value as
// JSON.
struct Member {
  std::string key;
  std::string json;
};

struct TraceFile {
  TraceColumns columns;
  // Strings as they stand in the file, without their quotes but still escaped. A thread is "pid/tid".
  StringPool names;
  StringPool categories;
  StringPool threads;
  // Arguments of the events that ReadOptions asks them for: JSON objects, each kept once, since a training does the
  // same things over and over.
  Column<uint32_t> detail_row;
  Column<uint32_t> detail;          // into details
  Column<int64_t> detail_sequence;  // the argument that ReadOptions calls detail_sequence
  StringPool details;
  std::vector<Member> metadata;  // in the order of the file
  uint64_t metadata_bytes = 0;   // what the metadata take
  uint64_t text_bytes = 0;       // of the whole text
  int64_t lost_events = 0;       // not readable, or cut off by the end of the file
  uint64_t first_lost_byte = 0;  // where in the text the first of them begins
  bool truncated = false;        // the file ends before the trace does
};

struct ReadOptions {
  std::vector<std::string> skip_categories;       // their events cost no memory
  std::vector<std::string> detail_name_prefixes;  // keep details of events whose name begins so,
  std::string detail_mark;                        // and of those that have this argument:
  std::vector<std::string> detail_arguments;      // these arguments,
  std::string detail_sequence;                    // and this integer, which is another one with each event
  std::vector<std::string> shape_arguments;       // these tell how much an event has to do; it has one of them at most
  uint64_t max_text_bytes = 0;                    // refuse more text than this; 0: than any honest trace has
  uint64_t max_events = UINT64_MAX;               // refuse more rows than this, which memory has to hold
};

// Reads a trace (plain, gzip, zstd) from a file or a pipe as a stream. What is damaged is mended or left out and
// counted. Fails where there is no list of events at all. The descriptor stays the caller's to close.
Result<TraceFile> read_trace(int descriptor, const ReadOptions& options);

}  // namespace shardprof
