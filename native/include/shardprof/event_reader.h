// JSON events in, rows of columns out.
#pragma once

#include <memory>
#include <string_view>

#include "shardprof/trace_file.h"

namespace shardprof {

class EventReader {
 public:
  EventReader(TraceFile& trace, const ReadOptions& options);
  ~EventReader();
  EventReader(const EventReader&) = delete;
  EventReader& operator=(const EventReader&) = delete;

  // Appends the events of `batch`: complete JSON objects with commas between them. An object that is no readable
  // event is counted as lost.
  void read(std::string_view batch);

 private:
  class Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace shardprof
