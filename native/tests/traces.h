// Traces as text, parsed whole or in pieces, and their rows in words.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "shardprof/text_stream.h"
#include "shardprof/trace_parser.h"

namespace shardprof::test {

inline const ReadOptions options{{"python_function"},
                                 {"c10d::", "gloo:"},
                                 "Collective name",
                                 {"Collective name", "Input Dims"},
                                 "Seq",
                                 {"grid", "Input Dims"},
                                 0,
                                 UINT64_MAX};

struct Parsed {
  TraceFile trace;
  bool found_events = false;
  bool finished = false;
};

// Feeds `text` in pieces of `piece` bytes, as a stream would.
inline Parsed parse(std::string_view text, size_t piece = std::string_view::npos) {
  Parsed parsed;
  TraceParser parser{parsed.trace, options};
  std::string pending;
  for (bool last = false; !last;) {
    pending.append(text.substr(0, piece));
    text.remove_prefix(std::min(piece, text.size()));
    last = text.empty();
    const size_t size = pending.size();
    pending.append(TextStream::padding_bytes, ' ');
    const size_t done = parser.feed({pending.data(), size}, last);
    pending = pending.substr(done, size - done);
  }
  parsed.found_events = parser.found_events();
  parsed.finished = parser.finished();
  return parsed;
}

inline std::string name_of(const TraceFile& trace, size_t row) {
  return trace.names.strings()[trace.columns.name[row]];
}
inline std::string category_of(const TraceFile& trace, size_t row) {
  return trace.categories.strings()[trace.columns.category[row]];
}
inline std::string thread_of(const TraceFile& trace, size_t row) {
  return trace.threads.strings()[trace.columns.thread[row]];
}

// The names of all rows, one behind the other.
inline std::string names(const TraceFile& trace) {
  std::string all;
  for (size_t row = 0; row < trace.columns.size(); ++row) all += (row > 0 ? "|" : "") + name_of(trace, row);
  return all;
}

}  // namespace shardprof::test
