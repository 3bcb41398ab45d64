// One JSON event in, one row of columns out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "shardprof/token_cursor.h"
#include "shardprof/trace_file.h"

namespace shardprof {

class EventReader {
 public:
  EventReader(TraceFile& trace, const ReadOptions& options) : trace_(trace), options_(options) {}

  // Reads the event whose opening brace is next and appends it, where it has a duration and is wanted. `done` moves the
  // cursor behind the event; otherwise nothing was appended. Behind it a comma or the list's end has to come, unless
  // the text is at its end (`last`): a quote that nobody escaped may make an event seem to end early. An event without
  // a readable time is `done` and lost; `position` is where in the whole text it begins.
  Outcome read(TokenCursor& cursor, uint64_t position, bool last);

  void count_lost(uint64_t position);

 private:
  struct Fields;

  Outcome read_arguments(TokenCursor& cursor, Fields& fields);
  [[nodiscard]] bool is_shape(std::string_view key) const;
  static Outcome read_shape(TokenCursor& cursor, Fields& fields);
  bool append(const Fields& fields);
  void append_details(TokenCursor arguments);
  uint32_t category_id(std::string_view category);
  uint32_t name_id(std::string_view name);
  uint32_t thread_id(std::string_view process, std::string_view thread);

  TraceFile& trace_;
  const ReadOptions& options_;
  // By id in the trace's pools, decided when a string is first seen.
  std::vector<bool> category_is_skipped_;
  std::vector<bool> name_wants_detail_;
  uint32_t last_category_ = 0;
  std::string thread_;   // scratch
  std::string details_;  // scratch
};

}  // namespace shardprof
