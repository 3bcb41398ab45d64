#include "shardprof/byte_source.h"

#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#if __has_include(<isa-l/igzip_lib.h>)
#include <isa-l/igzip_lib.h>
#else
#include <igzip_lib.h>
#endif

namespace shardprof {
namespace {

constexpr size_t stored_chunk_bytes = size_t{1} << 18;
constexpr std::string_view gzip_magic = "\x1f\x8b";
constexpr std::string_view zstd_magic = "\x28\xb5\x2f\xfd";
constexpr std::string_view zstd_skippable_magic = "\x2a\x4d\x18";  // behind a byte of 0x50 to 0x5f

// What stands in the file, in chunks.
class StoredBytes {
 public:
  explicit StoredBytes(int descriptor)
      : descriptor_(descriptor), chunk_(std::make_unique_for_overwrite<char[]>(stored_chunk_bytes)) {}

  [[nodiscard]] std::string_view rest() const { return {chunk_.get() + begin_, end_ - begin_}; }
  void drop(size_t count) { begin_ += count; }
  [[nodiscard]] uint64_t total() const { return total_; }
  [[nodiscard]] int error() const { return error_; }

  // Takes in more behind the rest; false at the end of the file or on an error.
  bool refill() {
    std::memmove(chunk_.get(), chunk_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
    const size_t count = read_some(chunk_.get() + end_, stored_chunk_bytes - end_);
    end_ += count;
    return count != 0;
  }

  size_t read_some(char* out, size_t capacity) {
    ssize_t count = 0;
    do count = ::read(descriptor_, out, capacity);
    while (count < 0 && errno == EINTR);
    if (count < 0) error_ = errno;
    total_ += static_cast<uint64_t>(std::max<ssize_t>(count, 0));
    return static_cast<size_t>(std::max<ssize_t>(count, 0));
  }

 private:
  int descriptor_;
  std::unique_ptr<char[]> chunk_;
  size_t begin_ = 0;
  size_t end_ = 0;
  uint64_t total_ = 0;
  int error_ = 0;
};

Error reading_failed(const StoredBytes& stored) { return {ErrorCode::cannot_read, std::strerror(stored.error())}; }

class PlainSource final : public ByteSource {
 public:
  explicit PlainSource(StoredBytes stored) : stored_(std::move(stored)) {}

  Result<size_t> read(char* out, size_t capacity) override {
    size_t count = std::min(capacity, stored_.rest().size());
    std::memcpy(out, stored_.rest().data(), count);
    stored_.drop(count);
    if (count == 0) count = stored_.read_some(out, capacity);
    if (stored_.error() != 0) return reading_failed(stored_);
    return count;
  }

  [[nodiscard]] uint64_t stored_bytes() const override { return stored_.total(); }

 private:
  StoredBytes stored_;
};

// What the two compressed formats share: refilling, and what damage and missing ends mean.
class CompressedSource : public ByteSource {
 public:
  explicit CompressedSource(StoredBytes stored) : stored_(std::move(stored)) {}

  Result<size_t> read(char* out, size_t capacity) override {
    size_t count = 0;
    while (count == 0 && !finished_) {
      if (stored_.rest().empty() && !stored_.refill()) {
        if (stored_.error() != 0) return reading_failed(stored_);
        count = at_frame_end() ? 0 : inflate(out, capacity);  // what waited for room
        finished_ = count == 0;
        truncated_ = truncated_ || (finished_ && !at_frame_end());
        break;
      }
      if (at_frame_end() && !starts_frame()) break;  // padding behind the last frame, as some tools leave it
      const size_t waiting = stored_.rest().size();
      count = inflate(out, capacity);
      if (count == 0 && stored_.rest().size() == waiting) give_up();  // no way on
    }
    any_output_ = any_output_ || count != 0;
    if (truncated_ && !any_output_) return Error{ErrorCode::damaged, "its compressed data is damaged or cut off"};
    return count;
  }

