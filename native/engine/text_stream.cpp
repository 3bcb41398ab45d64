#include "shardprof/text_stream.h"

#include <algorithm>
#include <string>
#include <utility>

namespace shardprof {
namespace {

constexpr size_t blocks_ahead = 3;  // one being filled, one waiting, one being parsed

// Traces compress 10 to 40 times. What inflates further than this is no trace but a bomb.
constexpr uint64_t usual_text_bytes = uint64_t{512} << 20;
constexpr uint64_t unusual_ratio = 128;

}  // namespace

TextStream::TextStream(std::unique_ptr<ByteSource> source, uint64_t max_text_bytes)
    : source_(std::move(source)), max_text_bytes_(max_text_bytes), blocks_(blocks_ahead) {
  for (Block& block : blocks_) free_.push_back(&block);
  thread_ = std::thread{&TextStream::inflate_ahead, this};
}

TextStream::~TextStream() {
  {
    const std::lock_guard lock{mutex_};
    stopped_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Result<std::span<char>> TextStream::next() {
  std::unique_lock lock{mutex_};
  if (borrowed_ != nullptr) {
    free_.push_back(std::exchange(borrowed_, nullptr));
    changed_.notify_all();
  }
  changed_.wait(lock, [this] { return !ready_.empty(); });
  Block& block = *ready_.front();
  if (block.error) return *block.error;
  if (block.size == 0) return std::span<char>{};
  ready_.pop_front();  // the end and an error stay, for whoever asks again
  borrowed_ = &block;
  return std::span{block.text(), block.size};
}

void TextStream::inflate_ahead() {
  for (bool more = true; more;) {
    Block* block = nullptr;
    {
      std::unique_lock lock{mutex_};
      changed_.wait(lock, [this] { return stopped_ || !free_.empty(); });
      if (stopped_) return;
      block = free_.front();
      free_.pop_front();
    }
    fill(*block);
    more = block->size != 0 && !block->error;
    {
      const std::lock_guard lock{mutex_};
      ready_.push_back(block);
    }
    changed_.notify_all();
  }
}

void TextStream::fill(Block& block) {
  block.size = 0;
  while (block.size < block_bytes) {
    const auto count = source_->read(block.text() + block.size, block_bytes - block.size);
    if (!count.ok()) {
      block.error = count.error();
      return;
    }
    if (count.value() == 0) return;
    block.size += count.value();
    text_bytes_ += count.value();
    block.error = beyond_limit();
    if (block.error) return;
  }
}

std::optional<Error> TextStream::beyond_limit() const {
  const uint64_t stored = source_->stored_bytes();
  const uint64_t limit = max_text_bytes_ != 0 ? max_text_bytes_ : std::max(usual_text_bytes, unusual_ratio * stored);
  if (text_bytes_ <= limit) return std::nullopt;
  return Error{ErrorCode::too_much_text, "its text is longer than " + std::to_string(limit >> 20) + " MiB, " +
                                             std::to_string(text_bytes_ / std::max<uint64_t>(stored, 1)) +
                                             " times what was read of the file"};
}

}  // namespace shardprof
