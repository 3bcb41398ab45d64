// The text of a trace file as a stream: plain or gzip (one member or several), never the whole file at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "shardprof/result.h"

namespace shardprof {

class ByteSource {
 public:
  virtual ~ByteSource() = default;

  // Fills at most `capacity` bytes; 0 is the end.
  virtual Result<size_t> read(char* out, size_t capacity) = 0;

  // Whether the compressed stream ended before its end mark: what was read until there is good.
  [[nodiscard]] virtual bool truncated() const { return false; }
};

// Opens a file; gzip is told by its first bytes, not by its name.
Result<std::unique_ptr<ByteSource>> open_byte_source(const std::string& path);

}  // namespace shardprof
