#include "shardprof/byte_source.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#if __has_include(<isa-l/igzip_lib.h>)
#include <isa-l/igzip_lib.h>
#else
#include <igzip_lib.h>
#endif

namespace shardprof {
namespace {

constexpr size_t compressed_chunk_bytes = size_t{1} << 18;
constexpr uint8_t gzip_magic = 0x1f;

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, FileCloser>;

class PlainSource final : public ByteSource {
 public:
  explicit PlainSource(File file) : file_(std::move(file)) {}

  Result<size_t> read(char* out, size_t capacity) override {
    const size_t count = std::fread(out, 1, capacity, file_.get());
    if (count == 0 && std::ferror(file_.get()) != 0) return Error{ErrorCode::cannot_read, std::strerror(errno)};
    return count;
  }

 private:
  File file_;
};

class GzipSource final : public ByteSource {
 public:
  explicit GzipSource(File file) : file_(std::move(file)), input_(compressed_chunk_bytes) { start_member(); }

  Result<size_t> read(char* out, size_t capacity) override {
    state_.next_out = reinterpret_cast<uint8_t*>(out);
    state_.avail_out = static_cast<uint32_t>(capacity);
    while (state_.avail_out == capacity && !finished_) {
      if (state_.avail_in == 0 && !refill()) break;
      if (member_done()) {
        if (state_.next_in[0] != gzip_magic) break;  // padding behind the last member, as some tools leave it
        start_member();
      }
      if (isal_inflate(&state_) < 0) finished_ = truncated_ = true;  // damage costs what comes behind it
    }
    const size_t count = capacity - state_.avail_out;
    any_output_ = any_output_ || count != 0;
    if (truncated_ && !any_output_) return Error{ErrorCode::not_gzip_data, "the gzip data is damaged or cut off"};
    return count;
  }

  [[nodiscard]] bool truncated() const override { return truncated_; }

 private:
  void start_member() {
    uint8_t* next_in = state_.next_in;
    const uint32_t avail_in = state_.avail_in;
    uint8_t* next_out = state_.next_out;
    const uint32_t avail_out = state_.avail_out;
    isal_inflate_init(&state_);
    state_.crc_flag = ISAL_GZIP;
    state_.next_in = next_in;
    state_.avail_in = avail_in;
    state_.next_out = next_out;
    state_.avail_out = avail_out;
  }

  [[nodiscard]] bool member_done() const { return state_.block_state == ISAL_BLOCK_FINISH; }

  bool refill() {
    const size_t count = std::fread(input_.data(), 1, input_.size(), file_.get());
    state_.next_in = input_.data();
    state_.avail_in = static_cast<uint32_t>(count);
    if (count == 0) {
      finished_ = true;
      truncated_ = !member_done();
    }
    return count != 0;
  }

  File file_;
  std::vector<uint8_t> input_;
  inflate_state state_{};
  bool any_output_ = false;
  bool finished_ = false;
  bool truncated_ = false;
};

}  // namespace

Result<std::unique_ptr<ByteSource>> open_byte_source(const std::string& path) {
  File file{std::fopen(path.c_str(), "rb")};
  if (!file) return Error{ErrorCode::cannot_open, std::strerror(errno)};
  const int first = std::fgetc(file.get());
  const int second = std::fgetc(file.get());
  if (std::ferror(file.get()) != 0) return Error{ErrorCode::cannot_read, std::strerror(errno)};
  std::rewind(file.get());
  std::unique_ptr<ByteSource> source;
  if (first == gzip_magic && second == 0x8b) {
    source = std::make_unique<GzipSource>(std::move(file));
  } else {
    source = std::make_unique<PlainSource>(std::move(file));
  }
  return source;
}

}  // namespace shardprof
