// A Kineto Chrome trace as columns: one row an event with a duration (ph "X"), in the order of the file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "shardprof/result.h"

namespace shardprof {

// Stands in integer columns where an event does not have that argument.
inline constexpr int64_t absent = INT64_MIN;

// Strings that occur many times, each kept once, numbered in order of arrival.
class StringPool {
 public:
  uint32_t intern(std::string_view text);
  [[nodiscard]] const std::vector<std::string>& strings() const { return strings_; }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  std::unordered_map<std::string, uint32_t, Hash, std::equal_to<>> ids_;
  std::vector<std::string> strings_;
};

struct TraceColumns {
  std::vector<int64_t> begin_ns;
  std::vector<int64_t> end_ns;
  std::vector<uint32_t> name;      // into names
  std::vector<uint32_t> category;  // into categories
  std::vector<uint32_t> thread;    // into threads
  std::vector<int64_t> correlation;
  std::vector<int64_t> external_id;
  std::vector<int64_t> stream;

  [[nodiscard]] size_t size() const { return begin_ns.size(); }
  void resize(size_t rows);
};

struct TraceFile {
  TraceColumns columns;
  // Strings as they stand in the file, without their quotes but still escaped. A thread is "pid/tid".
  StringPool names;
  StringPool categories;
  StringPool threads;
  // The arguments, as JSON text, of the events that ReadOptions asks them for.
  std::vector<uint32_t> detail_row;
  std::vector<std::string> detail_json;
  // Everything around the events, as one JSON object.
  std::string metadata_json;
  int64_t lost_events = 0;  // not readable, or cut off by the end of the file
  bool truncated = false;   // the file ends before the trace does
};

struct ReadOptions {
  std::vector<std::string> skip_categories;       // their events cost no memory
  std::vector<std::string> detail_name_prefixes;  // keep the arguments of events whose name begins so,
  std::string detail_argument;                    // and of those that have this argument
};

// Reads a plain or gzip-compressed trace as a stream. What is damaged is left out and counted. Fails where there is
// no list of events at all.
Result<TraceFile> read_trace(const std::string& path, const ReadOptions& options);

}  // namespace shardprof
