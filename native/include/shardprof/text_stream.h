// The text of a trace in blocks, inflated on a thread of its own ahead of the one that parses it.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "shardprof/byte_source.h"
#include "shardprof/result.h"

namespace shardprof {

class TextStream {
 public:
  static constexpr size_t block_bytes = size_t{1} << 19;
  static constexpr size_t headroom_bytes = size_t{1} << 16;  // writable in front of a block's text
  static constexpr size_t padding_bytes = 64;                // writable behind it

  // Fails with `too_much_text` once the text is longer than `max_text_bytes`; 0 stands for what no honest trace
  // exceeds.
  TextStream(std::unique_ptr<ByteSource> source, uint64_t max_text_bytes);
  ~TextStream();
  TextStream(const TextStream&) = delete;
  TextStream& operator=(const TextStream&) = delete;

  // The next block, valid until the next call; empty at the end.
  Result<std::span<char>> next();

  // Whether the file ended before its compressed stream did. Only to be asked at the end.
  [[nodiscard]] bool truncated() const { return source_->truncated(); }

 private:
  struct Block {
    std::unique_ptr<char[]> bytes =
        std::make_unique_for_overwrite<char[]>(headroom_bytes + block_bytes + padding_bytes);
    size_t size = 0;
    std::optional<Error> error;
    [[nodiscard]] char* text() const { return bytes.get() + headroom_bytes; }
  };

  void inflate_ahead();
  void fill(Block& block);
  [[nodiscard]] std::optional<Error> beyond_limit() const;

  std::unique_ptr<ByteSource> source_;
  uint64_t max_text_bytes_;
  uint64_t text_bytes_ = 0;
  std::vector<Block> blocks_;
  Block* borrowed_ = nullptr;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Block*> free_;   // to be filled
  std::deque<Block*> ready_;  // to be parsed
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace shardprof
