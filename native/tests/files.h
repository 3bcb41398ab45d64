// Files to read in tests: written where temporary files go, gone with their owner.
#pragma once

#include <unistd.h>
#include <zstd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#if __has_include(<isa-l/igzip_lib.h>)
#include <isa-l/igzip_lib.h>
#else
#include <igzip_lib.h>
#endif

namespace shardprof::test {

class TemporaryFile {
 public:
  explicit TemporaryFile(std::string_view content) {
    path_ = (std::filesystem::temp_directory_path() / "shardprof-test-XXXXXX").string();
    const int descriptor = mkstemp(path_.data());
    std::FILE* file = descriptor < 0 ? nullptr : fdopen(descriptor, "wb");
    if (file == nullptr) std::abort();
    std::fwrite(content.data(), 1, content.size(), file);
    std::fclose(file);
  }
  ~TemporaryFile() { std::remove(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// One gzip member.
inline std::string gzip(std::string_view text) {
  std::vector<uint8_t> input(text.begin(), text.end());
  std::vector<uint8_t> output(text.size() + text.size() / 4 + 1024);
  isal_zstream stream;
  isal_deflate_stateless_init(&stream);
  stream.gzip_flag = IGZIP_GZIP;
  stream.end_of_stream = 1;
  stream.next_in = input.data();
  stream.avail_in = static_cast<uint32_t>(input.size());
  stream.next_out = output.data();
  stream.avail_out = static_cast<uint32_t>(output.size());
  if (isal_deflate_stateless(&stream) != COMP_OK) std::abort();
  return {output.begin(), output.begin() + stream.total_out};
}

// One zstd frame.
inline std::string zstd(std::string_view text) {
  std::string output(ZSTD_compressBound(text.size()), '\0');
  const size_t size = ZSTD_compress(output.data(), output.size(), text.data(), text.size(), 1);
  if (ZSTD_isError(size) != 0) std::abort();
  output.resize(size);
  return output;
}

}  // namespace shardprof::test
