#include "shardprof/trace_file.h"

#include <cstring>
#include <string>
#include <system_error>

#include "shardprof/byte_source.h"
#include "shardprof/text_stream.h"
#include "shardprof/trace_parser.h"

namespace shardprof {
namespace {

constexpr size_t max_pending_bytes = size_t{64} << 20;  // what inflates without end must not fill the memory

// What was fed to the parser and not taken, in front of what comes next.
class PendingText {
 public:
  // The block with the pending text in front of it: where that fits into the block's headroom, nothing is copied but
  // it.
  std::span<char> followed_by(std::span<char> block) {
    if (pending_.size() <= TextStream::headroom_bytes && !block.empty()) {
      char* begin = block.data() - pending_.size();
      std::memcpy(begin, pending_.data(), pending_.size());
      return {begin, pending_.size() + block.size()};
    }
    pending_.append(block.data(), block.size());
    const size_t size = pending_.size();
    pending_.append(TextStream::padding_bytes, ' ');
    return {pending_.data(), size};
  }

  // Keeps what of `text`, which is what followed_by gave, comes behind its first `done` bytes.
  void keep(std::span<const char> text, size_t done) {
    if (text.data() != pending_.data()) {
      pending_.assign(text.data() + done, text.size() - done);
    } else {
      pending_.resize(text.size());
      pending_.erase(0, done);
    }
  }

  [[nodiscard]] size_t size() const { return pending_.size(); }

 private:
  std::string pending_;
};

Error not_a_trace(const TraceFile& trace) {
  return {ErrorCode::not_a_trace, trace.text_bytes == 0 ? "it is empty" : "there is no list of events in it"};
}

Result<TraceFile> parse(TextStream& stream, const ReadOptions& options) {
  TraceFile trace;
  TraceParser parser{trace, options};
  PendingText pending;
  size_t enough = 0;  // text that was fed in vain is not fed again before there is twice as much: it is something long
  while (true) {
    const auto block = stream.next();
    if (!block.ok()) return block.error();
    const bool last = block.value().empty();
    trace.text_bytes += block.value().size();
    const std::span<char> text = pending.followed_by(block.value());
    size_t done = 0;
    if (last || text.size() >= enough) {
      done = parser.feed(text, last);
      enough = done == 0 ? 2 * text.size() : 0;
    }
    pending.keep(text, done);
    if (parser.is_no_trace()) return not_a_trace(trace);
    if (trace.metadata_bytes > max_pending_bytes)
      return Error{ErrorCode::too_large, "its header is larger than 64 MiB"};
    if (trace.columns.size() > options.max_events) {
      return Error{ErrorCode::too_many_events, "it holds more than " + std::to_string(options.max_events) + " events"};
    }
    if (last) break;
    if (pending.size() > max_pending_bytes) {
      return Error{ErrorCode::too_large, "its header or one of its events is larger than 64 MiB"};
    }
  }
  const bool is_bare_list_of_something_else = parser.is_bare_list() && trace.columns.size() == 0;
  if (!parser.found_events() || is_bare_list_of_something_else) return not_a_trace(trace);
  trace.truncated = stream.truncated() || !parser.finished();
  return trace;
}

}  // namespace

Result<TraceFile> read_trace(int descriptor, const ReadOptions& options) {
  auto source = open_byte_source(descriptor);
  if (!source.ok()) return source.error();
  try {
    TextStream stream{std::move(source.value()), options.max_text_bytes};
    return parse(stream, options);
  } catch (const std::system_error& error) {  // no thread could be started
    return Error{ErrorCode::cannot_read, error.what()};
  }
}

}  // namespace shardprof