  [[nodiscard]] bool truncated() const override { return truncated_; }
  [[nodiscard]] uint64_t stored_bytes() const override { return stored_.total(); }

 protected:
  // Whether the text so far is complete; the next stored byte would begin another frame.
  [[nodiscard]] virtual bool at_frame_end() const = 0;
  // Makes ready for the frame that the stored bytes begin; false where they begin none.
  virtual bool starts_frame() = 0;
  // Turns stored bytes into text.
  virtual size_t inflate(char* out, size_t capacity) = 0;

  void give_up() { finished_ = truncated_ = true; }  // damage costs what comes behind it
  StoredBytes& stored() { return stored_; }

 private:
  StoredBytes stored_;
  bool any_output_ = false;
  bool finished_ = false;
  bool truncated_ = false;
};

class GzipSource final : public CompressedSource {
 public:
  explicit GzipSource(StoredBytes stored) : CompressedSource(std::move(stored)) { start_member(); }

 protected:
  [[nodiscard]] bool at_frame_end() const override { return state_.block_state == ISAL_BLOCK_FINISH; }

  bool starts_frame() override {
    if (stored().rest().front() != gzip_magic.front()) return false;
    start_member();
    return true;
  }

  size_t inflate(char* out, size_t capacity) override {
    const std::string_view rest = stored().rest();
    state_.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(rest.data()));
    state_.avail_in = static_cast<uint32_t>(rest.size());
    state_.next_out = reinterpret_cast<uint8_t*>(out);
    state_.avail_out = static_cast<uint32_t>(capacity);
    if (isal_inflate(&state_) < 0) give_up();
    stored().drop(rest.size() - state_.avail_in);
    return capacity - state_.avail_out;
  }

 private:
  void start_member() {
    isal_inflate_init(&state_);
    state_.crc_flag = ISAL_GZIP;
  }

  inflate_state state_{};
};

class ZstdSource final : public CompressedSource {
 public:
  explicit ZstdSource(StoredBytes stored) : CompressedSource(std::move(stored)), stream_(ZSTD_createDStream()) {}

 protected:
  [[nodiscard]] bool at_frame_end() const override { return frame_done_; }

  bool starts_frame() override {
    const std::string_view rest = stored().rest();
    return rest.starts_with(zstd_magic.front()) || (rest.front() & 0xf0) == 0x50;
  }

  size_t inflate(char* out, size_t capacity) override {
    const std::string_view rest = stored().rest();
    ZSTD_inBuffer input{rest.data(), rest.size(), 0};
    ZSTD_outBuffer output{out, capacity, 0};
    const size_t status = ZSTD_decompressStream(stream_.get(), &output, &input);
    if (ZSTD_isError(status) != 0) give_up();
    frame_done_ = status == 0;
    stored().drop(input.pos);
    return output.pos;
  }

 private:
  struct Free {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };
  std::unique_ptr<ZSTD_DStream, Free> stream_;
  bool frame_done_ = false;
};

bool is_zstd(std::string_view first) {
  return first.starts_with(zstd_magic) ||
         (first.size() >= 4 && (first[0] & 0xf0) == 0x50 && first.substr(1).starts_with(zstd_skippable_magic));
}

}  // namespace

Result<std::unique_ptr<ByteSource>> open_byte_source(int descriptor) {
  StoredBytes stored{descriptor};
  while (stored.rest().size() < zstd_magic.size() && stored.refill()) continue;
  if (stored.error() != 0) return reading_failed(stored);
  const std::string_view first = stored.rest();
  std::unique_ptr<ByteSource> source;
  if (first.starts_with(gzip_magic)) {
    source = std::make_unique<GzipSource>(std::move(stored));
  } else if (is_zstd(first)) {
    source = std::make_unique<ZstdSource>(std::move(stored));
  } else {
    source = std::make_unique<PlainSource>(std::move(stored));
  }
  return source;
}

}  // namespace shardprof
