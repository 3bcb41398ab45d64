#include "shardprof/trace_file.h"

#include <vector>

#include "shardprof/byte_source.h"
#include "shardprof/event_reader.h"
#include "shardprof/event_splitter.h"

namespace shardprof {
namespace {

constexpr size_t piece_bytes = size_t{1} << 20;
constexpr size_t max_pending_bytes = size_t{64} << 20;  // what inflates without end must not fill the memory

}  // namespace

uint32_t StringPool::intern(std::string_view text) {
  const auto found = ids_.find(text);
  if (found != ids_.end()) return found->second;
  const auto id = static_cast<uint32_t>(strings_.size());
  ids_.emplace(text, id);
  strings_.emplace_back(text);
  return id;
}

void TraceColumns::resize(size_t rows) {
  begin_ns.resize(rows);
  end_ns.resize(rows);
  name.resize(rows);
  category.resize(rows);
  thread.resize(rows);
  correlation.resize(rows);
  external_id.resize(rows);
  stream.resize(rows);
}

Result<TraceFile> read_trace(const std::string& path, const ReadOptions& options) {
  auto opened = open_byte_source(path);
  if (!opened.ok()) return opened.error();
  ByteSource& source = *opened.value();

  TraceFile trace;
  EventReader reader{trace, options};
  EventSplitter splitter;
  std::vector<char> piece(piece_bytes);
  while (true) {
    const auto count = source.read(piece.data(), piece.size());
    if (!count.ok()) return count.error();
    if (count.value() == 0) break;
    splitter.feed({piece.data(), count.value()});
    if (!splitter.complete().empty()) {
      reader.read(splitter.complete());
      splitter.drop_complete();
    }
    if (splitter.pending_bytes() > max_pending_bytes) {
      return Error{ErrorCode::too_large, "its header or one of its events is larger than 64 MiB"};
    }
  }
  const bool is_bare_list_of_something_else = splitter.is_bare_list() && trace.columns.size() == 0;
  if (!splitter.found_events() || is_bare_list_of_something_else) {
    const bool empty = splitter.pending_bytes() == 0;
    return Error{ErrorCode::not_a_trace, empty ? "it is empty" : "there is no list of events in it"};
  }
  if (splitter.holds_partial_event()) ++trace.lost_events;
  trace.truncated = source.truncated() || !splitter.finished();
  trace.metadata_json = splitter.metadata();
  return trace;
}

}  // namespace shardprof
