// The text of a trace file as a stream: plain, gzip or zstd (one frame or several), never the whole file at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "shardprof/result.h"

namespace shardprof {

class ByteSource {
 public:
  virtual ~ByteSource() = default;

  // Fills at most `capacity` bytes; 0 is the end.
  virtual Result<size_t> read(char* out, size_t capacity) = 0;

  // Whether the compressed stream ended before its end mark: what was read until there is good.
  [[nodiscard]] virtual bool truncated() const { return false; }

  // How much of the file has been read.
  [[nodiscard]] virtual uint64_t stored_bytes() const = 0;
};

// Reads from a file or a pipe, which stays the caller's to close. What it holds is told by its first bytes, not by a
// name.
Result<std::unique_ptr<ByteSource>> open_byte_source(int descriptor);

}  // namespace shardprof
